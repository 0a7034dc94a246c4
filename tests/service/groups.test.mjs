// Calls of more than two: who is in, who may come, who has to go.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inTime } from '../support/patience.mjs';
import { World } from '../support/world.mjs';

const world = await World.open({ RINGING_TIMEOUT: '2', ALONE_TIMEOUT: '1' });
const patient = await World.open({ MAX_CALL_PARTICIPANTS: '8' });
const small = await World.open({ MAX_CALL_PARTICIPANTS: '3' });

const state = async (person, call, of) => {
  const { participants } = await person.details(call);
  return participants.find((it) => it.userId === of.id).connectionState;
};
test('one declines, one answers, one misses; who declined or missed may still join', async () => {
  const [[a, deviceA], [b], [c], [d, deviceD]] = await world.connectedPeople(4);
  const call = await a.start([b, c, d]);
  assert.equal(call.isGroup, true);
  await b.join(call);
  await c.rest('POST', `/${call.id}/end`);
  await deviceA.until('call:declined', { userId: c.id });
  assert.equal((await a.details(call)).call.state, 'connected');
  await deviceA.until(
    'call:participant_updated',
    (it) => it.userId === d.id && it.participant.connectionState === 'missed',
  );
  await deviceD.until('call:participant_updated', { userId: d.id });
  await c.join(call);
  await d.join(call);
  assert.deepEqual(
    (await a.details(call)).participants.map((it) => it.connectionState),
    Array(4).fill('connected'),
  );
  await a.end(call);
});

test('all decline: declined; one of them missed: missed', async () => {
  const [[a, deviceA], [b], [c]] = await world.connectedPeople(3);
  const first = await a.start([b, c]);
  await b.end(first);
  await c.end(first);
  const ended = await deviceA.until('call:ended', { callId: first.id });
  assert.deepEqual([ended.state, ended.reason], ['declined', 'declined']);
  const second = await a.start([b, c]);
  await b.end(second);
  const missed = await deviceA.until('call:ended', { callId: second.id });
  assert.deepEqual([missed.state, missed.reason], ['missed', 'no_answer']);
  assert.deepEqual([await state(a, second, b), await state(a, second, c)], ['declined', 'missed']);
});

test('busy people are not rung and named as unavailable; all busy is busy', async () => {
  const { a: x, b: y, call: other } = await patient.callOfTwo({ connect: false });
  const [[a, deviceA], [b, deviceB]] = await patient.connectedPeople(2);
  const deviceX = await x.connect();
  const { call, unavailable } = await a.want('POST', '/start', {
    type: 'audio',
    participantIds: [b.id, x.id],
  });
  assert.deepEqual(unavailable, [{ userId: x.id, why: 'busy' }]);
  assert.equal(await state(a, call, x), 'busy');
  await deviceB.until('call:incoming', { callId: call.id });
  await a.end(call);
  await deviceA.until('call:ended', { callId: call.id });
  assert.deepEqual(
    deviceX.heard(call.id).filter((it) => it === 'call:incoming'),
    [],
  );
  const { data } = await a.refused(409, 'busy', 'POST', '/start', {
    type: 'audio',
    participantIds: [x.id, y.id],
  });
  assert.deepEqual([data.call.state, data.call.endReason, data.call.isGroup], ['busy', 'busy', true]);
  await x.end(other);
});

test('who left may join again while the call lives', async () => {
  const [[a, deviceA], [b], [c]] = await patient.connectedPeople(3);
  const call = await a.start([b, c]);
  await b.join(call);
  await c.join(call);
  await b.end(call);
  await deviceA.until('call:participant_left', { userId: b.id, reason: 'left' });
  assert.notEqual((await b.standing(call)).leftAt, null);
  await b.join(call);
  await deviceA.until('call:participant_joined', { userId: b.id });
  await deviceA.until(
    'call:participant_joined',
    (it) => it.userId === b.id && it.participant.leftAt === null,
  );
  assert.equal((await b.standing(call)).leftAt, null);
  assert.equal(deviceA.all('call:accepted').length, 2);
  await a.end(call);
});

