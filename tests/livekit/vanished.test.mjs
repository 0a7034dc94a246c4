// Somebody is lost without a word: LiveKit waits some twenty seconds before it misses one. With a real LiveKit and real browsers.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { enterRoom, heardOf, heardState, meet, part, Venue } from '../support/meeting.mjs';
import { openBrowser } from '../support/room.mjs';

const CHECK_MS = 500;
const GRACE_MS = 3000;
/** How long LiveKit waits for one who has vanished, milliseconds, and how much longer it may take to show. */
const VANISHED_MS = 23_000 + CHECK_MS + 7000;

const stateOf = async (person, call) => (await person.details(call)).call.state;

await openBrowser();
const venue = await Venue.open();
const world = await venue.world({
  LIVEKIT_CHECK_INTERVAL: String(CHECK_MS),
  RECONNECT_GRACE: String(GRACE_MS / 1000),
});

// All at once: they wait. Their pages make sound alone.
describe('somebody is lost', { concurrency: 3 }, () => {
  for (const { comesBack, fate } of [
    { comesBack: true, fate: 'drop' },
    { comesBack: false, fate: 'pass' },
  ]) {
    test(`with media and sockets, and ${comesBack ? 'comes back' : 'does not come back'}`, async (t) => {
      const meeting = await meet(world, { fate });
      const { call, people } = meeting;
      const [a, b] = people;
      await heardState(a, call, 'connected');
      const begun = Date.now();
      b.device.cut();
      await b.guest.vanish();
      const lost = await heardOf(a, b, { connectionState: 'reconnecting' }, { within: VANISHED_MS });
      t.diagnostic(`missed after ${Date.now() - begun} ms`);
      assert.equal(lost.leftAt, null);
      await heardState(a, call, 'reconnecting');
      if (comesBack) {
        b.device = await b.connect();
        assert.equal(b.device.sync.calls[0].call.id, call.id);
        b.ticket = (await b.want('POST', `/${call.id}/token`)).token;
        await enterRoom(b);
        await heardState(a, call, 'connected');
        await a.guest.gets(b.id, { kinds: ['packets'] });
        assert.equal((await b.standing(call)).connectionState, 'connected');
        await part(meeting);
      } else {
        const left = await a.device.until(
          'call:participant_left',
          { userId: b.id },
          { within: GRACE_MS + 2000 },
        );
        assert.equal(left.reason, 'network_error');
        const ended = await a.device.until('call:ended', { callId: call.id });
        assert.deepEqual([ended.state, ended.reason], ['ended', 'network_error']);
        await a.guest.until('disconnected', { reason: 'ROOM_DELETED' });
        await a.guest.close();
      }
    });
  }

  test('with sockets or media alone, and stays in the call', async () => {
    const meeting = await meet(world);
    const { call, people } = meeting;
    const [a, b] = people;
    await heardState(a, call, 'connected');
    const seen = a.device.log.length;
    b.device.cut();
    await pause(GRACE_MS + CHECK_MS);
    assert.deepEqual(
      a.device.log.slice(seen).map((it) => it.event),
      [],
    );
    assert.equal((await b.standing(call)).connectionState, 'connected');
    b.device = await b.connect();
    await b.guest.leave();
    await heardOf(a, b, { connectionState: 'connecting' });
    await heardState(a, call, 'reconnecting');
    await pause(GRACE_MS + CHECK_MS);
    assert.equal((await b.standing(call)).connectionState, 'connecting');
    assert.equal(await stateOf(a, call), 'reconnecting');
    await b.guest.enter(b.ticket.url, b.ticket.token);
    await heardState(a, call, 'connected');
    assert.deepEqual(a.device.all('call:participant_left'), []);
    await part(meeting);
  });
});
