// How a call is answered or not: section 5 of the contract, from outside.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventually, World } from '../support/world.mjs';

const RING = 1;
const world = await World.open({ RINGING_TIMEOUT: String(RING) });
const patient = await World.open();

const over = async (person, call) => {
  const { state, endReason } = (await person.details(call)).call;
  return [state, endReason];
};

test('a call rings on all devices; the first answer wins, the others hear who handled it', async () => {
  const [a, b] = world.people(2);
  const caller = await a.connect();
  const phone = await b.connect({ deviceId: 'phone' });
  const desk = await b.connect({ deviceId: 'desk' });
  const call = await a.start(b, { chatId: 'chat:1' });
  for (const device of [phone, desk]) {
    const { invitation, callId } = await device.until('call:incoming');
    assert.equal(callId, call.id);
    const { expiresAt, ...rest } = invitation;
    assert.deepEqual(rest, {
      callId: call.id,
      roomId: call.roomId,
      type: 'video',
      initiatorId: a.id,
      initiatorName: 'a',
      chatId: 'chat:1',
      isGroup: false,
      participants: [a.id, b.id],
    });
    assert.equal(new Date(expiresAt) - new Date(call.createdAt), RING * 1000);
  }
  await caller.until('call:ringing', { callId: call.id, userId: b.id });
  const joined = await phone.do('call:accept', { callId: call.id });
  assert.deepEqual(Object.keys(joined).sort(), ['call', 'iceServers', 'participants', 'token']);
  await desk.until('call:handled_elsewhere', { callId: call.id, userId: b.id });
  for (const device of [caller, phone, desk]) {
    await device.until('call:accepted', { callId: call.id, userId: b.id });
    await device.until('call:participant_joined', { callId: call.id, userId: b.id });
    await device.until('call:state_changed', { callId: call.id, state: 'connected' });
  }
  assert.deepEqual(phone.all('call:handled_elsewhere'), []);
});

test('what one change tells a device comes in one piece, however many are told', async () => {
  const [[a, caller], [b, phone]] = await patient.connectedPeople(2);
  const devices = [caller, phone, await b.connect()];
  const call = await a.start(b);
  await phone.until('call:incoming');
  await caller.until('call:ringing');
  const pieces = devices.map((device) => {
    const found = [];
    device.socket.io.engine.transport.ws._socket.on('data', (it) => found.push(it.toString('latin1')));
    return found;
  });
  await b.join(call);
  for (const [index, device] of devices.entries()) {
    await device.until('call:state_changed', { state: 'connected' });
    const told = pieces[index].filter((it) => it.includes(call.id));
    assert.equal(told.length, 1, `${told.length} pieces`);
    for (const name of ['call:accepted', 'call:participant_joined', 'call:state_changed'])
      assert.ok(told[0].includes(`42["${name}"`), name);
  }
});

test('of two devices that answer at once, one answers', async () => {
  const [[a, caller], [b, phone]] = await patient.connectedPeople(2);
  const desk = await b.connect();
  const call = await a.start(b);
  await Promise.all([phone.until('call:incoming'), desk.until('call:incoming')]);
  await Promise.all([
    phone.do('call:accept', { callId: call.id }),
    desk.do('call:accept', { callId: call.id }),
  ]);
  await caller.until('call:state_changed', { state: 'connected' });
  await eventually('one of them is told', () =>
    phone.heard().concat(desk.heard()).includes('call:handled_elsewhere'),
  );
  assert.equal(caller.all('call:accepted').length, 1);
  assert.equal(phone.all('call:handled_elsewhere').length + desk.all('call:handled_elsewhere').length, 1);
});

test('a REST join names its device by X-Device-Id; without it all devices hear of it', async () => {
  const [a, b] = patient.people(2);
  const phone = await b.connect({ deviceId: 'phone' });
  const desk = await b.connect({ deviceId: 'desk' });
  const first = await a.start(b);
  await b.join(first, {}, { 'x-device-id': 'phone' });
  await desk.until('call:handled_elsewhere', { callId: first.id });
  await phone.until('call:state_changed', { callId: first.id, state: 'connected' });
  assert.deepEqual(phone.all('call:handled_elsewhere'), []);
  await a.end(first);
  const second = await a.start(b);
  await b.join(second);
  await desk.until('call:handled_elsewhere', { callId: second.id });
  await phone.until('call:handled_elsewhere', { callId: second.id });
  await a.end(second);
  await b.refused(400, 'invalid_request', 'POST', `/${second.id}/join`, {}, { 'x-device-id': 'a b' });
});

