// Every endpoint of section 4: what it answers, and each way in which it refuses.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { World } from '../support/world.mjs';

const world = await World.open({ STUN_SERVER_URL: 'stun:stun.example:3478' });
const CALL_KEYS =
  'id roomId type state initiatorId chatId isGroup maxParticipants startedAt endedAt duration endReason ' +
  'recordingEnabled recordingUrl createdAt updatedAt epoch seq';
const PARTICIPANT_KEYS =
  'id callId userId role joinedAt leftAt duration connectionState audioEnabled videoEnabled screenShareEnabled ' +
  'connectionQuality';
const keysOf = (it) => Object.keys(it).sort();
const sorted = (text) => text.split(' ').sort();
const UUID7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

/** An error says which field, what was there, and what is allowed. */
function explains(answer, field, allowed, found) {
  assert.equal(answer.error, `${field}: expected ${allowed}, found ${found}`);
}

test('start answers 201 with call, token and ICE servers', async () => {
  const [a, b] = world.people(2);
  const { status, body } = await a.rest('POST', '/start', {
    type: 'video',
    participantIds: [b.id],
    chatId: 'chat-1',
    videoEnabled: false,
    unknown: 'passed over',
  });
  assert.equal(status, 201);
  assert.deepEqual(keysOf(body), ['data', 'success']);
  const { call, token, iceServers } = body.data;
  assert.deepEqual(keysOf(body.data), ['call', 'iceServers', 'token']);
  assert.deepEqual(keysOf(call), sorted(CALL_KEYS));
  assert.match(call.id, UUID7);
  assert.match(call.roomId, /^room_[0-9a-f-]{36}$/);
  assert.match(call.createdAt, ISO);
  const { id, roomId, createdAt, updatedAt, seq, epoch, ...rest } = call;
  assert.ok(seq >= 1 && epoch >= 1);
  assert.deepEqual(rest, {
    type: 'video',
    state: 'ringing',
    initiatorId: a.id,
    chatId: 'chat-1',
    isGroup: false,
    maxParticipants: 8,
    startedAt: null,
    endedAt: null,
    duration: null,
    endReason: null,
    recordingEnabled: false,
    recordingUrl: null,
  });
  const peer = { token: null, url: null, roomName: roomId, identity: a.id, media: 'peer' };
  assert.deepEqual(token, peer);
  assert.deepEqual(iceServers, [{ urls: ['stun:stun.example:3478'] }]);
  const { participants } = await a.details(call);
  assert.deepEqual(
    participants.map((it) => [it.userId, it.role, it.connectionState, it.videoEnabled, it.audioEnabled]),
    [
      [a.id, 'initiator', 'connecting', false, true],
      [b.id, 'participant', 'invited', false, true],
    ],
  );
  assert.deepEqual(keysOf(participants[0]), sorted(PARTICIPANT_KEYS));
  assert.equal(participants[0].joinedAt, createdAt);
  assert.equal(participants[0].callId, id);
  assert.match(updatedAt, ISO);
});

const OTHERS = '1 to 7 distinct user ids other than your own';
const ID = '1 to 64 characters of A-Z a-z 0-9 _ . : @ = -';
const me = world.person('me');
const many = (count) => Array.from({ length: count }, (_, index) => `someone-${index}`);
for (const [what, change, ...explanation] of [
  ['no type', { type: undefined }, 'type', 'audio or video', 'nothing'],
  ['an unknown type', { type: 'fax' }, 'type', 'audio or video', '"fax"'],
  ['a type of another type', { type: 7 }, 'type', 'audio or video', '7'],
  ['no participants', { participantIds: undefined }, 'participantIds', OTHERS, 'nothing'],
  ['participants that are no list', { participantIds: 'x' }, 'participantIds', OTHERS, '"x"'],
  ['an empty list', { participantIds: [] }, 'participantIds', OTHERS, '0 ids'],
  ['too many', { participantIds: many(8) }, 'participantIds', OTHERS, '8 ids'],
  ['one twice', { participantIds: ['x', 'x'] }, 'participantIds', OTHERS, 'x again'],
  ['oneself', { participantIds: [me.id] }, 'participantIds', OTHERS, `${me.id} again`],
  ['a number for an id', { participantIds: [7] }, 'participantIds', ID, '7'],
  ['an id with a space', { participantIds: ['a b'] }, 'participantIds', ID, '"a b"'],
  ['an empty id', { participantIds: [''] }, 'participantIds', ID, '""'],
  ['a chat that is no id', { chatId: 'a/b' }, 'chatId', ID, '"a/b"'],
  ['a flag that is none', { videoEnabled: 'yes' }, 'videoEnabled', 'true or false', '"yes"'],
  ['the other flag', { audioEnabled: 1 }, 'audioEnabled', 'true or false', '1'],
  ['ring of another word', { ring: 'some' }, 'ring', 'all or none', '"some"'],
]) {
  test(`start with ${what} is refused by name`, async () => {
    const body = { type: 'audio', participantIds: ['x'], ...change };
    explains(await me.refused(400, 'invalid_request', 'POST', '/start', body), ...explanation);
  });
}

