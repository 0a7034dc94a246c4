// Networks that fail: grace, what a device is told when it is back, and restarts of the service.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { inTime } from '../support/patience.mjs';
import { World } from '../support/world.mjs';

const GRACE = 1;
const world = await World.open({ RECONNECT_GRACE: String(GRACE) });
const patient = await World.open();

const lost = (userId) => (it) => it.userId === userId && it.participant.connectionState === 'reconnecting';
const back = (userId) => (it) => it.userId === userId && it.participant.connectionState === 'connected';

test('a lost participant is expected back, and comes back in time', async () => {
  const { a, b, call, deviceA, deviceB } = await patient.callOfTwo();
  deviceB.cut();
  await deviceA.until('call:participant_updated', lost(b.id));
  await deviceA.until('call:state_changed', { state: 'reconnecting' });
  assert.equal((await a.details(call)).call.state, 'reconnecting');
  const again = await b.connect();
  await deviceA.until('call:participant_updated', back(b.id));
  await deviceA.until('call:state_changed', { state: 'connected' });
  const [synced] = again.sync.calls;
  assert.deepEqual([again.sync.calls.length, synced.call.id, synced.participants.length], [1, call.id, 2]);
  assert.match(again.sync.timestamp, /Z$/);
  await a.end(call);
});

test('who does not come back in time has left: a call of two ends by the network', async () => {
  const { b, call, deviceA, deviceB } = await world.callOfTwo();
  const begun = Date.now();
  deviceB.cut();
  await deviceA.until('call:participant_updated', lost(b.id));
  await deviceA.until('call:participant_left', { userId: b.id, reason: 'network_error' });
  const ended = await deviceA.until('call:ended', { callId: call.id });
  assert.deepEqual([ended.state, ended.reason], ['ended', 'network_error']);
  const took = Date.now() - begun;
  assert.ok(took >= GRACE * 1000 - 100, `after ${took} ms`);
  inTime(took, GRACE * 1000 + 800);
});

test('another device of the same user keeps the user in the call', async () => {
  const { a, b, call, deviceA, deviceB } = await world.callOfTwo();
  const second = await b.connect();
  deviceB.cut();
  await pause(GRACE * 1000 + 300);
  assert.equal((await a.details(call)).call.state, 'connected');
  second.cut();
  await deviceA.until('call:participant_updated', lost(b.id));
  await deviceA.until('call:ended', { reason: 'network_error' });
});

test('one who never had a socket cannot lose it', async () => {
  const [a, b] = world.people(2);
  const call = await a.start(b);
  await b.join(call);
  await pause(GRACE * 1000 + 300);
  assert.equal((await a.details(call)).call.state, 'connected');
  await a.end(call);
});

test('a group goes on when one of three is lost', async () => {
  const [[a, deviceA], [b], [c, deviceC]] = await world.connectedPeople(3);
  const call = await a.start([b, c]);
  await b.join(call);
  await c.join(call);
  deviceC.cut();
  await deviceA.until('call:participant_left', { userId: c.id, reason: 'network_error' });
  assert.equal((await a.details(call)).call.state, 'connected');
  await c.join(call);
  assert.equal((await c.standing(call)).connectionState, 'connected');
  await a.end(call);
});

test('call:sync comes on every connect, also when there is nothing to tell', async () => {
  const device = await patient.person().connect();
  assert.deepEqual(device.sync.calls, []);
  assert.equal(device.log[0].event, 'call:sync');
});

test('one who connects while being rung is rung by call:sync', async () => {
  const [a, b] = patient.people(2);
  const call = await a.start(b);
  const device = await b.connect();
  const [{ invitation, call: synced }] = device.sync.calls;
  assert.deepEqual([synced.id, invitation.callId, invitation.initiatorId], [call.id, call.id, a.id]);
  await device.do('call:accept', { callId: call.id });
  await a.end(call);
});

