// What is bounded: rates with a Retry-After, sizes, and readers that do not read.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import WebSocket from 'ws';
import { tokenFor } from '../support/tokens.mjs';
import { eventually, World } from '../support/world.mjs';

const world = await World.open({ RATE_LIMITS: null });
const free = await World.open();

const start = (from, to) => from.rest('POST', '/start', { type: 'audio', participantIds: [to.id ?? to] });
const limited = (answer, secondsMax) => {
  assert.deepEqual([answer.status, answer.body.code], [429, 'rate_limited'], JSON.stringify(answer.body));
  const wait = Number(answer.headers.get('retry-after'));
  assert.ok(Number.isInteger(wait) && wait >= 1 && wait <= secondsMax, `Retry-After: ${wait}`);
};

test('three starts at once, then 429 with Retry-After; others are not concerned', async () => {
  const [a, b, c] = world.people(3);
  for (let count = 0; count < 3; count += 1) {
    const { status, body } = await start(a, b);
    assert.equal(status, 201);
    await a.end(body.data.call);
  }
  limited(await start(a, b), 10);
  assert.equal((await start(c, b)).status, 201);
});

test('a start that is repeated by its key is not limited', async () => {
  const [a, b] = world.people(2);
  const headers = { 'idempotency-key': 'k' };
  const body = { type: 'audio', participantIds: [b.id] };
  for (let count = 0; count < 6; count += 1) {
    assert.ok((await a.rest('POST', '/start', body, headers)).status < 300);
  }
});

test('reads, history, tokens and leaves have limits of their own', async () => {
  const [a, b] = world.people(2);
  const { body } = await start(a, b);
  const call = body.data.call.id;
  for (const [method, path, burst, wait] of [
    ['GET', '/active', 40, 1],
    ['GET', '/history', 2, 1],
    ['POST', `/${call}/token`, 12, 5],
    ['PATCH', `/${call}/participant`, 20, 1],
    ['POST', `/${call}/end`, 30, 2],
  ]) {
    const person = path === `/${call}/end` ? b : a;
    const patch = method === 'PATCH' ? { audioEnabled: false } : undefined;
    const answers = await Promise.all(
      Array.from({ length: burst * 2 }, () => person.rest(method, path, patch)),
    );
    const refused = answers.filter((it) => it.status === 429);
    assert.ok(refused.length > 0 && refused.length <= burst, `${path}: ${refused.length} of ${burst * 2}`);
    limited(refused[0], wait);
  }
});

test('an event over its rate is refused by ack, and who keeps on is put out', async () => {
  const { a, b, call } = await free.callOfTwo();
  const strict = await World.open({
    RATE_LIMITS: null,
    RATE_LIMIT_EVENT: '1/1min:3',
    RATE_LIMIT_VIOLATION: '1/1min:2',
  });
  const device = await strict.person().connect();
  for (let count = 0; count < 3; count += 1) {
    assert.equal((await device.ask('call:end', { callId: call.id })).code, 'not_found');
  }
  const refused = await device.ask('call:end', { callId: call.id });
  assert.deepEqual([refused.success, refused.code], [false, 'rate_limited']);
  device.tell('call:end', { callId: call.id });
  await device.until('call:error', { code: 'rate_limited', event: 'call:end' });
  device.tell('call:end', { callId: call.id });
  await device.until('disconnect');
  await a.end(call);
  assert.ok(b);
});

test('many bad tokens from one address are 429 after ten', async () => {
  const strict = await World.open({ RATE_LIMITS: null });
  const bad = { authorization: `Bearer ${tokenFor('u', { secret: 'x'.repeat(40) })}` };
  const statuses = [];
  for (let count = 0; count < 12; count += 1) {
    statuses.push((await strict.http('/api/v1/calls/active', { headers: bad })).status);
  }
  assert.deepEqual(statuses, [...Array(10).fill(401), 429, 429]);
});

test('one caller rings the same person so often only; no more than five calls ring one person at once', async () => {
  const b = world.person();
  const rung = [];
  for (let count = 0; count < 6; count += 1) rung.push(await start(world.person(), b));
  assert.deepEqual(
    rung.map((it) => it.status),
    [201, 201, 201, 201, 201, 429],
  );
  limited(rung[5], 60);
  const [a, c] = world.people(2);
  const both = await a.rest('POST', '/start', { type: 'audio', participantIds: [b.id, c.id] });
  assert.deepEqual(both.body.data.unavailable, [{ userId: b.id, why: 'rate_limited' }]);
});

test('RATE_LIMITS=off lifts the rates', async () => {
  const [a, b] = free.people(2);
  for (let count = 0; count < 30; count += 1) {
    const { status, body } = await start(a, b);
    assert.equal(status, 201);
    await a.end(body.data.call);
  }
});

test('a message over 64 KiB ends the socket that sent it, and nothing else', async () => {
  const { a, b, call, deviceA, deviceB } = await free.callOfTwo();
  deviceA.tell('webrtc:offer', { callId: call.id, targetUserId: b.id, offer: 'x'.repeat(70_000) });
  await deviceA.until('disconnect');
  await deviceB.settled();
  assert.deepEqual(deviceB.all('webrtc:offer'), []);
  await a.end(call);
});

test('binary is refused', async () => {
  const { call, deviceA } = await free.callOfTwo();
  const answer = await deviceA.ask('call:end', { callId: call.id, extra: Buffer.from('x') });
  assert.deepEqual([answer.success, answer.code], [false, 'invalid_request']);
});

test('a reader that does not read is put out; the others do not wait for it', async () => {
  const { a, b, call, deviceA, deviceB } = await free.callOfTwo();
  deviceB.close();
  const slow = new WebSocket(`${free.url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket`);
  await new Promise((resolve) => slow.once('open', resolve));
  slow.send(`40${JSON.stringify({ token: b.token })}`);
  await new Promise((resolve) => slow.on('message', (it) => String(it).includes('call:sync') && resolve()));
  slow.pause();
  const gone = async () => {
    const { body } = await free.http('/dev/users');
    return !body.data.users.some((it) => it.userId === b.id);
  };
  const payload = 'x'.repeat(60_000);
  let sent = 0;
  await eventually(
    'the slow reader is gone',
    async () => {
      for (let count = 0; count < 20; count += 1) {
        deviceA.tell('webrtc:offer', { callId: call.id, targetUserId: b.id, offer: payload });
      }
      sent += 20;
      await deviceA.settled();
      return gone();
    },
    { within: 15_000 },
  );
  assert.ok(sent * 60_000 < 64 * 2 ** 20, `${sent} messages before it was put out`);
  slow.terminate();
  await a.end(call);
});
