// Credentials for TURN: made for each user, and made again before they end.
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { test } from 'node:test';
import { seconds } from '../support/tokens.mjs';
import { World } from '../support/world.mjs';

const SHARED = 'what the TURN server knows too';
const TTL = 10;
const TURN = { TURN_SERVER_URL: 'turn:turn.example:3478,turns:turn.example' };
const timed = await World.open({
  ...TURN,
  STUN_SERVER_URL: 'stun:turn.example',
  TURN_SECRET: SHARED,
  TURN_TTL: `${TTL}`,
});
const fixed = await World.open({ ...TURN, TURN_USERNAME: 'supuser', TURN_PASSWORD: 'a password of ours' });

/** The credentials among ICE servers hold for that user: the moment they end, in seconds. */
function check(iceServers, user) {
  const [stun, turn] = iceServers;
  assert.deepEqual(stun, { urls: ['stun:turn.example'] });
  assert.deepEqual(turn.urls, ['turn:turn.example:3478', 'turns:turn.example']);
  const [expiry, name] = turn.username.split(/:(.*)/);
  assert.equal(name, user.id);
  const signed = createHmac('sha1', SHARED).update(turn.username).digest('base64');
  assert.equal(turn.credential, signed);
  const left = Number(expiry) - seconds();
  assert.ok(left > TTL - 3 && left <= TTL, `${left} s`);
  return Number(expiry);
}

test('new ones come to each who is in the call, before the old ones end', async () => {
  const [[a, deviceA], [b, deviceB], [, deviceC]] = await timed.connectedPeople(3);
  const { call, iceServers } = await a.want('POST', '/start', { type: 'video', participantIds: [b.id] });
  const first = check(iceServers, a);
  check((await b.join(call)).iceServers, b);
  check((await a.want('POST', `/${call.id}/token`)).iceServers, a);
  for (const [user, device] of [
    [a, deviceA],
    [b, deviceB],
  ]) {
    const {
      callId,
      seq,
      timestamp,
      iceServers: fresh,
    } = await device.until('call:ice_servers', {}, { within: TTL * 1000 });
    assert.deepEqual([callId, typeof seq], [call.id, 'number']);
    assert.ok(timestamp);
    assert.ok(seconds() < first, 'they came when the first had ended');
    check(fresh, user);
  }
  assert.deepEqual(deviceC.all('call:ice_servers'), []);
  // They are nobody's story: who comes back is told of other things alone.
  const { mode, events } = await deviceA.do('call:resume', { callId: call.id, lastSeq: 0 });
  assert.equal(mode, 'events');
  assert.ok(events.length > 0 && events.every((it) => it.event !== 'call:ice_servers'));
  await a.end(call);
});

test('a fixed pair never ends', async () => {
  const { a, call } = await fixed.callOfTwo({ connect: false });
  const { iceServers } = await a.want('POST', `/${call.id}/token`);
  const urls = ['turn:turn.example:3478', 'turns:turn.example'];
  assert.deepEqual(iceServers, [{ urls, username: 'supuser', credential: 'a password of ours' }]);
  await a.end(call);
});
