// Rooms where there are many nodes over one LiveKit: whichever node is asked, or told by a webhook, each live call has its room for as long
// as it lives, by whatever nodes it goes; the node that has the call alone looks after it, and no room stays behind.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pause } from '../support/chance.mjs';
import { alone } from '../support/cluster.mjs';
import { openHall } from '../support/hall.mjs';
import { enterRoom, heardState } from '../support/meeting.mjs';
import { inTime } from '../support/patience.mjs';
import { openBrowser } from '../support/room.mjs';
import { door, guestIn, roomOf } from '../support/rooms.mjs';
import { eventually, World } from '../support/world.mjs';

/** How often rooms are compared, and how long what only that shows may take, milliseconds. */
const CHECK_MS = 500;
const SEEN_MS = CHECK_MS + 2000;
/** How long what a webhook tells may take to show, milliseconds: as on one node. */
const TOLD_MS = 2500;
/** How long one who must not be in a room may be there, and a room without a call, milliseconds. */
const OUT_MS = 2000;
/** How long a death may go unnoticed and unmended, milliseconds. */
const TAKEN_OVER_MS = 7000;
/** The same for the room of a start that died with its node. */
const STRAY_MS = 9000;
/** The same for the room of a start that was refused: LiveKit may carry out late what it did not answer. */
const UNUSED_MS = 7000;

const hall = alone
  ? {}
  : await openHall({
      env: {
        LIVEKIT_CHECK_INTERVAL: String(CHECK_MS),
        CONNECTION_TIMEOUT: '300',
        RECONNECT_GRACE: '30',
        ALONE_TIMEOUT: '300',
      },
    });
const { livekit, gate, relay, cluster, watch } = hall;
if (!alone) await openBrowser();
// Another service on the same LiveKit: its rooms are none of the nodes' business.
const neighbour = alone ? undefined : await World.open({ ...gate.env, LIVEKIT_CHECK_INTERVAL: '500' });
const skip = alone;

const hear = (person, call, state, options) => heardState(person, call, state, options);

/** People at these nodes in one call, which the first of the nodes has: `{call, people}`, each with `device` and `ticket`. */
async function meet(...nodes) {
  const people = (await cluster.connectedAt(...nodes)).map(([person, device]) =>
    Object.assign(person, { device }),
  );
  const [host, ...others] = people;
  const body = { type: 'video', participantIds: others.map((it) => it.id) };
  const { call, token } = await host.want('POST', '/start', body);
  const room = await watch.keep(call);
  host.ticket = token;
  for (const it of others) it.ticket = (await it.join(call)).token;
  for (const { ticket } of people) {
    assert.equal(ticket.roomName, call.roomId);
    assert.equal(await door(livekit, ticket.token), 200);
  }
  return { call, people, room };
}

/** Starts a node again, and waits until it takes part. */
async function backAgain(index) {
  await cluster.startAgain(index);
  const isReady = async () => (await cluster.node(index).http('/ready')).body.checks.bus === 'ok';
  await eventually('it takes part', isReady);
}

const roomGone = (call, options) =>
  eventually('the room is gone', async () => (await livekit.api.rooms([call.roomId])).length === 0, options);
const inside = async ({ roomId }) => (await livekit.api.participants(roomId)).map((it) => it.identity).sort();
const ids = (...people) => people.map((it) => it.id).sort();

/** Ends it at that node, after which the room goes: how long that took, milliseconds. */
async function end(person, node, call) {
  watch.release(call);
  const begun = Date.now();
  await person.at(node).end(call);
  await roomGone(call, { within: OUT_MS });
  return Date.now() - begun;
}

/** That it has another owner than in that epoch, and lives. */
const takenOver = (person, { id, epoch }) =>
  eventually(
    'it is taken over',
    async () => {
      const now = await person.details(id).catch(() => undefined);
      return now?.call.epoch > epoch && now.call.endedAt === null;
    },
    { within: TAKEN_OVER_MS, every: 50 },
  );

test('three at three nodes are in one room, and its node dies: nobody notices', { skip }, async (t) => {
  const { call, people } = await meet(0, 1, 2);
  const [a, b, c] = people;
  await enterRoom(a, []);
  await enterRoom(b);
  const there = Math.max(
    ...(await Promise.all([a, b].map((it) => it.guest.until('connected')))).map((it) => it.at),
  );
  const heard = await Promise.all(people.map((it) => hear(it, call, 'connected')));
  const took = Math.max(...heard) - there;
  t.diagnostic(`connected at all nodes ${took} ms after both were, told to another node`);
  inTime(took, TOLD_MS);
  await enterRoom(c, ['microphone', 'camera']);
  await b.guest.gets(c.id);

  // The mute is lost with the node that has promised it.
  gate.rules.MutePublishedTrack = () => {
    throw new Error('lost');
  };
  await a.device.do('call:mute_participant', { callId: call.id, userId: b.id });
  await eventually('LiveKit is asked to mute', () => gate.times('MutePublishedTrack') > 0);
  assert.equal(await b.guest.isMuted('microphone'), false);
  const before = (await a.details(call)).call;
  const since = Date.now();
  await cluster.kill(0);
  delete gate.rules.MutePublishedTrack;
  const muted = b.guest.until('muted', { identity: b.id, source: 'microphone' });
  await takenOver(b, before);
  const taken = Date.now() - since;
  const { at } = await muted;
  t.diagnostic(`taken over ${taken} ms after the kill, and muted ${at - since} ms after it`);
  await Promise.all([b.guest.gets(c.id), a.guest.gets(c.id)]);
  for (const it of people) {
    const events = await it.guest.events();
    assert.deepEqual(
      events.filter((event) => event.event === 'disconnected' || event.event === 'reconnecting'),
      [],
    );
  }
  await a.device.synced({ since });
  await pause(2 * CHECK_MS);
  assert.equal(await b.guest.isMuted('microphone'), true, 'it stays muted');
  assert.deepEqual(await inside(call), ids(a, b, c));
  const { participants, call: now } = await c.details(call);
  assert.equal(now.state, 'connected');
  assert.equal(participants.find((it) => it.userId === b.id).audioEnabled, false);

  const begun = Date.now();
  await a.device.do('call:remove_participant', { callId: call.id, userId: c.id });
  const out = await c.guest.until('disconnected', { reason: 'PARTICIPANT_REMOVED' });
  t.diagnostic(`put out ${out.at - begun} ms after the removal at another node`);
  inTime(out.at - begun, OUT_MS);
  assert.deepEqual(await inside(call), ids(a, b));
  const gone = await end(a, 2, call);
  t.diagnostic(`the room was gone ${gone} ms after the end`);
  await Promise.all(people.map((it) => it.guest.close().catch(() => undefined)));
  await backAgain(0);
});

