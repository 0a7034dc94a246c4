// Each live call has a room at LiveKit, with tokens that let in those who are in the call, and nothing else has one: whatever becomes
// of the call, of the service or of LiveKit.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { LiveKit } from '../support/livekit.mjs';
import { inTime } from '../support/patience.mjs';
import {
  claimsOf,
  door,
  guestIn,
  onlyRoomsOf,
  roomNames,
  roomOf,
  timed,
  unknownCall,
} from '../support/rooms.mjs';
import { seconds } from '../support/tokens.mjs';
import { eventually, World } from '../support/world.mjs';

const CHECK_MS = 300;
const EMPTY_SECONDS = 123;
const PEOPLE_MAX = 5;
const TOKEN_SECONDS = 77;
/** How long after its start a service may take to remove what one that was killed has left. */
const GONE_MS = 10_000;
const TIMES = { RINGING_TIMEOUT: '1', CONNECTION_TIMEOUT: '1', RECONNECT_GRACE: '1' };

const livekit = await LiveKit.start();
const ENV = {
  ...livekit.env,
  LIVEKIT_CHECK_INTERVAL: String(CHECK_MS),
  LIVEKIT_EMPTY_TIMEOUT: String(EMPTY_SECONDS),
  LIVEKIT_TOKEN_TTL: String(TOKEN_SECONDS),
  MAX_CALL_PARTICIPANTS: String(PEOPLE_MAX),
};
const world = await World.open(ENV);
after(() => livekit.stop());

/** What is there before any test and has to be there after all: none of it is this service's. */
const handmade = roomOf(unknownCall());
await livekit.api.createRoom(handmade, { empty_timeout: 300 });
const neighbour = await World.open(ENV);
const neighbourCall = await neighbour.person().start(neighbour.person());
const OTHERS = [handmade, roomOf(neighbourCall)];

const only = (calls, options) => onlyRoomsOf(livekit, calls, { besides: OTHERS, ...options });
const startOf = (caller, others, options = {}) =>
  caller.want('POST', '/start', { type: 'video', participantIds: others.map((it) => it.id), ...options });
const SOURCES = {
  microphone: ['microphone'],
  camera: ['microphone', 'camera'],
  screen: ['microphone', 'screen_share', 'screen_share_audio'],
  all: ['microphone', 'camera', 'screen_share', 'screen_share_audio'],
};

for (const type of ['audio', 'video']) {
  for (const ring of ['all', 'none']) {
    test(`a started ${type} call that rings ${ring} has a room with its limits`, async () => {
      const [a, b] = world.people(2);
      const { call, token } = await startOf(a, [b], { type, ring });
      await only([call]);
      const [room] = await livekit.api.rooms([call.roomId]);
      assert.deepEqual(
        [room.name, room.max_participants, room.empty_timeout, room.departure_timeout],
        [token.roomName, PEOPLE_MAX, EMPTY_SECONDS, EMPTY_SECONDS],
      );
      assert.equal(JSON.parse(room.metadata).callId, call.id);
      await a.end(call);
      await only([]);
    });
  }
}

test('a token says who, where and what may be sent, and nothing beyond', async () => {
  const says = (token, call, person, role, sources) => {
    const { iat, exp, nbf, metadata, ...claims } = claimsOf(token.token);
    assert.equal(iat, undefined);
    const left = exp - seconds();
    assert.ok(left <= TOKEN_SECONDS && left > TOKEN_SECONDS - 4, `${left} s left`);
    assert.ok(nbf <= seconds() && nbf > seconds() - 60);
    assert.deepEqual(JSON.parse(metadata), { userId: person.id, callId: call.id, role });
    assert.deepEqual(claims, {
      iss: livekit.key,
      sub: person.id,
      video: {
        roomJoin: true,
        room: roomOf(call),
        canPublish: true,
        canSubscribe: true,
        canPublishData: false,
        canPublishSources: sources,
      },
    });
    const { token: text, ...told } = token;
    assert.ok(text.length > 0);
    const wanted = { url: livekit.url, roomName: roomOf(call), identity: person.id, media: 'livekit' };
    assert.deepEqual(told, wanted);
  };
  const cases = [
    ['audio', {}, SOURCES.microphone],
    ['audio', { videoEnabled: true }, SOURCES.camera],
    ['audio', { audioEnabled: false }, SOURCES.microphone],
    ['video', {}, SOURCES.all],
    ['video', { videoEnabled: false, audioEnabled: false }, SOURCES.all],
  ];
  for (const [type, settings, sources] of cases) {
    const [a, b] = world.people(2);
    const { call, token } = await startOf(a, [b], { type, ...settings });
    says(token, call, a, 'initiator', sources);
    const joined = await b.join(call, settings);
    says(joined.token, call, b, 'participant', sources);
    says((await b.want('POST', `/${call.id}/token`)).token, call, b, 'participant', sources);
    await a.end(call);
  }
});

