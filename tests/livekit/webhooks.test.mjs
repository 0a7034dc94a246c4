// The webhooks that other tests make are those that LiveKit makes, and what becomes of its own is up to the relay's rule.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { LiveKit } from '../support/livekit.mjs';
import { signed, WebhookRelay, webhooks } from '../support/webhooks.mjs';

const relay = await WebhookRelay.open();
const livekit = await LiveKit.start({ webhookUrls: [relay.url] });
const { api } = livekit;
/** In the service's place: what arrives. */
const arrived = [];
const receiver = createServer(async (request, response) => {
  let text = '';
  for await (const chunk of request) text += chunk;
  arrived.push(JSON.parse(text).id);
  response.end();
});
await new Promise((resolve) => receiver.listen(0, '127.0.0.1', resolve));
relay.target = `http://127.0.0.1:${receiver.address().port}`;
after(async () => {
  await livekit.stop();
  await relay.close();
  await new Promise((resolve) => receiver.close(resolve));
});

const claims = ({ authorization }) => JSON.parse(Buffer.from(authorization.split('.')[1], 'base64url'));
/** Fields and the kinds of what they hold, but not the values. */
const shape = (it) =>
  Array.isArray(it)
    ? it.slice(0, 1).map(shape)
    : typeof it === 'object'
      ? Object.fromEntries(
          Object.keys(it)
            .sort()
            .map((key) => [key, shape(it[key])]),
        )
      : typeof it;

test('one that is made here has the shape and the signature of a real one', async () => {
  await api.createRoom('real');
  await api.deleteRoom('real');
  for (const [event, make] of [
    ['room_started', webhooks.roomStarted],
    ['room_finished', webhooks.roomFinished],
  ]) {
    const real = await relay.until({ event, room: 'real' });
    assert.deepEqual(shape(make('real')), shape(real.webhook), event);
    const ours = signed(real.body.toString());
    const [theirs, own] = [claims(real.headers), claims(ours.headers)];
    assert.deepEqual([own.iss, own.sha256, own.exp - own.nbf], [theirs.iss, theirs.sha256, 300]);
    assert.deepEqual(Object.keys(own).sort(), Object.keys(theirs).sort());
    assert.equal(ours.headers['content-type'], real.headers['content-type']);
  }
});

test('the relay loses, doubles, holds, shuffles and delays', async () => {
  const come = async (rule, name) => {
    relay.rule = rule;
    await api.createRoom(name);
    const { id, answers } = await relay.until({ event: 'room_started', room: name });
    await relay.pass();
    return { id, times: () => arrived.filter((it) => it === id).length, answers };
  };
  const lost = await come(() => 'drop', 'lost');
  const twice = await come(() => 'double', 'twice');
  const late = await come(() => 100, 'late');
  const held = [];
  for (const name of ['a', 'b', 'c', 'd', 'e']) held.push(await come(() => 'hold', name));
  assert.deepEqual([lost.times(), twice.times(), held.map((it) => it.times())], [0, 2, [0, 0, 0, 0, 0]]);
  assert.deepEqual(
    twice.answers.map((it) => it.status),
    [200, 200],
  );
  assert.equal(relay.held, 5);
  await relay.release({ seed: 1 });
  const ids = held.map((it) => it.id);
  const order = arrived.filter((it) => ids.includes(it));
  assert.deepEqual([...order].sort(), [...ids].sort());
  assert.notDeepEqual(order, ids);
  await pause(150);
  await relay.pass();
  assert.equal(late.times(), 1);
});

test('held, crashed and started again, LiveKit has the same address and no rooms', async () => {
  relay.rule = () => 'drop';
  await api.createRoom('before');
  await livekit.hold();
  livekit.thaw();
  assert.ok((await api.rooms()).some((it) => it.name === 'before'));
  await livekit.crash();
  await assert.rejects(api.rooms());
  await livekit.restart();
  assert.deepEqual(await api.rooms(), []);
});