test('one who leaves hears the own leaving, and then the end only', async () => {
  const [[a, deviceA], [b, deviceB], [c]] = await patient.connectedPeople(3);
  const call = await a.start([b, c]);
  await b.join(call);
  await c.join(call);
  await deviceB.do('call:end', { callId: call.id });
  await deviceB.until('call:participant_left', { userId: b.id });
  await deviceA.do('call:toggle_audio', { callId: call.id, enabled: false });
  await deviceA.until('call:participant_updated', { userId: a.id });
  await deviceA.do('call:end', { callId: call.id });
  await deviceB.until('call:ended', { callId: call.id });
  const since = deviceB.heard(call.id).lastIndexOf('call:participant_left');
  assert.deepEqual(deviceB.heard(call.id).slice(since), ['call:participant_left', 'call:ended']);
});

test('the last one of a group waits for ALONE_TIMEOUT, but not while somebody is being rung', async () => {
  const [[a, deviceA], [b], [c]] = await world.connectedPeople(3);
  const call = await a.start([b, c]);
  await b.join(call);
  await c.end(call);
  await b.end(call);
  const begun = Date.now();
  await deviceA.until('call:participant_left', { userId: b.id });
  const ended = await deviceA.until('call:ended', { callId: call.id });
  assert.deepEqual([ended.state, ended.reason], ['ended', 'normal']);
  const took = Date.now() - begun;
  assert.ok(took > 800, `alone for ${took} ms`);
  inTime(took, 1800, 'being alone');

  const second = await a.start([b, c]);
  await b.join(second);
  await b.end(second);
  // c still rings, for the two seconds of this service: being alone counts from then.
  await deviceA.until('call:participant_updated', (it) => it.userId === c.id && it.callId === second.id);
  assert.equal((await a.details(second)).call.endedAt, null);
  await deviceA.until('call:ended', { callId: second.id });
});

test('the cap is exact: of fifty who join at once, as many get in as there are places', async () => {
  const [host, ...guests] = patient.people(51);
  const device = await host.connect();
  const call = await host.start(guests.slice(0, 7), { ring: 'none' });
  for (let from = 7; from < guests.length; from += 7) {
    const batch = guests.slice(from, from + 7);
    await device.do('call:invite', { callId: call.id, participantIds: batch.map((it) => it.id) });
    await Promise.all(batch.map((it) => it.end(call)));
  }
  const answers = await Promise.all(guests.map((it) => it.rest('POST', `/${call.id}/join`)));
  const codes = answers.map((it) => it.body.code ?? it.status);
  const count = (what) => codes.filter((it) => it === what).length;
  assert.deepEqual([count(200), count('call_full')], [7, guests.length - 7]);
  const { participants } = await host.details(call);
  assert.equal(participants.filter((it) => it.connectionState === 'connected').length, 8);
  await host.end(call);
});

test('invite makes a group of two for good, rings, and counts who is rung against the cap', async () => {
  const [[a, deviceA], [b], [c, deviceC], [d]] = await small.connectedPeople(4);
  const call = await a.start(b);
  await b.join(call);
  assert.equal(call.isGroup, false);
  const answer = await deviceA.do('call:invite', { callId: call.id, participantIds: [c.id] });
  assert.deepEqual(answer, { unavailable: [] });
  const { invitation } = await deviceC.until('call:incoming', { callId: call.id });
  assert.deepEqual([invitation.isGroup, invitation.initiatorId], [true, a.id]);
  await deviceA.until('call:participant_updated', { userId: c.id });
  const full = await deviceA.ask('call:invite', { callId: call.id, participantIds: [d.id] });
  assert.equal(full.code, 'call_full');
  await c.end(call);
  assert.equal((await a.details(call)).call.isGroup, true);
  await deviceA.do('call:invite', { callId: call.id, participantIds: [c.id] });
  await deviceC.until('call:incoming', { callId: call.id });
  await c.join(call);
  await d.refused(403, 'not_invited', 'POST', `/${call.id}/join`);
  await a.end(call);
});