test('a token of an audio call follows what its owner has turned on', async () => {
  const [a, b] = world.people(2);
  const { call } = await startOf(a, [b], { type: 'audio' });
  await b.join(call);
  const sources = async (person) => {
    const { token } = await person.want('POST', `/${call.id}/token`);
    return claimsOf(token.token).video.canPublishSources;
  };
  const set = (fields) => b.want('PATCH', `/${call.id}/participant`, fields);
  assert.deepEqual(await sources(b), SOURCES.microphone);
  await set({ videoEnabled: true });
  assert.deepEqual(await sources(b), SOURCES.camera);
  await set({ screenShareEnabled: true });
  assert.deepEqual(await sources(b), SOURCES.all);
  await set({ videoEnabled: false });
  assert.deepEqual(await sources(b), SOURCES.screen);
  await set({ screenShareEnabled: false });
  assert.deepEqual(await sources(b), SOURCES.microphone);
  assert.deepEqual(await sources(a), SOURCES.microphone, 'the other has turned on nothing');
  await a.end(call);
});

test('tokens let in those who have joined, and nobody after the end', async () => {
  const [a, b, c, outsider] = world.people(4);
  const [deviceA] = [await a.connect()];
  const { call, token } = await startOf(a, [b, c]);
  const refresh = `/${call.id}/token`;
  await b.refused(409, 'not_joined', 'POST', refresh);
  await outsider.refused(403, 'forbidden', 'POST', refresh);
  await a.refused(404, 'not_found', 'POST', `/${unknownCall()}/token`);
  const joined = await b.join(call);
  await c.join(call);
  const anew = await b.want('POST', refresh);
  const tokens = [token, joined.token, anew.token].map((it) => it.token);
  for (const it of tokens) assert.equal(await door(livekit, it), 200);
  await b.end(call);
  await b.refused(409, 'not_joined', 'POST', refresh);
  await deviceA.do('call:remove_participant', { callId: call.id, userId: c.id });
  const { status, body } = await c.rest('POST', refresh);
  assert.deepEqual([status, body.code], [403, 'removed']);
  await a.end(call);
  await only([]);
  await a.refused(410, 'call_over', 'POST', refresh);
  for (const it of tokens) assert.equal(await door(livekit, it), 404);
});

test('a start that comes to nothing leaves no room', async () => {
  const [a, b, c, d] = world.people(4);
  const { call } = await startOf(a, [b]);
  await b.join(call);
  await d.refused(409, 'busy', 'POST', '/start', { type: 'audio', participantIds: [b.id] });
  await a.refused(409, 'already_in_call', 'POST', '/start', { type: 'audio', participantIds: [c.id] });
  await c.refused(400, 'invalid_request', 'POST', '/start', { type: 'audio', participantIds: [c.id] });
  await c.refused(400, 'invalid_request', 'POST', '/start', { type: 'tea', participantIds: [d.id] });
  const history = await d.want('GET', '/history');
  assert.equal(history.calls[0].state, 'busy');
  await d.refused(410, 'call_over', 'POST', `/${history.calls[0].id}/token`);
  // A group with one who is not busy rings, and so has a room.
  const group = (await startOf(d, [b, c])).call;
  await only([call, group]);
  await a.end(call);
  await d.end(group);
  await only([]);
});

