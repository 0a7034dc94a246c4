// A room, LiveKit or the service is lost during a call and comes back, or hangs for a while: with a real LiveKit and real browsers.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { enterRoom, heardState, meet, part, Venue } from '../support/meeting.mjs';
import { inTime } from '../support/patience.mjs';
import { openBrowser } from '../support/room.mjs';
import { eventually } from '../support/world.mjs';

const CHECK_MS = 500;
const GRACE_MS = 3000;
/** How long clients may take to come back by themselves, milliseconds. */
const BACK_MS = 25_000;

const stateOf = async (person, call) => (await person.details(call)).call.state;

await openBrowser();
const venue = await Venue.open(3);
const ENV = { LIVEKIT_CHECK_INTERVAL: String(CHECK_MS), RECONNECT_GRACE: String(GRACE_MS / 1000) };
const world = await venue.world(ENV);
const hasty = await venue.world({ ...ENV, CONNECTION_TIMEOUT: '2' });
const dataDir = mkdtempSync(join(tmpdir(), 'call-outages-'));
const mortal = await venue.world(ENV, { dataDir });
after(() => rmSync(dataDir, { recursive: true, force: true }));

test('LiveKit is killed and started again during a call', async (t) => {
  const meeting = await meet(world);
  const { call, people } = meeting;
  const [a, b] = people;
  await heardState(a, call, 'connected');
  const killed = Date.now();
  await venue.livekit.crash();
  await pause(1500);
  assert.equal(await stateOf(a, call), 'connected');
  await venue.livekit.restart();
  await eventually('the room is made again', () => venue.room(call), { within: 10_000 });
  t.diagnostic(`the room is there again ${Date.now() - killed} ms after the kill`);
  for (const it of people) {
    const how = await Promise.race([
      it.guest.until('reconnected', {}, { after: killed, within: BACK_MS }),
      it.guest.until('disconnected', {}, { after: killed, within: BACK_MS }),
    ]);
    t.diagnostic(`${it.id}: ${how.event} ${how.reason ?? ''} after ${how.at - killed} ms`);
    if (how.event === 'reconnected') continue;
    it.ticket = (await it.want('POST', `/${call.id}/token`)).token;
    await it.guest.enter(it.ticket.url, it.ticket.token);
    await it.guest.publish('microphone');
  }
  await Promise.all([a.guest.gets(b.id, { kinds: ['packets'] }), b.guest.gets(a.id, { kinds: ['packets'] })]);
  await eventually('the call is connected', async () => (await stateOf(a, call)) === 'connected');
  t.diagnostic(`connected again ${Date.now() - killed} ms after the kill`);
  const { participants } = await a.details(call);
  assert.deepEqual(
    participants.map((it) => it.connectionState),
    ['connected', 'connected'],
  );
  for (const { device } of people) assert.deepEqual(device.all('call:ended'), []);
  await part(meeting);
});

test('LiveKit hangs for a while, and nothing happens to the call', async () => {
  const meeting = await meet(world);
  const { call, people } = meeting;
  const [a, b] = people;
  await heardState(a, call, 'connected');
  await a.device.settled();
  const seen = a.device.log.length;
  await venue.livekit.hold();
  try {
    // Longer than it takes to give LiveKit up for a while, and shorter than browsers take to give up their line to it.
    await pause(4000);
    assert.equal(await stateOf(a, call), 'connected');
  } finally {
    venue.livekit.thaw();
  }
  await a.guest.gets(b.id, { kinds: ['packets'] });
  await pause(2 * CHECK_MS);
  await a.device.settled();
  assert.deepEqual(
    a.device.log.slice(seen).map((it) => it.event),
    [],
  );
  assert.equal(await stateOf(b, call), 'connected');
  await part(meeting);
});