test('an id of 65 characters is refused, one of 64 is not', async () => {
  const body = (length) => ({ type: 'audio', participantIds: ['x'.repeat(length)] });
  await me.refused(400, 'invalid_request', 'POST', '/start', body(65));
  await me.end((await me.want('POST', '/start', body(64))).call);
});

test('start is refused 409 while in a call, which it names, and changes nothing', async () => {
  const { a, b, call } = await world.callOfTwo({ connect: false });
  const c = world.person();
  for (const one of [a, b]) {
    const refused = await one.refused(409, 'already_in_call', 'POST', '/start', {
      type: 'audio',
      participantIds: [c.id],
    });
    assert.deepEqual(refused.data, { callId: call.id });
  }
  assert.deepEqual((await c.want('GET', '/active')).calls, []);
});

test('join answers 200 with call, token, ICE servers and participants; joining twice is joining once', async () => {
  const [a, b] = world.people(2);
  const call = await a.start(b);
  const joined = await b.join(call, { videoEnabled: false, audioEnabled: true });
  assert.deepEqual(keysOf(joined), ['call', 'iceServers', 'participants', 'token']);
  assert.equal(joined.call.state, 'connected');
  assert.match(joined.call.startedAt, ISO);
  assert.equal(joined.token.identity, b.id);
  const self = joined.participants.find((it) => it.userId === b.id);
  assert.deepEqual([self.connectionState, self.videoEnabled, self.audioEnabled], ['connected', false, true]);
  const again = await b.join(call, { videoEnabled: true });
  assert.equal(again.call.seq, joined.call.seq);
  assert.equal(again.participants.find((it) => it.userId === b.id).videoEnabled, false);
  await a.join(call);
});

test('join is refused: nobody invited, another call, over, unknown, a wrong type', async () => {
  const [a, b, c, d] = world.people(4);
  // Who is rung is not busy: being in a call comes after.
  const other = await d.start(a);
  const call = await a.start(b);
  await b.join(call);
  await c.refused(403, 'not_invited', 'POST', `/${call.id}/join`);
  const refused = await a.refused(409, 'already_in_call', 'POST', `/${other.id}/join`);
  assert.deepEqual(refused.data, { callId: call.id });
  explains(
    await b.refused(400, 'invalid_request', 'POST', `/${call.id}/join`, { videoEnabled: 'no' }),
    'videoEnabled',
    'true or false',
    '"no"',
  );
  await a.end(call);
  await b.refused(410, 'call_over', 'POST', `/${call.id}/join`);
  await c.refused(403, 'not_invited', 'POST', `/${call.id}/join`);
  await c.refused(404, 'not_found', 'POST', `/${randomUUID()}/join`);
});

test('start towards a busy person is 409 busy, with the call that is in both histories', async () => {
  const { a } = await world.callOfTwo({ connect: false });
  const c = world.person();
  const body = { type: 'audio', participantIds: [a.id] };
  const { data } = await c.refused(409, 'busy', 'POST', '/start', body);
  assert.deepEqual([data.call.state, data.call.endReason], ['busy', 'busy']);
  for (const one of [a, c]) {
    const { calls } = await one.want('GET', '/history');
    assert.ok(calls.some((it) => it.id === data.call.id && it.state === 'busy'));
  }
});