test('of starts at the same moment those that fail leave no room', async () => {
  const [a, b, c, d] = world.people(4);
  const ask = (caller, other, key) =>
    caller.rest(
      'POST',
      '/start',
      { type: 'audio', participantIds: [other.id] },
      key ? { 'idempotency-key': key } : {},
    );
  const [one, two] = await Promise.all([ask(a, b), ask(a, c)]);
  assert.deepEqual([one.status, two.status].sort(), [201, 409]);
  const won = [one, two].find((it) => it.status === 201).body.data.call;
  await only([won]);
  await a.end(won);
  await only([]);

  const both = await Promise.all([ask(a, b), ask(b, a)]);
  assert.deepEqual(both.map((it) => it.status).sort(), [200, 201]);
  const [glare, same] = both.map((it) => it.body.data);
  assert.equal(glare.call.id, same.call.id);
  for (const { token } of [glare, same]) assert.equal(await door(livekit, token.token), 200);
  await only([glare.call]);
  await a.end(glare.call);

  const again = await Promise.all([ask(c, d, 'key'), ask(c, d, 'key'), ask(c, d, 'key')]);
  assert.deepEqual(again.map((it) => it.status).sort(), [200, 200, 201]);
  const rooms = new Set(again.map((it) => it.body.data.token.roomName));
  assert.equal(rooms.size, 1);
  await only([again[0].body.data.call]);
  const later = await ask(c, d, 'key');
  assert.deepEqual([later.status, later.body.data.token.roomName], [200, [...rooms][0]]);
  assert.equal(await door(livekit, later.body.data.token.token), 200);
  await c.end(later.body.data.call);
  await only([]);
});

test('who calls too often makes no room', async () => {
  const strict = await World.open({ ...ENV, RATE_LIMITS: 'on', RATE_LIMIT_START: '1/1min:1' });
  const [a, b] = strict.people(2);
  const { call } = await startOf(a, [b]);
  await a.end(call);
  await only([]);
  const { status } = await a.rest('POST', '/start', { type: 'audio', participantIds: [b.id] });
  assert.equal(status, 429);
  await only([]);
  await strict.close();
});

test('a room goes with its call, however that ends, at once', async () => {
  const brief = await World.open({ ...ENV, ...TIMES });
  const ways = {
    ended: async (a, b, call) => {
      await b.join(call);
      await a.end(call);
    },
    cancelled: (a, b, call) => a.end(call),
    declined: (a, b, call) => b.end(call),
    missed: () => {},
    failed: (a, b, call) => b.join(call),
  };
  for (const [state, way] of Object.entries(ways)) {
    const [a, b] = brief.people(2);
    const { call } = await startOf(a, [b]);
    assert.ok((await roomNames(livekit)).includes(call.roomId));
    await way(a, b, call);
    const isOver = async () => (await a.details(call)).call.state === state;
    await eventually(`the call is ${state}`, isOver, { within: 4000 });
    await only([], { within: 2000 });
  }
  // One who left a group may come back: the room stays for those who are in it.
  const [a, b, c] = brief.people(3);
  const { call } = await startOf(a, [b, c]);
  await b.join(call);
  await c.end(call);
  await only([call]);
  await a.end(call);
  await only([], { within: 2000 });
  await brief.close();
});

test('a caller who is lost while it rings leaves no room', async () => {
  const brief = await World.open({ ...ENV, RECONNECT_GRACE: '1' });
  const [a, b] = brief.people(2);
  const device = await a.connect();
  const { call } = await startOf(a, [b]);
  device.cut();
  const isOver = async () => (await b.details(call)).call.endReason === 'network_error';
  await eventually('the call is cancelled', isOver);
  await only([], { within: 2000 });
  await brief.close();
});

test('whoever leaves the call or is removed from it is put out of the room, and stays out', async () => {
  const [a, b, c] = world.people(3);
  const device = await a.connect();
  const { call, token } = await startOf(a, [b, c]);
  const tokens = new Map([[a, token.token]]);
  for (const it of [b, c]) tokens.set(it, (await it.join(call)).token.token);
  const enter = (person) => guestIn(livekit, call.roomId, person.id, tokens.get(person));
  const [stays, leaves, removed] = [await enter(a), await enter(b), await enter(c)];
  const out = (what, it) => eventually(`${what} is out`, () => !it.isOpen());
  await b.end(call);
  await out('one who left', leaves);
  await device.do('call:remove_participant', { callId: call.id, userId: c.id });
  await out('one who was removed', removed);
  // LiveKit lets in whoever has a token that still holds.
  await out('one who comes back', await enter(c));
  assert.ok(await stays.isIn());
  await b.join(call);
  const back = await enter(b);
  await pause(5 * CHECK_MS);
  assert.ok((await back.isIn()) && (await stays.isIn()), 'one who may be there was put out');
  await a.end(call);
  await Promise.all([stays.closed, back.closed]);
  await only([]);
});

