// Whose a call is may be in doubt: Redis has forgotten it, its node was held up and another has taken it, its node is cut off from Redis. Its
// room stays, and those who may be in it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pause } from '../support/chance.mjs';
import { alone } from '../support/cluster.mjs';
import { openHall } from '../support/hall.mjs';
import { guestIn } from '../support/rooms.mjs';
import { eventually } from '../support/world.mjs';

const CHECK_MS = 300;
/** How long a death may go unnoticed and unmended, milliseconds. */
const TAKEN_OVER_MS = 7000;

const skip = alone;
const { livekit, cluster, watch } = skip
  ? {}
  : await openHall({
      env: {
        LIVEKIT_CHECK_INTERVAL: String(CHECK_MS),
        CONNECTION_TIMEOUT: '300',
        RECONNECT_GRACE: '60',
        ALONE_TIMEOUT: '300',
        RINGING_TIMEOUT: '300',
      },
    });

const inside = async ({ roomId }) => (await livekit.api.participants(roomId)).map((it) => it.identity).sort();
const ids = (...people) => people.map((it) => it.id).sort();

async function enter(person, call, token) {
  return guestIn(livekit, call.roomId, person.id, token.token);
}

/** A group of three of whom two are in the call and its room; node `at` has it. */
async function group(at) {
  const [a, b, c] = cluster.people(3).map((it, index) => it.at(at + index));
  const participantIds = [b.id, c.id];
  const { call, token } = await a.want('POST', '/start', { type: 'video', participantIds });
  await watch.keep(call);
  const guests = [await enter(a, call, token), await enter(b, call, (await b.join(call)).token)];
  return { a, b, c, call, guests };
}

async function over(person, node, call) {
  watch.release(call);
  await person.at(node).end(call);
  const isGone = async () => (await livekit.api.rooms([call.roomId])).length === 0;
  await eventually('the room is gone', isGone);
}

test('Redis forgets everything: every call keeps its room', { skip }, async () => {
  const all = [await group(0), await group(1), await group(2)];
  await cluster.flushed();
  await cluster.redis.ask(['FLUSHALL']);
  await pause(5 * CHECK_MS);
  for (const { a, b, call, guests } of all) {
    assert.ok(guests.every((it) => it.isOpen()));
    assert.deepEqual(await inside(call), ids(a, b));
  }
  for (const [index, { a, call }] of all.entries()) await over(a, index, call);
});

test('a node comes back to a Redis that has forgotten its calls', { skip }, async () => {
  const { a, b, call, guests } = await group(0);
  await cluster.kill(0);
  await cluster.redis.ask(['FLUSHALL']);
  await cluster.startAgain(0);
  await eventually('it has its call again', () =>
    a
      .at(0)
      .details(call)
      .catch(() => undefined),
  );
  await pause(3 * CHECK_MS);
  assert.ok(guests.every((it) => it.isOpen()));
  assert.deepEqual(await inside(call), ids(a, b));
  await over(a, 0, call);
});

test('a node was held up, and puts out nobody whom the next owner has let in', { skip }, async () => {
  const { a, b, c, call, guests } = await group(1);
  const before = (await b.details(call)).call;
  cluster.node(1).freeze();
  const isTaken = async () => (await b.details(call).catch(() => undefined))?.call.epoch > before.epoch;
  await eventually('it is taken over', isTaken, { within: TAKEN_OVER_MS, every: 50 });
  const { token } = await c.at(0).join(call);
  guests.push(await enter(c, call, token));
  cluster.node(1).thaw();
  await pause(5 * CHECK_MS);
  assert.ok(guests.every((it) => it.isOpen()));
  assert.deepEqual(await inside(call), ids(a, b, c));
  await over(a, 1, call);
});

test('Redis is away: a call ends, and its room goes', { skip }, async () => {
  const { a, call } = await group(2);
  const other = await group(0);
  await cluster.redis.crash();
  watch.release(call);
  await a.end(call);
  const isGone = async () => (await livekit.api.rooms([call.roomId])).length === 0;
  await eventually('the room is gone', isGone);
  await pause(3 * CHECK_MS);
  assert.ok(other.guests.every((it) => it.isOpen()));
});

test('no room of a live call was ever gone', { skip }, () => {
  assert.deepEqual(watch.faults, []);
  assert.ok(watch.looks > 50, `${watch.looks} looks`);
});
