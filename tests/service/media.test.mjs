// Toggles, quality, and how long a call may last.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { inTime } from '../support/patience.mjs';
import { World } from '../support/world.mjs';

const world = await World.open();
const short = await World.open({ MAX_CALL_DURATION: '2' });

const SWITCHES = [
  ['call:toggle_audio', 'audioEnabled'],
  ['call:toggle_video', 'videoEnabled'],
  ['call:toggle_screen_share', 'screenShareEnabled'],
];

test('each switch changes its own setting, and all hear the whole participant', async () => {
  const { a, b, call, deviceA, deviceB } = await world.callOfTwo();
  for (const [event, field] of SWITCHES) {
    for (const enabled of [true, false]) {
      const before = await b.standing(call);
      await deviceB.do(event, { callId: call.id, enabled });
      const after = await b.standing(call);
      assert.deepEqual({ ...before, [field]: enabled }, after);
      if (before[field] === enabled) continue;
      for (const device of [deviceA, deviceB]) {
        const { participant } = await device.until('call:participant_updated', { userId: b.id });
        assert.deepEqual(participant, after);
      }
    }
  }
  await a.end(call);
});

test('a switch without a value, or of another type, is refused by name', async () => {
  const { call, deviceA } = await world.callOfTwo();
  for (const [event] of SWITCHES) {
    const missing = await deviceA.ask(event, { callId: call.id });
    assert.equal(missing.error, 'enabled: expected true or false, found nothing');
    const wrong = await deviceA.ask(event, { callId: call.id, enabled: 1 });
    assert.deepEqual(
      [wrong.code, wrong.error],
      ['invalid_request', 'enabled: expected true or false, found 1'],
    );
  }
});

test('PATCH is heard as a switch is', async () => {
  const { a, call, deviceB } = await world.callOfTwo();
  await a.want('PATCH', `/${call.id}/participant`, { audioEnabled: false, screenShareEnabled: true });
  const { participant } = await deviceB.until('call:participant_updated', { userId: a.id });
  assert.deepEqual([participant.audioEnabled, participant.screenShareEnabled], [false, true]);
});

test('the initiator turns off what another sends, and never on', async () => {
  const { a, b, call, deviceA, deviceB } = await world.callOfTwo();
  await deviceB.do('call:toggle_screen_share', { callId: call.id, enabled: true });
  const userId = b.id;
  for (const [source, field] of [
    [undefined, 'audioEnabled'],
    ['video', 'videoEnabled'],
    ['screen_share', 'screenShareEnabled'],
  ]) {
    await deviceA.do('call:mute_participant', { callId: call.id, userId, source });
    for (const device of [deviceA, deviceB]) {
      await device.until('call:participant_updated', (it) => it.participant[field] === false);
    }
    await deviceA.do('call:mute_participant', { callId: call.id, userId, source });
  }
  const { audioEnabled, videoEnabled, screenShareEnabled } = await b.standing(call);
  assert.deepEqual([audioEnabled, videoEnabled, screenShareEnabled], [false, false, false]);
  const wrong = await deviceA.ask('call:mute_participant', { callId: call.id, userId, source: 'mouth' });
  assert.deepEqual(
    [wrong.code, wrong.error],
    ['invalid_request', 'source: expected audio, video or screen_share, found "mouth"'],
  );
  const nobody = await deviceA.ask('call:mute_participant', { callId: call.id });
  assert.equal(nobody.code, 'invalid_request');
  await a.end(call);
});

const sample = (callId, jitter, packetLoss, roundTripTime) => ({
  callId,
  jitter,
  packetLoss,
  roundTripTime,
  bandwidth: 1500,
});

