// webrtc:*: from one device to another, byte for byte, and from nobody else to nobody else.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { World } from '../support/world.mjs';

const world = await World.open();

const KINDS = [
  ['webrtc:offer', 'offer'],
  ['webrtc:answer', 'answer'],
  ['webrtc:ice_candidate', 'candidate'],
];

const PAYLOADS = [
  { type: 'offer', sdp: 'v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\n', nested: { list: [1, 2.5, 1e21, null, true] } },
  { text: 'ünïcödé 😀 \u2028 \u0000 "quoted" \\ back / slash' },
  { candidate: '', sdpMid: null, sdpMLineIndex: 0 },
  'a text',
  42,
  [],
  {},
  false,
  { long: 'x'.repeat(50_000) },
];

test('every kind passes on any payload untouched, with call and sender alone', async () => {
  const { a, b, call, deviceA, deviceB } = await world.callOfTwo();
  for (const [event, field] of KINDS) {
    for (const payload of PAYLOADS) {
      deviceA.tell(event, {
        callId: call.id,
        targetUserId: b.id,
        [field]: payload,
        fromUserId: 'somebody',
        extra: 1,
      });
      const got = await deviceB.until(event);
      assert.deepEqual(got, { callId: call.id, fromUserId: a.id, [field]: payload });
    }
  }
  assert.deepEqual(deviceA.all('call:error'), []);
});

test('bytes that JSON could write in two ways come as they were sent', async () => {
  const { a, b, call } = await world.callOfTwo();
  const text = '{"n":1.0,"e":1E+2,"u":"\\u00e9\\/","z":-0, "spaces" : [ 1 ,2 ] ,"dup":1,"dup":2}';
  const [sender, receiver] = [await raw(a), await raw(b)];
  sender.send(`42["webrtc:offer",{"callId":"${call.id}","targetUserId":"${b.id}","offer":${text}}]`);
  const got = await receiver.until((it) => it.includes('webrtc:offer'));
  assert.equal(got, `42["webrtc:offer",{"callId":"${call.id}","fromUserId":"${a.id}","offer":${text}}]`);
  sender.close();
  receiver.close();
});

/** A websocket that speaks the protocol by hand. */
async function raw(person) {
  const { default: WebSocket } = await import('ws');
  const socket = new WebSocket(`${world.url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket`);
  const heard = [];
  let look = () => {};
  socket.on('message', (data) => {
    if (String(data) === '2') socket.send('3');
    heard.push(String(data));
    look();
  });
  await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject));
  socket.send(`40${JSON.stringify({ token: person.token })}`);
  const until = (where) =>
    new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`heard only ${heard.join(' ')}`)), 5000);
      look = () => {
        const found = heard.find(where);
        if (!found) return;
        clearTimeout(late);
        resolve(found);
      };
      look();
    });
  await until((it) => it.startsWith('40'));
  return { send: (it) => socket.send(it), until, close: () => socket.close() };
}

test('signaling goes to all devices, and to the one that answered with signaling once it has', async () => {
  const { a, b, call, deviceA } = await world.callOfTwo();
  const [first, second] = [await b.connect(), await b.connect()];
  const offer = (number) =>
    deviceA.tell('webrtc:offer', { callId: call.id, targetUserId: b.id, offer: number });
  offer(1);
  await first.until('webrtc:offer');
  await second.until('webrtc:offer');
  second.tell('webrtc:answer', { callId: call.id, targetUserId: a.id, answer: 1 });
  await deviceA.until('webrtc:answer');
  offer(2);
  await second.until('webrtc:offer', { offer: 2 });
  first.tell('webrtc:answer', { callId: call.id, targetUserId: a.id, answer: 2 });
  await deviceA.until('webrtc:answer', { answer: 2 });
  offer(3);
  await first.until('webrtc:offer', { offer: 3 });
  assert.deepEqual(
    first.all('webrtc:offer').map((it) => it.offer),
    [1, 3],
  );
  assert.deepEqual(
    second.all('webrtc:offer').map((it) => it.offer),
    [1, 2],
  );
  first.close();
  await deviceA.settled();
  offer(4);
  await second.until('webrtc:offer', { offer: 4 });
});

test('one who is being rung gets signaling, but gives none', async () => {
  const [[a, deviceA], [b, deviceB]] = await world.connectedPeople(2);
  const call = await a.start(b);
  await deviceA.ask('webrtc:offer', { callId: call.id, targetUserId: b.id, offer: {} });
  await deviceB.until('webrtc:offer', { fromUserId: a.id });
  const early = await deviceB.ask('webrtc:answer', { callId: call.id, targetUserId: a.id, answer: {} });
  assert.equal(early.code, 'forbidden');
  await a.end(call);
});