test('somebody is removed, and a call ended, while LiveKit hangs', async (t) => {
  const removal = await meet(world, { count: 3, present: 2 });
  const end = await meet(world, { present: 0 });
  const [a, b] = removal.people;
  await heardState(a, removal.call, 'connected');
  await venue.livekit.hold();
  const begun = Date.now();
  try {
    await a.device.do('call:remove_participant', { callId: removal.call.id, userId: b.id });
    await end.people[0].end(end.call);
    t.diagnostic(`both done within ${Date.now() - begun} ms`);
    inTime(Date.now() - begun, 1000, 'both');
    // Long enough that it is given up to ask for a while.
    await pause(3000);
  } finally {
    venue.livekit.thaw();
  }
  const back = Date.now();
  const { at } = await b.guest.until('disconnected', { reason: 'PARTICIPANT_REMOVED' });
  await eventually('the room is gone', async () => !(await venue.room(end.call)), { within: 15_000 });
  t.diagnostic(`put out ${at - back} ms, the room gone ${Date.now() - back} ms after LiveKit went on`);
  assert.equal(await stateOf(a, removal.call), 'reconnecting');
  await part(removal);
});

test('somebody else closes the room, and all come back', async () => {
  const meeting = await meet(world);
  const { call, people } = meeting;
  const [a, b] = people;
  await heardState(a, call, 'connected');
  const { sid } = await venue.room(call);
  await venue.livekit.api.deleteRoom(call.roomId);
  for (const it of people) await it.guest.until('disconnected', { reason: 'ROOM_DELETED' });
  await heardState(a, call, 'reconnecting');
  await eventually('there is a room again', async () => ((await venue.room(call))?.sid ?? sid) !== sid);
  for (const it of people) await enterRoom(it);
  await heardState(a, call, 'connected');
  await a.guest.gets(b.id, { kinds: ['packets'] });
  await part(meeting);
});

test('nobody comes into the room', async (t) => {
  const { call, people } = await meet(hasty, { present: 0 });
  const [a, b] = people;
  const begun = Date.now();
  const ended = await a.device.until('call:ended', { callId: call.id });
  t.diagnostic(`given up after ${Date.now() - begun} ms`);
  assert.deepEqual([ended.state, ended.reason], ['failed', 'timeout']);
  await b.refused(410, 'call_over', 'POST', `/${call.id}/token`);
  await eventually('the room is gone', async () => !(await venue.room(call)));
});

test('nobody can say whether somebody is in the room, and it is asked on', async (t) => {
  const { call, people } = await meet(hasty, { present: 0 });
  const [a] = people;
  await venue.livekit.hold();
  try {
    await pause(5000);
    assert.equal(await stateOf(a, call), 'connecting');
    assert.deepEqual(a.device.all('call:ended'), []);
  } finally {
    venue.livekit.thaw();
  }
  const back = Date.now();
  const ended = await a.device.until('call:ended', { callId: call.id }, { within: 10_000 });
  t.diagnostic(`given up ${Date.now() - back} ms after it could be asked`);
  assert.deepEqual([ended.state, ended.reason], ['failed', 'timeout']);
});

test('the service is killed and started again during a call', async (t) => {
  const meeting = await meet(mortal);
  const { call, people } = meeting;
  const [a, b] = people;
  await heardState(a, call, 'connected');
  await mortal.service.crash();
  await a.guest.gets(b.id, { kinds: ['packets'] });
  await mortal.restart();
  assert.equal(await stateOf(a, call), 'connected');
  const begun = Date.now();
  for (const it of people) {
    it.device = await it.connect();
    const [known] = it.device.sync.calls;
    assert.deepEqual([known.call.id, known.call.state], [call.id, 'connected']);
  }
  // Nothing was lost, so nothing is told in the time that one who was lost would have.
  await pause(GRACE_MS + CHECK_MS);
  t.diagnostic(`quiet for ${Date.now() - begun} ms after the start`);
  for (const it of people) {
    assert.deepEqual(
      it.device.heard().filter((event) => event !== 'call:sync'),
      [],
    );
  }
  await Promise.all([a.guest.gets(b.id, { kinds: ['packets'] }), b.guest.gets(a.id, { kinds: ['packets'] })]);
  const { participants } = await a.details(call);
  assert.deepEqual(
    participants.map((it) => it.connectionState),
    ['connected', 'connected'],
  );
  // What happens now is heard by the one that was started.
  await b.guest.leave();
  await heardState(a, call, 'reconnecting');
  await part(meeting);
});