test('where no webhook comes, the comparison connects the call, at whichever node', { skip }, async (t) => {
  relay.rule = () => 'drop';
  const { call, people } = await meet(0, 2);
  const [a, b] = people;
  for (const it of people) await enterRoom(it, []);
  const there = (await b.guest.until('connected')).at;
  const heard = await Promise.all(people.map((it) => hear(it, call, 'connected', { within: 3 * SEEN_MS })));
  const took = Math.max(...heard) - there;
  t.diagnostic(`connected ${took} ms after both were`);
  inTime(took, SEEN_MS);
  relay.rule = () => 'pass';
  await end(b, 1, call);
  await Promise.all([a, b].map((it) => it.guest.close().catch(() => undefined)));
});

test('a node that goes hands over its calls with their rooms', { skip }, async () => {
  const { call, people } = await meet(1, 2);
  const [a, b] = people;
  const guests = await Promise.all(people.map((it) => guestIn(livekit, call.roomId, it.id, it.ticket.token)));
  const before = (await b.details(call)).call;
  await cluster.stop(1);
  const { call: now } = await b.details(call);
  assert.ok(now.epoch > before.epoch && now.endedAt === null);
  await pause(2 * CHECK_MS);
  assert.ok(guests.every((it) => it.isOpen()));
  assert.deepEqual(await inside(call), ids(a, b));
  // One who leaves is put out by the new owner, whoever is asked.
  await b.at(0).end(call);
  await eventually('the call is over', async () => (await a.at(0).details(call)).call.endedAt !== null);
  watch.release(call);
  await roomGone(call, { within: OUT_MS });
  await backAgain(1);
});

test('the room of a start that died with its node goes, by one node', { skip }, async (t) => {
  const [a, b] = [cluster.person('a', { at: 0 }), cluster.person('b', { at: 1 })];
  const before = new Set((await livekit.api.rooms()).map((it) => it.name));
  let made;
  const isMade = new Promise((resolve) => (made = resolve));
  gate.rules.CreateRoom = async (pass) => {
    await pass();
    made();
    // The answer never gets there.
    await new Promise(() => {});
  };
  const start = a.start(b).catch(() => undefined);
  await isMade;
  const [room] = (await livekit.api.rooms()).filter((it) => !before.has(it.name));
  assert.ok(room);
  const deletions = gate.times('DeleteRoom');
  const since = Date.now();
  await cluster.kill(0);
  delete gate.rules.CreateRoom;
  await start;
  await roomGone({ roomId: room.name }, { within: STRAY_MS });
  t.diagnostic(`gone ${Date.now() - since} ms after the kill`);
  await pause(2 * CHECK_MS);
  assert.equal(gate.times('DeleteRoom') - deletions, 1);
  await backAgain(0);
});

test('a start that comes to nothing leaves no room', { skip }, async () => {
  const [a, b] = cluster.people(2);
  const before = (await livekit.api.rooms()).length;
  gate.rules.CreateRoom = async (pass) => {
    await pass();
    return { status: 503, headers: {}, body: '' };
  };
  await a.at(2).refused(503, 'media_unavailable', 'POST', '/start', {
    type: 'audio',
    participantIds: [b.id],
  });
  delete gate.rules.CreateRoom;
  assert.equal((await livekit.api.rooms()).length, before + 1);
  const gone = async () => (await livekit.api.rooms()).length === before;
  await eventually('its room is gone', gone, { within: UNUSED_MS });
  await a.at(1).end(await a.at(1).start(b));
});

test('no room of a live call was ever gone, and none of others was touched', { skip }, async () => {
  const other = await neighbour.person().start(neighbour.person());
  const { call, people } = await meet(2, 0);
  await pause(3 * CHECK_MS);
  assert.equal((await livekit.api.rooms([roomOf(other)])).length, 1);
  await end(people[1], 1, call);
  await cluster.idle();
  const left = (await livekit.api.rooms()).map((it) => it.name);
  assert.deepEqual(left, [roomOf(other)]);
  assert.deepEqual(watch.faults, []);
  assert.ok(watch.looks > 100, `${watch.looks} looks`);
  assert.deepEqual(cluster.faults, []);
});
