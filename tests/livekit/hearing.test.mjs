// What the service makes of LiveKit's webhooks: only true ones count, once, in whatever order they come, and for calls of its own. The
// webhooks are made here and nobody is really in the rooms, so the rooms are not compared with the calls meanwhile.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { LiveKit } from '../support/livekit.mjs';
import { guestIn, roomNames, roomOf, unknownCall } from '../support/rooms.mjs';
import { seconds } from '../support/tokens.mjs';
import { send, signed, webhookUrl, webhooks } from '../support/webhooks.mjs';
import { eventually, http, World } from '../support/world.mjs';

const WEBHOOK_BYTES_MAX = 256 * 1024;
/** How many orders of the same webhooks are tried. */
const ORDERS = 25;
/** What would be done about a webhook is done by then, milliseconds. */
const DONE_MS = 700;

const livekit = await LiveKit.start();
const ENV = { ...livekit.env, LIVEKIT_CHECK_INTERVAL: '30000' };
const world = await World.open(ENV);
const neighbour = await World.open(ENV);
after(() => livekit.stop());

const {
  participantJoined: joined,
  participantLeft: left,
  trackPublished: published,
  trackUnpublished: unpublished,
  roomStarted,
  roomFinished,
} = webhooks;

/** Sends some, each of which the service has to take. */
async function tell(...all) {
  for (const it of all) assert.deepEqual(await send(world.service, it).then((answer) => answer.status), 200);
}

const minutesAgo = (minutes) => ({ createdAt: String(seconds() - minutes * 60) });
/** One stay of somebody, which began so many seconds ago. */
const stay = (person, number, secondsAgo = 0) => ({
  identity: person.id,
  sid: `PA_${person.id}-${number}`,
  joinedAt: String(seconds() - secondsAgo),
  joinedAtMs: String(Date.now() - secondsAgo * 1000),
});

/** A call of two whose media is up. */
async function connectedCall(options) {
  const it = await world.callOfTwo(options);
  const room = it.call.roomId;
  await tell(joined(room, stay(it.a, 1, 20)), joined(room, stay(it.b, 1, 20)));
  const { call, participants } = await it.a.details(it.call);
  assert.deepEqual(
    [call.state, participants.map((one) => one.connectionState)],
    ['connected', ['connected', 'connected']],
  );
  return { ...it, room };
}

const timeless = ({ duration, ...it }) => it;
/** A call as it is but for the seconds that go by. */
async function standing(person, call) {
  const { call: now, participants } = await person.details(call);
  return { call: timeless(now), participants: participants.map(timeless) };
}
/** The same of one participant. */
const own = async (person, call) => timeless(await person.standing(call));

/** Nothing of a call changes while `work` is done, nor shortly after. */
async function unchanged(person, call, work) {
  const before = await standing(person, call);
  await work();
  await pause(DONE_MS);
  assert.deepEqual(await standing(person, call), before);
}

test('media of two makes a call connected, for all to hear', async () => {
  const { a, b, call, deviceA, deviceB } = await world.callOfTwo();
  await tell(roomStarted(call.roomId), joined(call.roomId, a.id));
  assert.equal((await a.details(call)).call.state, 'connecting');
  await tell(joined(call.roomId, b.id));
  for (const device of [deviceA, deviceB]) {
    const where = { callId: call.id, state: 'connected' };
    const { startedAt, participants } = await device.until('call:state_changed', where);
    assert.ok(Math.abs(Date.now() - new Date(startedAt)) < 5000);
    assert.deepEqual(
      participants.map((it) => it.connectionState),
      ['connected', 'connected'],
    );
  }
  const { call: now } = await b.details(call);
  assert.equal(now.state, 'connected');
  assert.notEqual(now.startedAt, null);
  await a.end(call);
});