test("the seed's invitation is understood, the rest of it is the service's", async () => {
  const [[a, deviceA], [b], [c, third]] = await patient.connectedPeople(3);
  const call = await a.start(b);
  await deviceA.do('call:invite', {
    callId: call.id,
    invitation: { participants: [c.id], initiatorId: 'somebody else', type: 'fax', roomId: 'elsewhere' },
  });
  const { invitation } = await third.until('call:incoming');
  assert.deepEqual(
    [invitation.initiatorId, invitation.type, invitation.roomId],
    [a.id, 'video', call.roomId],
  );
  await a.end(call);
});

test('a removed participant hears it, may not come back, and gets no token', async () => {
  const [[a, deviceA], [b, deviceB], [c, deviceC]] = await patient.connectedPeople(3);
  const call = await a.start([b, c]);
  await b.join(call);
  await c.join(call);
  const notAllowed = await deviceB.ask('call:remove_participant', { callId: call.id, userId: c.id });
  assert.equal(notAllowed.code, 'forbidden');
  await deviceA.do('call:remove_participant', { callId: call.id, userId: c.id });
  for (const device of [deviceA, deviceB, deviceC]) {
    await device.until('call:participant_left', { userId: c.id, reason: 'removed' });
  }
  await c.refused(403, 'removed', 'POST', `/${call.id}/join`);
  await c.refused(403, 'removed', 'POST', `/${call.id}/token`);
  await c.end(call);
  const { unavailable } = await deviceA.do('call:invite', { callId: call.id, participantIds: [c.id] });
  assert.deepEqual(unavailable, [{ userId: c.id, why: 'removed' }]);
  await a.end(call);
  await deviceB.until('call:ended');
  assert.equal(deviceC.heard(call.id).at(-1), 'call:participant_left');
  const oneself = await deviceA.ask('call:remove_participant', { callId: call.id, userId: a.id });
  assert.equal(oneself.success, false);
});

test('the initiator leaves a group only by ending it for all', async () => {
  const [[a], [b, deviceB], [c, deviceC]] = await patient.connectedPeople(3);
  const call = await a.start([b, c]);
  await b.join(call);
  await c.join(call);
  await a.end(call);
  for (const device of [deviceB, deviceC]) {
    const ended = await device.until('call:ended');
    assert.deepEqual([ended.state, ended.reason, ended.userId], ['ended', 'normal', a.id]);
    assert.equal(typeof ended.duration, 'number');
  }
});

test('eight who all change at once: everyone hears the same story in the same order', async () => {
  const all = await patient.connectedPeople(8);
  const [[a, deviceA], ...others] = all;
  const call = await a.start(
    others.map(([it]) => it),
    { ring: 'none' },
  );
  await Promise.all(others.map(([it]) => it.join(call)));
  await Promise.all(
    all.flatMap(([, device]) =>
      Array.from({ length: 25 }, (_, index) =>
        device.do('call:toggle_audio', { callId: call.id, enabled: index % 2 === 1 }),
      ),
    ),
  );
  await deviceA.do('call:end', { callId: call.id });
  const stories = await Promise.all(
    all.map(async ([, device]) => {
      await device.until('call:ended', { callId: call.id });
      const told = device.log.filter((it) => it.data?.callId === call.id);
      return told.map((it) => `${it.data.seq} ${it.event}`);
    }),
  );
  const toggles = stories[0].filter((it) => it.includes('call:participant_updated'));
  assert.equal(toggles.length, 8 * 25);
  for (const story of stories) assert.deepEqual(story, stories[0]);
});