test('quality is rated; only changes are told, to those who have joined', async () => {
  const { a, b, call, deviceA, deviceB } = await world.callOfTwo();
  const steps = [
    [[15.5, 0.5, 99], 'excellent', null],
    [[19.9, 0.9, 99.9], 'excellent', undefined],
    [[20, 0.5, 50], 'good', 'excellent'],
    [[10, 3, 50], 'fair', 'good'],
    [[10, 0, 300], 'poor', 'fair'],
    [[59, 4.9, 299], 'fair', 'poor'],
    [[1, 0, 1], 'excellent', 'fair'],
  ];
  for (const [[jitter, loss, trip], quality, previous] of steps) {
    await deviceB.do('call:quality_update', sample(call.id, jitter, loss, trip));
    if (previous === undefined) continue;
    const { seq, timestamp, ...changed } = await deviceA.until('call:quality_changed');
    assert.ok(seq > 0 && timestamp);
    assert.deepEqual(changed, { callId: call.id, userId: b.id, quality, previous });
  }
  assert.equal(deviceB.all('call:quality_changed').length, steps.length - 1);
  assert.equal((await b.standing(call)).connectionQuality, 'excellent');
  const { participants } = await a.want('GET', `/${call.id}/quality`);
  const [of] = participants.filter((it) => it.userId === b.id);
  assert.equal(of.samples, steps.length);
  assert.ok(of.meanOpinionScore >= 1 && of.meanOpinionScore <= 5);
  assert.deepEqual(of.roundTripTime.maximum, 300);
  const c = world.person();
  await c.refused(403, 'forbidden', 'GET', `/${call.id}/quality`);
  await a.end(call);
  assert.deepEqual((await b.want('GET', `/${call.id}/quality`)).participants, participants);
});

for (const [what, change, error] of [
  ['no jitter', { jitter: undefined }, 'jitter: expected a number from 0 to 60000, found nothing'],
  ['a negative loss', { packetLoss: -1 }, 'packetLoss: expected a number from 0 to 100, found -1'],
  ['a loss above all', { packetLoss: 101 }, 'packetLoss: expected a number from 0 to 100, found 101'],
  ['a text', { roundTripTime: '1' }, 'roundTripTime: expected a number from 0 to 60000, found "1"'],
]) {
  test(`a sample with ${what} is refused by name`, async () => {
    const { call, deviceA } = await world.callOfTwo();
    const answer = await deviceA.ask('call:quality_update', { ...sample(call.id, 1, 1, 1), ...change });
    assert.deepEqual([answer.code, answer.error], ['invalid_request', error]);
  });
}

test('call:connected from one who has joined is fine, from others not', async () => {
  const [[a], [b, deviceB], [, deviceC]] = await world.connectedPeople(3);
  const call = await a.start(b);
  assert.equal((await deviceB.ask('call:connected', { callId: call.id })).code, 'not_joined');
  await b.join(call);
  await deviceB.do('call:connected', { callId: call.id });
  assert.equal((await deviceC.ask('call:connected', { callId: call.id })).code, 'forbidden');
  await a.end(call);
});

test('a call ends at its maximum, counted from its connection, after a warning', async () => {
  const { a, call, deviceA, deviceB } = await short.callOfTwo();
  const { startedAt } = (await a.details(call)).call;
  for (const device of [deviceA, deviceB]) {
    const { endsAt } = await device.until('call:ending_soon', { callId: call.id });
    assert.equal(new Date(endsAt) - new Date(startedAt), 2000);
  }
  const ended = await deviceB.until('call:ended', { callId: call.id });
  assert.deepEqual([ended.state, ended.reason, ended.duration], ['ended', 'timeout', 2]);
  const late = Date.now() - new Date(startedAt);
  assert.ok(late >= 1990, `ended after ${late} ms`);
  inTime(late, 2700, 'the call');
  await a.refused(410, 'call_over', 'POST', `/${call.id}/token`);
});

test('the duration is that of the connection, in seconds', async () => {
  const { a, call } = await world.callOfTwo({ connect: false });
  await pause(1100);
  await a.end(call);
  const { call: past, participants } = await a.details(call);
  assert.equal(past.duration, 1);
  assert.ok(participants.every((it) => it.duration === 1));
});