test('end answers 200 to every participant, before and after, and its reason is a hint', async () => {
  const { a, b, call } = await world.callOfTwo({ connect: false });
  const c = world.person();
  await c.refused(403, 'forbidden', 'POST', `/${call.id}/end`);
  await c.refused(404, 'not_found', 'POST', `/${randomUUID()}/end`);
  const refused = await a.refused(400, 'invalid_request', 'POST', `/${call.id}/end`, { reason: 'boredom' });
  assert.match(refused.error, /^reason: expected normal, timeout, .* found "boredom"$/);
  assert.equal(await a.want('POST', `/${call.id}/end`, { reason: 'failed' }), 'Call ended successfully');
  const after = await a.details(call);
  assert.deepEqual([after.call.state, after.call.endReason], ['ended', 'normal']);
  assert.equal(await b.want('POST', `/${call.id}/end`), 'Call ended successfully');
  assert.deepEqual(await a.details(call), after);
  await c.refused(403, 'forbidden', 'POST', `/${call.id}/end`);
});

test('token is for one who has joined', async () => {
  const [a, b, c] = world.people(3);
  const call = await a.start(b);
  const { token, iceServers } = await a.want('POST', `/${call.id}/token`);
  assert.deepEqual([token.identity, token.media, iceServers.length], [a.id, 'peer', 1]);
  await b.refused(409, 'not_joined', 'POST', `/${call.id}/token`);
  await c.refused(403, 'forbidden', 'POST', `/${call.id}/token`);
  await c.refused(404, 'not_found', 'POST', `/${randomUUID()}/token`);
  await a.end(call);
  await a.refused(410, 'call_over', 'POST', `/${call.id}/token`);
});

test('a call is shown live and past, to its own people only', async () => {
  const { a, b, call } = await world.callOfTwo({ connect: false });
  const c = world.person();
  const live = await b.details(call);
  assert.deepEqual(keysOf(live), ['call', 'participants']);
  await a.end(call);
  const past = await b.details(call);
  assert.deepEqual([past.call.state, typeof past.call.duration], ['ended', 'number']);
  assert.ok(past.participants.every((it) => it.connectionState === 'left' && ISO.test(it.leftAt)));
  await c.refused(403, 'forbidden', 'GET', `/${call.id}`);
  await c.refused(404, 'not_found', 'GET', `/${randomUUID()}`);
  await c.refused(404, 'not_found', 'GET', '/no-such-id');
});

test('active lists live calls of the asking user, rung ones too', async () => {
  const [a, b, c, d] = world.people(4);
  const second = await b.start(a);
  const call = await a.start(d);
  const { calls } = await a.want('GET', '/active');
  assert.deepEqual(new Set(calls.map((it) => it.id)), new Set([call.id, second.id]));
  assert.equal(calls[0].participants.length, 2);
  await a.end(call);
  await b.end(second);
  assert.deepEqual(await a.want('GET', '/active'), { calls: [] });
  assert.deepEqual(await c.want('GET', '/active'), { calls: [] });
});

test('PATCH changes what was sent, and refuses what it does not know', async () => {
  const { a, b, call } = await world.callOfTwo({ connect: false });
  const path = `/${call.id}/participant`;
  const body = { audioEnabled: false, videoEnabled: true, screenShareEnabled: true };
  assert.equal(await a.want('PATCH', path, body), 'Participant settings updated');
  const { audioEnabled, videoEnabled, screenShareEnabled } = await a.standing(call);
  assert.deepEqual({ audioEnabled, videoEnabled, screenShareEnabled }, body);
  const known = 'audioEnabled, videoEnabled or screenShareEnabled';
  const bad = (body) => a.refused(400, 'invalid_request', 'PATCH', path, body);
  explains(await bad({ volume: 11, audioEnabled: true }), 'body', known, 'volume');
  explains(await bad({}), 'body', known, 'no setting');
  explains(await bad({ audioEnabled: 'off' }), 'audioEnabled', 'true or false', '"off"');
  const c = world.person();
  await c.refused(403, 'forbidden', 'PATCH', path, body);
  await c.refused(404, 'not_found', 'PATCH', `/${randomUUID()}/participant`, body);
  await b.end(call);
  await a.refused(410, 'call_over', 'PATCH', path, body);
});

