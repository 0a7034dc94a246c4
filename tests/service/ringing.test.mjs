// How a call is answered or not: section 5 of the contract, from outside.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { World, eventually } from '../support/world.mjs';

const RING = 2;
const world = await World.open({ RINGING_TIMEOUT: String(RING) });

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
  for (const device of [caller, phone, desk]) {
    await device.until('call:accepted', { callId: call.id, userId: b.id });
    await device.until('call:participant_joined', { callId: call.id, userId: b.id });
    await device.until('call:state_changed', { callId: call.id, state: 'connected' });
  }
  await desk.until('call:handled_elsewhere', { callId: call.id, userId: b.id });
  await phone.settled();
  assert.deepEqual(phone.all('call:handled_elsewhere'), []);
});