test('an explicit call:ringing tells the initiator too, once', async () => {
  const [[a, caller], [b, phone]] = await patient.connectedPeople(2);
  phone.rings = false;
  const call = await a.start(b);
  await phone.until('call:incoming');
  assert.equal((await b.standing(call)).connectionState, 'invited');
  await phone.do('call:ringing', { callId: call.id });
  await phone.do('call:ringing', { callId: call.id });
  await caller.until('call:ringing', { userId: b.id });
  assert.equal((await b.standing(call)).connectionState, 'ringing');
  await a.end(call);
  await caller.until('call:ended');
  assert.equal(caller.all('call:ringing').length, 1);
});

test('declining a call of two ends it; the decliner hears the decline, and no more', async () => {
  const [[a, caller], [b, phone]] = await patient.connectedPeople(2);
  const desk = await b.connect();
  const call = await a.start(b);
  await phone.until('call:incoming');
  await phone.do('call:decline', { callId: call.id });
  await caller.until('call:declined', { callId: call.id, userId: b.id });
  const ended = await caller.until('call:ended', { callId: call.id });
  assert.deepEqual([ended.state, ended.reason, ended.userId], ['declined', 'declined', b.id]);
  await desk.until('call:declined', { userId: b.id });
  await phone.until('call:declined', { userId: b.id });
  assert.deepEqual(await over(b, call), ['declined', 'declined']);
  // A call of their own comes after whatever else was on its way.
  const next = await a.start(b);
  await desk.until('call:incoming', { callId: next.id });
  assert.deepEqual(desk.heard(call.id), ['call:incoming', 'call:declined']);
  await a.end(next);
});

test('one who is being rung and ends declines; REST and socket alike', async () => {
  const [[a, caller], [b, phone]] = await patient.connectedPeople(2);
  const first = await a.start(b);
  await b.end(first);
  await caller.until('call:declined', { callId: first.id });
  const second = await a.start(b);
  await phone.do('call:end', { callId: second.id, reason: 'normal' });
  await caller.until('call:declined', { callId: second.id });
  assert.deepEqual(await over(a, second), ['declined', 'declined']);
});

test('a decline after an answer changes nothing', async () => {
  const { a, b, call, deviceB } = await patient.callOfTwo();
  await deviceB.do('call:decline', { callId: call.id });
  assert.equal((await a.details(call)).call.state, 'connected');
  await b.end(call);
});

test('nobody answers: missed, with no answer', async () => {
  const [[a, caller], [b, phone]] = await world.connectedPeople(2);
  const call = await a.start(b);
  const begun = Date.now();
  await caller.until('call:participant_updated', (it) => it.participant.connectionState === 'missed');
  const ended = await phone.until('call:ended', { callId: call.id });
  assert.deepEqual([ended.state, ended.reason, ended.duration], ['missed', 'no_answer', null]);
  assert.ok(Date.now() - begun < RING * 1000 + 500, 'the deadline is kept to half a second');
  assert.deepEqual(await over(b, call), ['missed', 'no_answer']);
  await b.refused(410, 'call_over', 'POST', `/${call.id}/join`);
});

test('the caller hangs up while it rings: cancelled', async () => {
  const [[a, caller], [b, phone]] = await patient.connectedPeople(2);
  const call = await a.start(b);
  await phone.until('call:incoming');
  await caller.do('call:end', { callId: call.id });
  await phone.until('call:cancelled', { callId: call.id, userId: a.id });
  const ended = await phone.until('call:ended', { callId: call.id });
  assert.deepEqual([ended.state, ended.reason, ended.userId], ['cancelled', 'cancelled', a.id]);
  await caller.until('call:ended', { callId: call.id });
  assert.deepEqual(await over(b, call), ['cancelled', 'cancelled']);
});