test('recordings need a media server, and the initiator', async () => {
  const { a, b, call } = await world.callOfTwo({ connect: false });
  const c = world.person();
  for (const path of ['recording/start', 'recording/stop']) {
    await a.refused(501, 'no_media_server', 'POST', `/${call.id}/${path}`);
    await b.refused(403, 'forbidden', 'POST', `/${call.id}/${path}`);
    await c.refused(403, 'forbidden', 'POST', `/${call.id}/${path}`);
    await c.refused(404, 'not_found', 'POST', `/${randomUUID()}/${path}`);
  }
  await a.refused(501, 'no_media_server', 'GET', `/${call.id}/recordings`);
  await c.refused(403, 'forbidden', 'GET', `/${call.id}/recordings`);
});

test('without LiveKit a webhook is 401', async () => {
  const { status, body } = await world.http('/api/v1/webhooks/livekit', { method: 'POST', body: {} });
  assert.deepEqual([status, body.code], [401, 'unauthorized']);
});

test('the same Idempotency-Key is the same call: one after the other, fifty at once, and after its end', async () => {
  const [a, b, c] = world.people(3);
  const headers = { 'idempotency-key': 'tap-1' };
  const body = { type: 'audio', participantIds: [b.id] };
  const answers = await Promise.all(
    Array.from({ length: 50 }, () => a.rest('POST', '/start', body, headers)),
  );
  const statuses = answers.map((it) => it.status).sort();
  assert.deepEqual(statuses, [...Array(49).fill(200), 201]);
  const ids = new Set(answers.map((it) => it.body.data.call.id));
  assert.equal(ids.size, 1);
  const [id] = ids;
  await a.end(id);
  const later = await a.rest('POST', '/start', body, headers);
  assert.deepEqual(
    [later.status, later.body.data.call.id, later.body.data.call.state],
    [200, id, 'cancelled'],
  );
  assert.equal((await c.rest('POST', '/start', { ...body, participantIds: [b.id] }, headers)).status, 201);
  const other = await a.rest('POST', '/start', body, { 'idempotency-key': 'tap-2' });
  assert.equal(other.status, 201);
  assert.notEqual(other.body.data.call.id, id);
  assert.equal((await a.want('GET', '/history')).pagination.total, 2);
});

test('an Idempotency-Key that is too long is refused by name', async () => {
  const [a, b] = world.people(2);
  const headers = { 'idempotency-key': 'x'.repeat(129) };
  const body = { type: 'audio', participantIds: [b.id] };
  const { error } = await a.refused(400, 'invalid_request', 'POST', '/start', body, headers);
  assert.match(error, /^Idempotency-Key: expected 1 to 128 visible ASCII characters, found "?x+/);
});

test('ring none rings nobody; invitees may join, and the call lives while its initiator is in it', async () => {
  const [[a, deviceA], [b, deviceB]] = await world.connectedPeople(2);
  const call = await a.start(b, { ring: 'none', type: 'audio' });
  assert.equal(call.state, 'ringing');
  assert.equal((await b.standing(call)).connectionState, 'invited');
  await b.join(call);
  await deviceA.until('call:participant_joined', { userId: b.id });
  await b.end(call);
  await deviceA.until('call:participant_left', { userId: b.id });
  assert.equal((await a.details(call)).call.endedAt, null);
  await b.join(call);
  await a.end(call);
  await deviceB.until('call:ended', { callId: call.id, reason: 'normal' });
  assert.deepEqual(deviceB.all('call:incoming'), []);
});

test('an audio call has its video off unless asked for', async () => {
  const [a, b] = world.people(2);
  const call = await a.start(b, { type: 'audio' });
  const self = await a.standing(call);
  assert.deepEqual([self.audioEnabled, self.videoEnabled], [true, false]);
  await a.end(call);
});

test('the dev endpoints issue tokens and say who is connected', async () => {
  const issued = await world.http('/dev/token', {
    method: 'POST',
    body: { userId: 'dev:1', username: 'Dev One' },
  });
  assert.equal(issued.status, 200);
  const dev = world.person();
  dev.id = 'dev:1';
  dev.token = issued.body.data.token;
  await dev.connect();
  const { body } = await world.http('/dev/users');
  assert.deepEqual(
    body.data.users.find((it) => it.userId === 'dev:1'),
    { userId: 'dev:1', username: 'Dev One', sockets: 1 },
  );
  const bad = await world.http('/dev/token', { method: 'POST', body: { userId: 'a b' } });
  assert.deepEqual([bad.status, bad.body.code], [400, 'invalid_request']);
  assert.equal(bad.body.error, `userId: expected ${ID}, found "a b"`);
});