test('whoever does not sign as LiveKit does is not heard', async () => {
  const { a, b, call } = await world.callOfTwo();
  const { token } = await a.want('POST', `/${call.id}/token`);
  const ticket = token.token;
  const webhook = joined(call.roomId, a.id);
  const flaws = {
    'another secret': { secret: 'a secret that somebody else has chosen here' },
    'no secret': { secret: '' },
    'another key': { key: 'another' },
    'another hash': { hash: createHash('sha256').update('something else').digest('base64') },
    'no hash': { hash: null },
    'an empty hash': { hash: '' },
    'a hash that is none': { hash: '***' },
    'another body': { body: JSON.stringify(joined(call.roomId, b.id)) },
    'one byte more': { body: `${JSON.stringify(webhook)} ` },
    'an expired token': { age: 400 },
    'a token that never expires': { claims: { exp: undefined } },
    'no token': { authorization: null },
    'an empty token': { authorization: '' },
    'no token at all': { authorization: 'Basic YTpi' },
    "a participant's token": { authorization: ticket },
    "a participant's token, as a bearer": { authorization: `Bearer ${ticket}` },
    "a user's token": { authorization: `Bearer ${a.token}` },
    'no signature': { alg: 'none' },
    'another kind of signature': { alg: 'HS512' },
  };
  await unchanged(a, call, async () => {
    for (const [what, flaw] of Object.entries(flaws)) {
      for (const it of [webhook, joined(call.roomId, b.id)]) {
        const { status, text } = await send(world.service, it, flaw);
        assert.deepEqual([status, JSON.parse(text).code], [401, 'unauthorized'], what);
      }
    }
  });
  const bearer = `Bearer ${signed(webhook).headers.authorization}`;
  const proxied = await send(world.service, webhook, { authorization: bearer });
  assert.equal(proxied.status, 200, 'a proxy may have made it a bearer');
  const { status } = await send(world.service, joined(call.roomId, b.id), { age: 200 });
  assert.equal(status, 200, 'a token of a few minutes ago still holds');
  assert.equal((await a.details(call)).call.state, 'connected');
  await a.end(call);
});

test('a body that is too large is refused, one of 256 KiB is read', async () => {
  const { a, b, call } = await world.callOfTwo();
  const padded = (webhook, bytes) => JSON.stringify(webhook).padEnd(bytes, ' ');
  const large = await send(world.service, padded(joined(call.roomId, a.id), WEBHOOK_BYTES_MAX + 1));
  assert.deepEqual([large.status, JSON.parse(large.text).code], [413, 'payload_too_large']);
  const fits = await send(world.service, padded(joined(call.roomId, b.id), WEBHOOK_BYTES_MAX));
  assert.equal(fits.status, 200);
  assert.equal((await a.details(call)).call.state, 'connecting');
  await tell(joined(call.roomId, a.id));
  assert.equal((await a.details(call)).call.state, 'connected');
  await a.end(call);
});

test('what is signed and can not be read is a bad request', async () => {
  const all = [
    '',
    'no json',
    '[]',
    '"text"',
    '5',
    'null',
    '{"event":5}',
    '{"event":"x","room":"y"}',
    '{"event":',
  ];
  for (const text of [...all, '{"event":"participant_joined","participant":[]}', '['.repeat(50_000)]) {
    const { status } = await send(world.service, text);
    assert.equal(status, 400, text.slice(0, 60));
  }
  const bytes = Buffer.from([0x7b, 0xff, 0xfe, 0x7d]);
  const hash = createHash('sha256').update(bytes).digest('base64');
  const { status } = await send(world.service, 'x', { hash, body: bytes });
  assert.ok([400, 401].includes(status), `bytes that are no text: ${status}`);
});

test('what is not about a call, or says nothing new, is taken and changes nothing', async () => {
  const { a, b, call, room } = await connectedCall();
  const whole = joined(room, stay(a, 1));
  const without = (webhook, ...fields) =>
    Object.fromEntries(Object.entries(webhook).filter(([name]) => !fields.includes(name)));
  await unchanged(a, call, () =>
    tell(
      joined('lobby', a.id),
      joined(roomOf('not-a-call'), a.id),
      left('', a.id),
      without(whole, 'room'),
      without(whole, 'participant'),
      without(left(room, stay(a, 1)), 'participant'),
      without(published(room, stay(a, 1), 'CAMERA'), 'track'),
      without(published(room, stay(a, 1), 'CAMERA'), 'participant'),
      without(published(room, stay(a, 1), 'CAMERA'), 'room'),
      without(webhooks.egressEnded({ egressId: 'EG_x', room }), 'egressInfo'),
      { event: 'participant_left' },
      { event: '' },
      {},
      { ...whole, event: 'participant_flew', id: 'EV_1' },
      { ...whole, event: 'ingress_started', id: 'EV_2' },
      left(room, { identity: 'not an id of ours', sid: 'PA_x' }),
      roomStarted(room),
      joined(room, { ...stay(b, 1, 20), kind: 'EGRESS' }),
    ),
  );
  await a.end(call);
});