test('call:resume gives the events after the last one seen that were meant for this user', async () => {
  const { a, b, call, deviceA, deviceB } = await patient.callOfTwo();
  await deviceB.until('call:state_changed', { state: 'connected' });
  const last = Math.max(...deviceB.log.map((it) => it.data?.seq ?? 0));
  deviceB.close();
  await deviceA.do('call:toggle_audio', { callId: call.id, enabled: false });
  await deviceA.do('call:toggle_video', { callId: call.id, enabled: false });
  const again = await b.connect();
  const resumed = await again.do('call:resume', { callId: call.id, lastSeq: last });
  assert.equal(resumed.mode, 'events');
  const names = resumed.events.map((it) => it.event);
  const own = resumed.events.filter(
    (it) => it.data.userId === a.id && it.event === 'call:participant_updated',
  );
  assert.equal(own.length, 2, names.join());
  assert.deepEqual(
    [own[0].data.participant.audioEnabled, own[1].data.participant.videoEnabled],
    [false, false],
  );
  const seqs = resumed.events.map((it) => it.data.seq);
  assert.deepEqual(
    seqs,
    [...seqs].sort((x, y) => x - y),
  );
  assert.ok(seqs.every((it) => it > last));
  // What was told live is told again in the same words.
  const live = deviceA.log
    .filter((it) => own.some((told) => told.data.seq === it.data?.seq))
    .map((it) => it.data);
  assert.deepEqual(
    live,
    own.map((it) => it.data),
  );
  const nothing = await again.do('call:resume', { callId: call.id, lastSeq: Math.max(...seqs) });
  assert.ok(nothing.events.every((it) => it.data.seq > Math.max(...seqs)));
  const ahead = await again.do('call:resume', { callId: call.id, lastSeq: 1_000_000 });
  assert.deepEqual([ahead.mode, ahead.call.id, ahead.participants.length], ['state', call.id, 2]);
  await a.end(call);
  const past = await again.do('call:resume', { callId: call.id, lastSeq: Math.max(...seqs) });
  assert.equal(past.events.at(-1).event, 'call:ended');
});

test('call:resume of a long story gives the state, and is refused to outsiders and by name', async () => {
  const { call, deviceA } = await patient.callOfTwo();
  for (let count = 0; count < 205; count += 1) {
    deviceA.tell('call:toggle_audio', { callId: call.id, enabled: count % 2 === 1 });
  }
  await deviceA.do('call:toggle_video', { callId: call.id, enabled: false });
  const long = await deviceA.do('call:resume', { callId: call.id, lastSeq: 0 });
  assert.deepEqual([long.mode, long.call.id], ['state', call.id]);
  const outsider = await patient.person().connect();
  assert.equal((await outsider.ask('call:resume', { callId: call.id, lastSeq: 0 })).code, 'forbidden');
  const wrong = await deviceA.ask('call:resume', { callId: call.id, lastSeq: -1 });
  assert.equal(wrong.error, 'lastSeq: expected a whole number from 0, found -1');
});

test('after a restart live calls go on with the time that remained, and the grace counts from then', async () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'call-service-'));
  after(() => rmSync(dataDir, { recursive: true, force: true }));
  const env = { RINGING_TIMEOUT: '3', RECONNECT_GRACE: '2' };
  const before = await World.start(env, { dataDir });
  const begun = Date.now();
  const [[b], [c, deviceC]] = await before.connectedPeople(2);
  // Neither a nor d ever had a socket, so neither can lose it.
  const [a, d] = before.people(2);
  const ringing = await a.start(b);
  const connected = await c.start(d);
  await d.join(connected);
  await deviceC.until('call:state_changed', { state: 'connected' });
  await before.service.crash();
  const again = await World.start(env, { dataDir });
  for (const person of [a, b, c, d]) person.world = again;
  const device = await b.connect();
  assert.deepEqual(
    device.sync.calls.map((it) => it.call.id),
    [ringing.id],
  );
  assert.equal((await c.details(connected)).call.state, 'connected');
  const back = await d.connect();
  const ended = await device.until('call:ended', { callId: ringing.id });
  const took = Date.now() - begun;
  assert.ok(took > 2900 && took < 4000, `rang for ${took} ms in all`);
  assert.deepEqual([ended.state, ended.reason], ['missed', 'no_answer']);
  // c had a socket and does not come back.
  await back.until('call:participant_left', { userId: c.id, reason: 'network_error' });
  await back.until('call:ended', { callId: connected.id, reason: 'network_error' });
  await again.close();
});