test('in an audio call what somebody in the room may send follows the call', async () => {
  const [a, b] = world.people(2);
  const { call } = await startOf(a, [b], { type: 'audio' });
  const { token } = await b.join(call);
  const guest = await guestIn(livekit, call.roomId, b.id, token.token);
  const may = async () => (await guest.info()).permission.can_publish_sources.map((it) => it.toLowerCase());
  const sends = async (sources) => {
    const same = async () => (await may()).sort().join() === [...sources].sort().join();
    await eventually(`${sources} may be sent`, same, { within: 5000 });
    const { permission } = await guest.info();
    assert.deepEqual(
      [permission.can_publish, permission.can_subscribe, permission.can_publish_data, permission.hidden],
      [true, true, false, false],
    );
  };
  const set = (fields) => b.want('PATCH', `/${call.id}/participant`, fields);
  await sends(SOURCES.microphone);
  await set({ videoEnabled: true });
  await sends(SOURCES.camera);
  await set({ screenShareEnabled: true });
  await sends(SOURCES.all);
  await set({ videoEnabled: false, screenShareEnabled: false });
  await sends(SOURCES.microphone);
  guest.leave();
  await a.end(call);
});

test('comparing all rooms all the time does no harm to those that are being made', async () => {
  const eager = await World.open({ ...ENV, LIVEKIT_CHECK_INTERVAL: '100' });
  const calls = [];
  const one = async () => {
    for (let times = 0; times < 12; times += 1) {
      const [a, b] = eager.people(2);
      const { call } = await startOf(a, [b], { type: 'audio' });
      const [room] = await livekit.api.rooms([call.roomId]);
      assert.ok(room, 'a started call has no room');
      calls.push({ a, call, sid: room.sid });
    }
  };
  await Promise.all(Array.from({ length: 8 }, one));
  await pause(500);
  const rooms = new Map((await livekit.api.rooms()).map((it) => [it.name, it.sid]));
  for (const { call, sid } of calls) assert.equal(rooms.get(call.roomId), sid, 'its room was made anew');
  await Promise.all(calls.map(({ a, call }) => a.end(call)));
  await only([]);
  await eager.close();
});

test('a room that is deleted by hand is made again while its call lives', async () => {
  const { a, call } = await world.callOfTwo({ connect: false });
  const [before] = await livekit.api.rooms([call.roomId]);
  await livekit.api.deleteRoom(call.roomId);
  const made = async () => (await livekit.api.rooms([call.roomId]))[0];
  const room = await eventually('the room is there again', made, { within: 5000 });
  assert.notEqual(room.sid, before.sid);
  assert.deepEqual(
    [room.max_participants, room.empty_timeout, room.metadata],
    [before.max_participants, before.empty_timeout, before.metadata],
  );
  const { token } = await a.want('POST', `/${call.id}/token`);
  assert.equal(await door(livekit, token.token), 200);
  await a.end(call);
  await only([]);
});

test('a room whose call ended while LiveKit hung goes when it is back', async () => {
  const { a, call } = await world.callOfTwo({ connect: false });
  const other = await world.callOfTwo({ connect: false });
  await livekit.hold();
  const [took] = await timed(a.end(call));
  inTime(took, 500, 'the end');
  await pause(2500);
  livekit.thaw();
  await only([other.call], { within: 8000 });
  await other.a.end(other.call);
  await only([]);
});

/** Does things at random in so many calls, one after the other or at once; gives those that live. */
async function live(people, count) {
  const calls = new Set();
  const random = (count) => Math.floor(Math.random() * count);
  const alive = [];
  while (calls.size < count) {
    const free = people.filter((it) => !it.call);
    if (free.length >= 2 && (alive.length === 0 || Math.random() < 0.5)) {
      const [caller, ...others] = free.sort(() => Math.random() - 0.5);
      const invited = others.slice(0, 1 + random(3));
      const { call } = await startOf(caller, invited);
      calls.add(call.id);
      const one = { call, caller, invited };
      for (const it of [caller, ...invited]) it.call = call;
      alive.push(one);
      continue;
    }
    const one = alive[random(alive.length)];
    const who = [one.caller, ...one.invited][random(1 + one.invited.length)];
    await who.rest('POST', `/${one.call.id}/${Math.random() < 0.5 ? 'join' : 'end'}`);
    if ((await one.caller.details(one.call)).call.endedAt) {
      alive.splice(alive.indexOf(one), 1);
      for (const it of [one.caller, ...one.invited]) it.call = undefined;
    }
  }
  return { calls: [...calls], alive };
}