test('a webhook of a newer LiveKit is understood as far as it goes', async () => {
  const { a, b, call } = await world.callOfTwo();
  const newer = (webhook) => ({
    ...webhook,
    somethingNew: { a: [1] },
    room: { ...webhook.room, somethingNew: 'x' },
    participant: { ...webhook.participant, somethingNew: 7 },
  });
  await tell(newer(joined(call.roomId, a.id)), newer(joined(call.roomId, b.id)));
  assert.equal((await a.details(call)).call.state, 'connected');
  await a.end(call);
});

test('a name that LiveKit has given to something new does not hide the rest', async () => {
  const { a, b, call, room } = await connectedCall();
  await tell(left(room, stay(b, 1), 'SOMETHING_NEW'));
  // What can't be read is asked of the room.
  const gone = async () => (await b.standing(call)).connectionState === 'connecting';
  await eventually('somebody has left', gone);
  await a.end(call);
});

for (const [what, make] of Object.entries({
  'it has begun': (room) => roomStarted(room),
  'somebody is there': (room, id) => joined(room, id),
  'somebody was there ten minutes ago': (room, id) => joined(room, id, minutesAgo(10)),
  'somebody sends': (room, id) => published(room, id, 'MICROPHONE'),
  'somebody has left': (room, id) => left(room, id),
  'somebody has gone to another device': (room, id) => left(room, id, 'DUPLICATE_IDENTITY'),
  'it is over': (room) => roomFinished(room),
})) {
  test(`rooms of others stay when it is reported that ${what}`, async () => {
    const handmade = roomOf(unknownCall());
    await livekit.api.createRoom(handmade, { empty_timeout: 300 });
    const [c, d] = neighbour.people(2);
    const theirs = await c.start(d);
    const rooms = [handmade, theirs.roomId];
    await tell(...rooms.map((room) => make(room, c.id)));
    // A second device is looked for a second later.
    await pause((what.includes('device') ? 1000 : 0) + DONE_MS);
    const names = await roomNames(livekit);
    assert.deepEqual(
      rooms.map((it) => names.includes(it)),
      [true, true],
      'made by hand, of another service',
    );
    await c.end(theirs);
    await livekit.api.deleteRoom(handmade);
  });
}

test('the same webhook three times is one', async () => {
  const { a, b, call, deviceA } = await world.callOfTwo();
  const { roomId: room } = call;
  const life = [joined(room, stay(a, 1)), joined(room, stay(b, 1)), published(room, stay(b, 1), 'CAMERA')];
  for (const it of life) await tell(it, it, it);
  await tell(...life);
  await deviceA.until('call:state_changed', { state: 'connected' });
  const { seq } = (await a.details(call)).call;
  await tell(...life, ...life);
  assert.equal((await a.details(call)).call.seq, seq);
  await deviceA.settled();
  const connected = deviceA.all('call:state_changed').filter((it) => it.state === 'connected');
  assert.equal(connected.length, 1);
  await a.end(call);
});

test('one that has the name of another is that other', async () => {
  const { a, b, call } = await world.callOfTwo();
  const first = joined(call.roomId, a.id);
  await tell(first, joined(call.roomId, b.id, { id: first.id }));
  assert.equal((await a.details(call)).call.state, 'connecting');
  await tell(joined(call.roomId, b.id));
  assert.equal((await a.details(call)).call.state, 'connected');
  await a.end(call);
});

/** Numbers that look random and are the same each time. */
function randomOf(seed) {
  let state = seed;
  return (count) => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    return Math.floor((state / 2_147_483_648) * count);
  };
}

/** Some of them twice or three times, in another order. */
function mixed(all, random) {
  const doubled = all.flatMap((it) => Array.from({ length: 1 + random(3) }, () => it));
  for (let index = doubled.length - 1; index > 0; index -= 1) {
    const other = random(index + 1);
    [doubled[index], doubled[other]] = [doubled[other], doubled[index]];
  }
  return doubled;
}

/** What there is to compare of a call after its webhooks. */
async function outcome(person, call) {
  const { call: now, participants } = await person.details(call);
  const of = (it) => [it.connectionState, it.audioEnabled, it.videoEnabled, it.screenShareEnabled];
  return { state: now.state, participants: participants.map(of) };
}

/** The same without what is sent: told in another order, that is asked of the room, where nobody really is. */
const states = ({ state, participants }) => [state, ...participants.map(([it]) => it)];

/** Each of the two comes, is gone, and comes again on another device. */
const comings = (room, people) =>
  people.flatMap((it) => [
    joined(room, stay(it, 1, 60)),
    left(room, stay(it, 1, 60)),
    joined(room, stay(it, 2, 30)),
    left(room, stay(it, 2, 30), 'DUPLICATE_IDENTITY'),
    joined(room, stay(it, 3)),
  ]);