test('a caller who loses all sockets while it rings, and does not come back: cancelled by the network', async () => {
  const lossy = await World.open({ RECONNECT_GRACE: '1' });
  const [[a, caller], [b, phone]] = await lossy.connectedPeople(2);
  const call = await a.start(b);
  await phone.until('call:incoming');
  caller.cut();
  const ended = await phone.until('call:ended', { callId: call.id });
  assert.deepEqual([ended.state, ended.reason], ['cancelled', 'network_error']);
  assert.deepEqual(await over(b, call), ['cancelled', 'network_error']);
});

test('being rung is not busy: two calls ring one person, each until its own deadline', async () => {
  const [a, b, c] = world.people(3);
  const phone = await c.connect();
  const first = await a.start(c);
  const second = await b.start(c);
  await phone.until('call:incoming', { callId: first.id });
  await phone.until('call:incoming', { callId: second.id });
  await phone.until('call:ended', { callId: first.id, reason: 'no_answer' });
  await phone.until('call:ended', { callId: second.id, reason: 'no_answer' });
});

test('one whose other call rings on joins it after the first is over, not before', async () => {
  const [a, b, c] = patient.people(3);
  const first = await a.start(c);
  const second = await b.start(c);
  await c.join(first);
  const refused = await c.refused(409, 'already_in_call', 'POST', `/${second.id}/join`);
  assert.deepEqual(refused.data, { callId: first.id });
  await c.end(first);
  await c.join(second);
  assert.deepEqual(await over(a, first), ['ended', 'normal']);
  assert.equal((await b.details(second)).call.state, 'connected');
  await b.end(second);
});

test('both call each other: the second start answers with the first call, as a join', async () => {
  const [[a, deviceA], [b]] = await patient.connectedPeople(2);
  const first = await a.start(b, { type: 'video' });
  const { status, body } = await b.rest('POST', '/start', {
    type: 'audio',
    participantIds: [a.id],
    videoEnabled: false,
    audioEnabled: false,
  });
  assert.deepEqual([status, body.data.call.id, body.data.call.type], [200, first.id, 'video']);
  const joined = await deviceA.until('call:participant_joined', { userId: b.id });
  assert.deepEqual([joined.participant.videoEnabled, joined.participant.audioEnabled], [false, false]);
  await deviceA.until('call:state_changed', { state: 'connected' });
  await a.end(first);
  assert.equal((await b.want('GET', '/history')).pagination.total, 1);
});

test('glare is looked at before busy: the one who is rung by me and calls me is not told that I am busy', async () => {
  const [a, b] = patient.people(2);
  const call = await a.start(b);
  const { status } = await b.rest('POST', '/start', { type: 'video', participantIds: [a.id] });
  assert.equal(status, 200);
  await a.end(call);
});

test('both call each other at the very same time, thirty times: one call each time', async () => {
  for (let round = 0; round < 30; round += 1) {
    const [a, b] = patient.people(2);
    const begin = (from, to) => from.rest('POST', '/start', { type: 'audio', participantIds: [to.id] });
    const answers = await Promise.all([begin(a, b), begin(b, a)]);
    assert.deepEqual(answers.map((it) => it.status).sort(), [200, 201], `round ${round}`);
    const [one, other] = answers.map((it) => it.body.data.call.id);
    assert.equal(one, other, `round ${round}`);
    const { call, participants } = await a.details(one);
    assert.equal(call.state, 'connected');
    assert.deepEqual(
      participants.map((it) => it.connectionState),
      ['connected', 'connected'],
    );
    await a.end(one);
  }
});

test('of two starts by one user at the same time, one is already in a call', async () => {
  for (let round = 0; round < 20; round += 1) {
    const [a, b, c] = patient.people(3);
    const begin = (to) => a.rest('POST', '/start', { type: 'audio', participantIds: [to.id] });
    const statuses = (await Promise.all([begin(b), begin(c)])).map((it) => it.status).sort();
    assert.deepEqual(statuses, [201, 409], `round ${round}`);
  }
});