test('after many calls of any kind no room is without a live call, nor a live call without a room', async () => {
  const all = await Promise.all(Array.from({ length: 3 }, () => live(world.people(8), 12)));
  const alive = all.flatMap((it) => it.alive);
  assert.ok(all.flatMap((it) => it.calls).length === 36);
  await only(alive.map((it) => it.call));
  const { body: metrics } = await world.http('/monitoring/metrics');
  assert.equal(metrics.calls.active, alive.length);
  const known = async () => {
    const { body } = await world.http('/monitoring/metrics');
    return body.livekit.activeRooms === alive.length;
  };
  await eventually('the service counts its rooms', known);
  await Promise.all(alive.map(({ caller, call }) => caller.end(call)));
  await only([]);
});

test('a service that is killed leaves no room that it does not know, and touches none of others', async (context) => {
  const dataDir = mkdtempSync(join(tmpdir(), 'call-service-'));
  after(() => rmSync(dataDir, { recursive: true, force: true }));
  let killed = await World.start(ENV, { dataDir });
  const people = [];
  const kept = [];
  let answered = 0;
  for (let kill = 0; kill < 12; kill += 1) {
    const [a, b] = killed.people(2);
    const { call } = await startOf(a, [b]);
    const [{ name, sid }] = await livekit.api.rooms([call.roomId]);
    const callers = killed.people(6);
    const starts = callers.map((it) =>
      it.rest('POST', '/start', { type: 'audio', participantIds: [killed.person().id] }).then(
        () => (answered += 1),
        () => undefined,
      ),
    );
    // By turns right after an end was answered, and while rooms are made for starts.
    const ends = kill % 2 === 0;
    if (ends) await a.end(call);
    else await pause(Math.random() * 12);
    await Promise.all([killed.abandon(), ...starts]);
    people.push(a, b, ...callers);
    killed = await World.start(ENV, { dataDir });
    for (const it of people) it.world = killed;
    assert.equal((await a.details(call)).call.state, ends ? 'cancelled' : 'ringing');
    if (!ends) kept.push({ name, sid });
  }
  assert.ok(answered < 72, 'no start was cut off');
  const begun = Date.now();
  const active = await Promise.all(people.map((it) => it.want('GET', '/active')));
  const alive = [...new Set(active.flatMap((it) => it.calls.map((call) => call.id)))];
  const stray = (await roomNames(livekit, OTHERS)).length - alive.length;
  await only(alive, { within: GONE_MS });
  const rooms = new Map((await livekit.api.rooms()).map((it) => [it.name, it.sid]));
  for (const { name, sid } of kept)
    assert.equal(rooms.get(name), sid, 'the room of a live call was made anew');
  context.diagnostic(
    `72 starts, ${answered} answered, ${alive.length} live; ${stray} rooms too many went in ${Date.now() - begun} ms`,
  );
  await Promise.all(people.map((it) => it.want('GET', '/active'))).then((all) =>
    Promise.all(
      all.flatMap(({ calls }, index) =>
        calls.filter((it) => it.initiatorId === people[index].id).map((it) => people[index].end(it)),
      ),
    ),
  );
  await only([]);
  await killed.close();
  const names = await roomNames(livekit);
  for (const name of OTHERS) assert.ok(names.includes(name), 'a room of others is gone');
});

test('after a crash of LiveKit every live call has its room again, and goes on', async () => {
  const calls = await Promise.all(Array.from({ length: 10 }, () => world.callOfTwo({ connect: false })));
  const [[d], [e, deviceE]] = await world.connectedPeople(2);
  const ringing = await d.start(e);
  await livekit.crash();
  const [ended] = calls.splice(0, 1);
  await ended.a.end(ended.call);
  await livekit.begin();
  const alive = [...calls.map((it) => it.call), ringing];
  const neighbours = { besides: [roomOf(neighbourCall)] };
  await only(alive, { ...neighbours, within: 8000 });
  for (const { a, call } of calls) {
    assert.equal((await a.details(call)).call.endedAt, null);
    const { token } = await a.want('POST', `/${call.id}/token`);
    assert.equal(await door(livekit, token.token), 200);
  }
  await deviceE.do('call:accept', { callId: ringing.id });
  await Promise.all([...calls.map(({ a, call }) => a.end(call)), d.end(ringing)]);
  await only([], neighbours);
});