const sendings = (room, [a, b]) => [
  published(room, stay(a, 3), 'SCREEN_SHARE'),
  published(room, stay(a, 3), { source: 'MICROPHONE', muted: true }),
  published(room, stay(b, 3), 'CAMERA'),
  unpublished(room, stay(b, 1), 'MICROPHONE'),
];

for (const [what, lifeOf] of [
  ['comes and goes', (room, people) => comings(room, people)],
  ['comes, goes and sends', (room, people) => [...comings(room, people), ...sendings(room, people)]],
]) {
  test(`in any order, doubled, the webhooks of who ${what} tell the same`, async () => {
    const told = async (order) => {
      const { a, b, call } = await world.callOfTwo({ videoEnabled: false });
      // A device that takes over has the room looked at a second later, and nobody is really there.
      await tell(...order(lifeOf(call.roomId, [a, b])));
      const now = await outcome(a, call);
      await a.end(call);
      return now;
    };
    const ordered = await told((all) => all);
    assert.deepEqual(
      [ordered.state, ordered.participants.map(([it]) => it)],
      ['connected', ['connected', 'connected']],
    );
    for (let seed = 1; seed <= ORDERS; seed += 1) {
      let sent;
      const now = await told((all) => {
        sent = mixed(all, randomOf(seed));
        return sent;
      });
      const story = sent.map((it) => `${it.event} ${it.participant.sid}`).join(', ');
      assert.deepEqual(states(now), states(ordered), `order ${seed}: ${story}`);
    }
  });
}

test('the end of an old stay says nothing of the present one', async () => {
  const { a, call, room, deviceB } = await connectedCall();
  await tell(joined(room, stay(a, 2)));
  await unchanged(a, call, () =>
    tell(
      left(room, stay(a, 1, 20)),
      left(room, stay(a, 1, 20), 'CONNECTION_TIMEOUT'),
      joined(room, stay(a, 1, 20)),
    ),
  );
  await tell(left(room, stay(a, 2)));
  assert.equal((await a.standing(call)).connectionState, 'connecting');
  assert.deepEqual(deviceB.all('call:participant_left'), []);
  await a.end(call);
});

test('who goes to another device has not left', async () => {
  const { a, b, call, room, deviceB } = await connectedCall();
  const connected = async () => (await outcome(b, call)).participants.map(([it]) => it);
  await tell(left(room, stay(a, 1), 'DUPLICATE_IDENTITY'));
  assert.deepEqual(await connected(), ['connected', 'connected']);
  await tell(joined(room, stay(a, 2)));
  assert.deepEqual(await connected(), ['connected', 'connected']);
  await deviceB.settled();
  const changed = deviceB.all('call:participant_updated').concat(deviceB.all('call:participant_left'));
  assert.deepEqual(changed, []);
  await a.end(call);
});

test('one of ten minutes ago is not believed, but a reason to look', async () => {
  const { a, b, call, deviceB } = await world.callOfTwo({ videoEnabled: false });
  const { roomId: room } = call;
  await unchanged(a, call, () =>
    tell(
      joined(room, stay(a, 1, 600), minutesAgo(10)),
      joined(room, stay(b, 1, 600), minutesAgo(10)),
      published(room, stay(a, 1, 600), 'CAMERA', minutesAgo(10)),
      unpublished(room, stay(a, 1, 600), 'MICROPHONE', minutesAgo(10)),
      roomFinished(room, minutesAgo(10)),
    ),
  );
  await tell(joined(room, stay(a, 2)), joined(room, stay(b, 2)));
  await tell(left(room, stay(b, 2), 'CLIENT_INITIATED', minutesAgo(10)));
  // Nobody is really in the room, so that the look takes the media of both, not just of the one who is said to have left.
  const both = async () => (await outcome(b, call)).participants.every(([it]) => it === 'connecting');
  await eventually('the room was looked at', both);
  assert.deepEqual(deviceB.all('call:participant_left'), []);
  await a.end(call);
});

test('after the end nothing changes, and the room does not come back', async () => {
  const { a, b, call, room } = await connectedCall();
  await a.end(call);
  await unchanged(a, call, () =>
    tell(
      left(room, stay(a, 1, 20), 'ROOM_DELETED'),
      joined(room, stay(b, 2)),
      published(room, stay(b, 2), 'CAMERA'),
      left(room, stay(b, 2), 'DUPLICATE_IDENTITY'),
      roomFinished(room),
      joined(room, stay(a, 3), minutesAgo(10)),
    ),
  );
  assert.ok(!(await roomNames(livekit)).includes(room));
});