test('a thousand candidates come in the order in which they were sent', async () => {
  const { b, call, deviceA, deviceB } = await world.callOfTwo();
  for (let number = 0; number < 1000; number += 1) {
    deviceA.tell('webrtc:ice_candidate', { callId: call.id, targetUserId: b.id, candidate: number });
  }
  await deviceB.until('webrtc:ice_candidate', { candidate: 999 }, { within: 15_000 });
  const got = deviceB.all('webrtc:ice_candidate').map((it) => it.candidate);
  assert.deepEqual(
    got,
    Array.from({ length: 1000 }, (_, index) => index),
  );
});

const refusals = {
  'to oneself': ({ a }) => ({ to: a.id, code: 'invalid_request' }),
  'to somebody who is not in the call': () => ({ to: 'nobody', code: 'invalid_request' }),
  'in a call that there is not': ({ b }) => ({ to: b.id, callId: randomUUID(), code: 'not_found' }),
  'with a call id that is none': ({ b }) => ({
    to: b.id,
    callId: 'x',
    code: 'invalid_request',
    names: 'callId',
  }),
  'with a target that is none': () => ({ to: 'a b', code: 'invalid_request', names: 'targetUserId' }),
  'without a target': () => ({ to: undefined, code: 'invalid_request', names: 'targetUserId' }),
  'with an id of another type': () => ({ to: 7, code: 'invalid_request' }),
  'without a payload': ({ b }) => ({ to: b.id, payload: undefined, code: 'invalid_request', names: 'offer' }),
};
for (const [what, of] of Object.entries(refusals)) {
  test(`signaling ${what} is refused, by ack and by call:error`, async () => {
    const two = await world.callOfTwo();
    const { to, code, names, callId = two.call.id, payload, ...rest } = { payload: {}, ...of(two) };
    const body = { callId, targetUserId: to, ...('payload' in of(two) ? {} : { offer: payload }), ...rest };
    const answer = await two.deviceA.ask('webrtc:offer', body);
    assert.deepEqual([answer.success, answer.code], [false, code], JSON.stringify(answer));
    if (names) assert.match(answer.error, new RegExp(`^${names}: expected .+, found .+`));
    two.deviceA.tell('webrtc:offer', body);
    const error = await two.deviceA.until('call:error');
    assert.deepEqual([error.code, error.event, error.error], [code, 'webrtc:offer', answer.error]);
  });
}

test('after the end there is nobody to signal to', async () => {
  const { a, b, call, deviceA, deviceB } = await world.callOfTwo();
  await b.end(call);
  await deviceA.until('call:ended');
  const over = await deviceA.ask('webrtc:offer', { callId: call.id, targetUserId: b.id, offer: {} });
  assert.deepEqual([over.success, over.code], [false, 'call_over']);
  assert.deepEqual(deviceB.all('webrtc:offer'), []);
  assert.ok(a);
});

for (const transports of [['polling'], ['websocket'], ['polling', 'websocket']]) {
  test(`a whole call over ${transports.join(', upgraded to ')}`, async () => {
    const [a, b] = world.people(2);
    const [deviceA, deviceB] = [await a.connect({ transports }), await b.connect({ transports })];
    const call = await a.start(b);
    await deviceB.until('call:incoming', { callId: call.id });
    await deviceA.until('call:ringing', { userId: b.id });
    await deviceB.do('call:accept', { callId: call.id });
    await deviceA.until('call:state_changed', { state: 'connected' });
    for (let number = 0; number < 50; number += 1) {
      deviceA.tell('webrtc:ice_candidate', { callId: call.id, targetUserId: b.id, candidate: number });
      deviceB.tell('webrtc:ice_candidate', { callId: call.id, targetUserId: a.id, candidate: number });
    }
    for (const device of [deviceA, deviceB]) {
      await device.until('webrtc:ice_candidate', { candidate: 49 });
      const got = device.all('webrtc:ice_candidate').map((it) => it.candidate);
      assert.deepEqual(
        got,
        Array.from({ length: 50 }, (_, index) => index),
      );
    }
    await deviceB.do('call:end', { callId: call.id });
    await deviceA.until('call:ended', { callId: call.id, reason: 'normal' });
    assert.equal(deviceA.socket.io.engine.transport.name, transports.at(-1));
  });
}