test('what is published shows in the participant, for all to hear', async () => {
  const { a, b, call, room, deviceA, deviceB } = await connectedCall({ videoEnabled: false });
  const fields = { MICROPHONE: 'audioEnabled', CAMERA: 'videoEnabled', SCREEN_SHARE: 'screenShareEnabled' };
  await b.want('PATCH', `/${call.id}/participant`, { audioEnabled: false, videoEnabled: false });
  for (const [source, field] of Object.entries(fields)) {
    const before = await own(b, call);
    assert.equal(before[field], false);
    await tell(published(room, stay(b, 7), source), published(room, stay(b, 1), { source, muted: true }));
    assert.deepEqual(await own(b, call), before, `${source} of another stay, or muted, is on`);
    await tell(published(room, stay(b, 1), source));
    const now = await own(b, call);
    assert.deepEqual(now, { ...before, [field]: true }, source);
    for (const device of [deviceA, deviceB]) {
      const same = ({ participant }) => isDeepStrictEqual(timeless(participant), now);
      await device.until('call:participant_updated', same);
    }
  }
  const before = await own(b, call);
  await tell(published(room, stay(b, 1), 'SCREEN_SHARE_AUDIO'));
  assert.deepEqual(await own(b, call), before, 'the sound of a screen changed something');
  const other = await a.standing(call);
  assert.deepEqual([other.audioEnabled, other.videoEnabled, other.screenShareEnabled], [true, false, false]);
  await a.end(call);
});

test('who is no longer there has turned nothing off', async () => {
  const { a, b, call, room } = await connectedCall();
  const settings = async () => {
    const { audioEnabled, videoEnabled } = await b.standing(call);
    return [audioEnabled, videoEnabled];
  };
  assert.deepEqual(await settings(), [true, true]);
  await tell(
    unpublished(room, stay(b, 1), 'MICROPHONE'),
    left(room, stay(b, 1)),
    unpublished(room, stay(b, 1), 'CAMERA'),
  );
  // Whether it was turned off is looked at a second later.
  await pause(1000 + DONE_MS);
  assert.deepEqual(await settings(), [true, true]);
  await a.end(call);
});

test('who must not be in the room is put out of it, and who may stays', async () => {
  const [a, b, c, d] = world.people(4);
  const deviceA = await a.connect();
  const call = await a.start([b, c]);
  const { roomId: room } = call;
  await b.join(call);
  await c.join(call);
  await deviceA.do('call:remove_participant', { callId: call.id, userId: c.id });
  const mayStay = await guestIn(livekit, room, b.id);
  for (const [what, person] of [
    ['one who was removed', c],
    ['one who was never called', d],
  ]) {
    const guest = await guestIn(livekit, room, person.id);
    await tell(joined(room, person.id));
    await eventually(`${what} is put out`, () => !guest.isOpen());
    assert.equal(await guest.info(), undefined);
    const before = await standing(a, call);
    // Reported again, though nobody is there any more.
    await tell(joined(room, person.id), left(room, person.id, 'PARTICIPANT_REMOVED'));
    assert.deepEqual(await standing(a, call), before);
  }
  assert.ok(await mayStay.isIn());
  mayStay.leave();
  await a.end(call);
});

test('webhooks beyond their rate are put off, and unsigned ones do not count', async () => {
  const strict = await World.open({ ...ENV, RATE_LIMITS: 'on', RATE_LIMIT_WEBHOOK: '2/1s:2' });
  const one = () => roomStarted(roomOf(unknownCall()));
  const answers = [];
  for (let times = 0; times < 20; times += 1) {
    const { status } = await send(strict.service, one(), { hash: null });
    assert.equal(status, 401);
  }
  for (let times = 0; times < 4; times += 1) {
    const { body: text, headers } = signed(one());
    answers.push(await http(webhookUrl(strict.service), { method: 'POST', body: text, headers }));
  }
  assert.deepEqual(
    answers.map((it) => it.status),
    [200, 200, 429, 429],
  );
  const [, , { headers, body }] = answers;
  assert.equal(body.code, 'rate_limited');
  const wait = Number(headers.get('retry-after'));
  assert.ok(wait >= 1 && wait <= 2, `retry after ${wait} s`);
  await pause(wait * 1000);
  assert.equal((await send(strict.service, one())).status, 200);
  await strict.close();
});
