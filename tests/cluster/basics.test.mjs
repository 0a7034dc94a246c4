// Three nodes are one service: who asks which of them makes no difference.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { Cluster } from '../support/cluster.mjs';
import { Device } from '../support/device.mjs';
import { operators } from '../support/redis.mjs';
import { eventually } from '../support/world.mjs';

const GRACE = 2;
/** Redis as operators are given it, and a user of the nodes who may do no more than they need. */
const { rules, settings } = operators();
const redisOptions = { settings, users: { calls: { password: 'p@ss', rules } } };
const cluster = await Cluster.start({
  redisOptions,
  env: { RECONNECT_GRACE: String(GRACE), STUN_SERVER_URL: 'stun:stun.example:3478' },
});

/** The events of a call as a device heard them; what is for one of its user's devices alone is left out. */
const story = (device, call) =>
  device.log
    .filter((it) => it.data?.callId === call.id && it.event !== 'call:handled_elsewhere')
    .map((it) => `${it.data.seq} ${it.event}`);

/** What is not a person's own: of those who ring, the caller alone hears that they do, and is not rung itself. */
const shared = (told) => told.filter((it) => !/call:(incoming|ringing)$/.test(it));

/** A connected call of two, each on another node: the first one's has it. */
async function acrossNodes(options) {
  const [[a, deviceA], [b, deviceB]] = await cluster.connectedAt(0, 1);
  const call = await a.start(b, options);
  await b.join(call);
  await deviceA.until('call:state_changed', { callId: call.id, state: 'connected' });
  return { a, b, deviceA, deviceB, call };
}

test('people on three nodes ring, answer and end, and hear the same in the same order', async () => {
  const [[a, caller], [b, phone], [c, other]] = await cluster.connectedAt(0, 1, 2);
  const desk = await b.at(2).connect();
  const call = await a.start([b, c], { chatId: 'chat-1' });
  for (const device of [phone, desk, other]) {
    const { invitation } = await device.until('call:incoming', { callId: call.id });
    assert.deepEqual([invitation.initiatorId, invitation.chatId], [a.id, 'chat-1']);
  }
  for (const { id } of [b, c]) await caller.until('call:ringing', { callId: call.id, userId: id });
  const joined = await phone.do('call:accept', { callId: call.id });
  assert.deepEqual(Object.keys(joined).sort(), ['call', 'iceServers', 'participants', 'token']);
  await desk.until('call:handled_elsewhere', { callId: call.id, userId: b.id });
  await other.do('call:accept', { callId: call.id });
  await phone.do('call:toggle_video', { callId: call.id, enabled: true });
  await other.do('call:toggle_audio', { callId: call.id, enabled: false });
  await caller.until('call:participant_updated', (it) => it.userId === c.id && !it.participant.audioEnabled);
  await caller.do('call:end', { callId: call.id });
  const devices = [caller, phone, desk, other];
  for (const device of devices) {
    const { state, reason } = await device.until('call:ended', { callId: call.id });
    assert.deepEqual([state, reason], ['ended', 'normal']);
  }
  const [first, ...others] = devices.map((it) => shared(story(it, call)));
  for (const told of others) assert.deepEqual(told, first);
  assert.deepEqual(phone.all('call:handled_elsewhere'), []);
  const at = caller.log.filter((it) => it.data?.callId === call.id).map((it) => it.data);
  for (const device of [phone, desk, other]) {
    for (const { event, data } of device.log) {
      const same = at.find((it) => it.seq === data?.seq && data.callId === call.id);
      if (same) assert.deepEqual(data, same, event);
    }
  }
});

test('a caller on another node hears a decline, and the decliner nothing more', async () => {
  const [[a, caller], [b, phone]] = await cluster.connectedAt(0, 1);
  const desk = await b.at(2).connect();
  const call = await a.start(b);
  await desk.until('call:incoming', { callId: call.id });
  await phone.do('call:decline', { callId: call.id });
  await caller.until('call:declined', { callId: call.id, userId: b.id });
  await desk.until('call:declined', { callId: call.id, userId: b.id });
  const ended = await caller.until('call:ended', { callId: call.id });
  assert.deepEqual([ended.state, ended.reason], ['declined', 'declined']);
});

test('every request at another node is answered as at the one that has the call', async () => {
  const [[a, deviceA], [b, deviceB], [c]] = await cluster.connectedAt(0, 1, 2);
  const call = await a.start([b, c]);
  const joined = await b.at(2).join(call, { videoEnabled: false });
  assert.equal(joined.call.id, call.id);
  const sample = { callId: call.id, jitter: 10, packetLoss: 0.5, roundTripTime: 50 };
  await deviceB.do('call:quality_update', sample);
  await deviceA.until('call:quality_changed', { userId: b.id });
  await b.at(1).want('PATCH', `/${call.id}/participant`, { screenShareEnabled: true });
  await deviceA.until('call:participant_updated', (it) => it.participant.screenShareEnabled);
  const seen = await cluster.oneTruth(a, call);
  const self = seen.participants.find((it) => it.userId === b.id);
  assert.deepEqual(
    [self.connectionState, self.screenShareEnabled, self.videoEnabled, self.connectionQuality],
    ['connected', true, false, 'excellent'],
  );
  for (const path of ['/active', `/${call.id}/quality`]) {
    const same = async () => {
      const all = await cluster.everywhere((node) => b.at(node).want('GET', path));
      const plain = all.map((it) => JSON.stringify(it, (key, value) => (key === 'duration' ? 0 : value)));
      return plain.every((it) => it === plain[0]) && all[0];
    };
    const said = await eventually(`${path} is the same everywhere`, same);
    assert.equal((said.calls ?? said.participants).length > 0, true, path);
  }
  const tokens = await cluster.everywhere((node) => b.at(node).want('POST', `/${call.id}/token`));
  for (const { token, iceServers } of tokens) {
    assert.deepEqual([token.identity, token.roomName, iceServers.length], [b.id, call.roomId, 1]);
  }
  await c.at(1).end(call);
  await deviceA.until('call:declined', { userId: c.id });
  assert.equal(await b.at(2).end(call), 'Call ended successfully');
  await deviceA.until('call:participant_left', { userId: b.id });
  await b.at(1).join(call);
  await a.at(2).end(call);
  for (const device of [deviceA, deviceB]) await device.until('call:ended', { callId: call.id });
  const { call: over } = await cluster.oneTruth(a, call);
  assert.deepEqual([over.state, over.endReason], ['ended', 'normal']);
});

test('inviting and removing at another node', async () => {
  const [[a, deviceA], [b, deviceB]] = await cluster.connectedAt(0, 1);
  const [[c, deviceC]] = await cluster.connectedAt(2);
  const call = await a.start(b);
  await b.join(call);
  const { unavailable } = await deviceB.do('call:invite', { callId: call.id, participantIds: [c.id] });
  assert.deepEqual(unavailable, []);
  const { invitation } = await deviceC.until('call:incoming', { callId: call.id });
  assert.deepEqual([invitation.isGroup, invitation.initiatorId], [true, a.id]);
  await deviceC.do('call:accept', { callId: call.id });
  const elsewhere = await a.at(2).connect();
  assert.equal(
    (await deviceB.ask('call:remove_participant', { callId: call.id, userId: c.id })).code,
    'forbidden',
  );
  await elsewhere.do('call:remove_participant', { callId: call.id, userId: c.id });
  for (const device of [deviceA, deviceB, deviceC]) {
    await device.until('call:participant_left', { userId: c.id, reason: 'removed' });
  }
  for (const at of [0, 1, 2]) {
    await c.at(at).refused(403, 'removed', 'POST', `/${call.id}/join`);
    await c.at(at).refused(403, 'removed', 'POST', `/${call.id}/token`);
  }
  await elsewhere.do('call:mute_participant', { callId: call.id, userId: b.id });
  await deviceB.until('call:participant_updated', (it) => it.userId === b.id && !it.participant.audioEnabled);
  await a.at(1).end(call);
});

test('who comes to another node is told what is going on, and what was missed', async () => {
  const { a, b, deviceA, deviceB, call } = await acrossNodes();
  await deviceB.until('call:state_changed', { callId: call.id, state: 'connected' });
  const last = Math.max(...deviceB.log.map((it) => it.data?.seq ?? 0));
  deviceB.close();
  await deviceA.do('call:toggle_audio', { callId: call.id, enabled: false });
  const resumed = [];
  for (const at of [0, 1, 2]) {
    const again = await b.at(at).connect();
    const [synced] = again.sync.calls;
    assert.deepEqual([again.sync.calls.length, synced.call.id, synced.participants.length], [1, call.id, 2]);
    const told = await again.do('call:resume', { callId: call.id, lastSeq: last });
    assert.equal(told.mode, 'events');
    resumed.push(told.events.filter((it) => it.data.userId === a.id));
    const ahead = await again.do('call:resume', { callId: call.id, lastSeq: 1_000_000 });
    assert.deepEqual([ahead.mode, ahead.call.id, ahead.participants.length], ['state', call.id, 2]);
  }
  for (const events of resumed) assert.deepEqual(events, resumed[0]);
  assert.equal(resumed[0].length, 1);
  const outsider = await cluster.person('outsider', { at: 2 }).connect();
  assert.equal((await outsider.ask('call:resume', { callId: call.id, lastSeq: 0 })).code, 'forbidden');
  await b.at(2).end(call);
});

test('each node says which one it is', async () => {
  const person = cluster.person();
  for (const node of cluster.nodes) {
    const device = await person.at(node).connect();
    assert.equal(device.sync.node, node.name);
    for (const path of ['/ready', '/monitoring/health']) {
      const { status, body } = await node.http(path);
      assert.deepEqual([status, body.node, body.checks.bus], [200, node.name, 'ok'], path);
    }
  }
});

test('whoever is connected to any node is shown at every one', async () => {
  const [[a], [b]] = await cluster.connectedAt(0, 1);
  await a.at(2).connect();
  const sockets = async (node) => {
    const { users } = (await node.http('/dev/users')).body.data;
    return [a, b].map((it) => users.find(({ userId }) => userId === it.id)?.sockets).join();
  };
  // A node that has just begun has not heard of the others yet.
  await eventually('all tell of all', async () =>
    (await cluster.everywhere(sockets)).every((it) => it === '2,1'),
  );
});

test('one who connects to another node while being rung is rung by call:sync', async () => {
  const [a, b] = [cluster.person('a', { at: 0 }), cluster.person('b', { at: 1 })];
  const call = await a.start(b);
  const device = await b.connect();
  const [{ invitation, call: synced }] = device.sync.calls;
  assert.deepEqual([synced.id, invitation.callId, invitation.initiatorId], [call.id, call.id, a.id]);
  await device.do('call:accept', { callId: call.id });
  await b.at(2).end(call);
});

test('signaling goes from node to node untouched, and in the order of its sender', async () => {
  const { a, b, deviceA, deviceB, call } = await acrossNodes();
  const payload = { sdp: 'v=0\r\nünïcödé \u2028', list: [1, 2.5, 1e21, null], long: 'x'.repeat(50_000) };
  for (const [event, field] of [
    ['webrtc:offer', 'offer'],
    ['webrtc:answer', 'answer'],
    ['webrtc:ice_candidate', 'candidate'],
  ]) {
    deviceA.tell(event, { callId: call.id, targetUserId: b.id, [field]: payload, extra: 1 });
    assert.deepEqual(await deviceB.until(event), { callId: call.id, fromUserId: a.id, [field]: payload });
  }
  const candidates = Array.from({ length: 500 }, (_, index) => index);
  const [from, to] = [deviceA.log.length, deviceB.log.length];
  for (const candidate of candidates) {
    deviceA.tell('webrtc:ice_candidate', { callId: call.id, targetUserId: b.id, candidate });
    deviceB.tell('webrtc:ice_candidate', { callId: call.id, targetUserId: a.id, candidate });
  }
  for (const [device, since] of [
    [deviceA, from],
    [deviceB, to],
  ]) {
    await device.until('webrtc:ice_candidate', { candidate: candidates.at(-1) }, { within: 15_000 });
    const heard = device.log.slice(since).filter((it) => it.event === 'webrtc:ice_candidate');
    assert.deepEqual(
      heard.map((it) => it.data.candidate),
      candidates,
    );
  }
  await a.end(call);
});

test('signaling goes to the device that signaled last, whichever node it is on', async () => {
  const { a, b, deviceA, deviceB: first, call } = await acrossNodes();
  const second = await b.at(2).connect();
  const offer = (number) =>
    deviceA.tell('webrtc:offer', { callId: call.id, targetUserId: b.id, offer: number });
  const answer = async (device, number) => {
    device.tell('webrtc:answer', { callId: call.id, targetUserId: a.id, answer: number });
    await deviceA.until('webrtc:answer', { answer: number });
  };
  offer(1);
  for (const device of [first, second]) await device.until('webrtc:offer', { offer: 1 });
  await answer(second, 1);
  offer(2);
  await second.until('webrtc:offer', { offer: 2 });
  await answer(first, 2);
  offer(3);
  await first.until('webrtc:offer', { offer: 3 });
  await answer(second, 3);
  offer(4);
  await second.until('webrtc:offer', { offer: 4 });
  const offers = (device) => device.all('webrtc:offer').map((it) => it.offer);
  assert.deepEqual(
    [offers(first), offers(second)],
    [
      [1, 3],
      [1, 2, 4],
    ],
  );
  await a.end(call);
});

test('signaling is refused by the same codes at every node', async () => {
  const { a, b, deviceA, deviceB, call } = await acrossNodes();
  const rung = cluster.person('rung', { at: 2 });
  const deviceR = await rung.connect();
  await deviceA.do('call:invite', { callId: call.id, participantIds: [rung.id] });
  await deviceR.until('call:incoming', { callId: call.id });
  await deviceA.ask('webrtc:offer', { callId: call.id, targetUserId: rung.id, offer: {} });
  await deviceR.until('webrtc:offer', { fromUserId: a.id });
  const outsider = await cluster.person('outsider', { at: 2 }).connect();
  const code = async (device, targetUserId, callId = call.id) =>
    (await device.ask('webrtc:offer', { callId, targetUserId, offer: {} })).code;
  assert.equal(await code(deviceR, a.id), 'forbidden');
  assert.equal(await code(outsider, a.id), 'forbidden');
  for (const device of [deviceA, deviceB]) {
    const self = device === deviceA ? a : b;
    assert.equal(await code(device, self.id), 'invalid_request');
    assert.equal(await code(device, 'nobody'), 'invalid_request');
    assert.equal(await code(device, 'a b'), 'invalid_request');
    assert.equal(await code(device, a.id === self.id ? b.id : a.id, randomUUID()), 'not_found');
  }
  await a.end(call);
  await deviceB.until('call:ended', { callId: call.id });
  for (const [device, to] of [
    [deviceA, b],
    [deviceB, a],
  ]) {
    assert.equal(await code(device, to.id), 'call_over');
  }
  assert.deepEqual(outsider.all('webrtc:offer'), []);
});

test('refusals are the same at every node', async () => {
  const [a, b, c] = cluster.people(3).map((it) => it.at(0));
  const over = await a.start(b);
  await a.end(over);
  const call = await a.start(b);
  const stranger = cluster.person('stranger');
  const patch = { audioEnabled: false };
  for (const at of [0, 1, 2]) {
    const [one, other, none] = [a, b, stranger].map((it) => it.at(at));
    const unknown = randomUUID();
    for (const path of ['', '/quality']) {
      await none.refused(403, 'forbidden', 'GET', `/${call.id}${path}`);
      await none.refused(404, 'not_found', 'GET', `/${unknown}${path}`);
    }
    await none.refused(403, 'not_invited', 'POST', `/${call.id}/join`);
    await none.refused(403, 'forbidden', 'POST', `/${call.id}/end`);
    await none.refused(403, 'forbidden', 'POST', `/${call.id}/token`);
    await none.refused(403, 'forbidden', 'PATCH', `/${call.id}/participant`, patch);
    await none.refused(403, 'forbidden', 'POST', `/${call.id}/recording/start`);
    for (const what of ['join', 'end', 'token', 'recording/start']) {
      await one.refused(404, 'not_found', 'POST', `/${unknown}/${what}`);
    }
    await other.refused(409, 'not_joined', 'POST', `/${call.id}/token`);
    await other.refused(403, 'forbidden', 'PATCH', `/${call.id}/participant`, patch);
    await one.refused(400, 'invalid_request', 'PATCH', `/${call.id}/participant`, {});
    await one.refused(501, 'no_media_server', 'POST', `/${call.id}/recording/start`);
    await other.refused(410, 'call_over', 'POST', `/${over.id}/join`);
    await one.refused(410, 'call_over', 'POST', `/${over.id}/token`);
    await one.refused(410, 'call_over', 'PATCH', `/${over.id}/participant`, patch);
    assert.equal(await one.want('POST', `/${over.id}/end`), 'Call ended successfully');
    const { data } = await one.refused(409, 'already_in_call', 'POST', '/start', {
      type: 'audio',
      participantIds: [c.id],
    });
    assert.deepEqual(data, { callId: call.id });
  }
  await b.at(1).join(call);
  for (const at of [0, 1, 2]) {
    const caller = cluster.person('caller', { at });
    const body = { type: 'audio', participantIds: [b.id] };
    const { data } = await caller.refused(409, 'busy', 'POST', '/start', body);
    assert.deepEqual([data.call.state, data.call.endReason], ['busy', 'busy']);
    const group = { type: 'audio', participantIds: [a.id, c.id] };
    const { call: started, unavailable } = await caller.want('POST', '/start', group);
    assert.deepEqual(unavailable, [{ userId: a.id, why: 'busy' }]);
    await caller.end(started);
  }
  await a.at(2).end(call);
});

test('the same Idempotency-Key at another node is the same call, also after its end', async () => {
  const [a, b] = cluster.people(2);
  const headers = { 'idempotency-key': 'tap-1' };
  const body = { type: 'audio', participantIds: [b.id] };
  const first = await a.at(0).patient('POST', '/start', body, headers);
  assert.equal(first.status, 201);
  const { id } = first.body.data.call;
  for (const at of [1, 2]) {
    const again = await a.at(at).patient('POST', '/start', body, headers);
    assert.deepEqual([again.status, again.body.data.call.id], [200, id]);
  }
  await a.at(1).end(id);
  const later = await a.at(2).patient('POST', '/start', body, headers);
  assert.deepEqual(
    [later.status, later.body.data.call.id, later.body.data.call.state],
    [200, id, 'cancelled'],
  );
});

test('sockets on several nodes are one presence: a user is lost when the last of them is', async () => {
  const { a, b, deviceA, deviceB, call } = await acrossNodes();
  const second = await b.at(2).connect();
  const lost = (it) => it.userId === b.id && it.participant.connectionState === 'reconnecting';
  const back = (it) => it.userId === b.id && it.participant.connectionState === 'connected';
  deviceB.close();
  await new Promise((resolve) => setTimeout(resolve, GRACE * 1000 + 500));
  assert.equal((await b.at(1).standing(call)).connectionState, 'connected');
  second.close();
  await deviceA.until('call:participant_updated', lost);
  const third = await b.at(1).connect();
  await deviceA.until('call:participant_updated', back);
  third.close();
  await deviceA.until('call:participant_left', { userId: b.id, reason: 'network_error' });
  const ended = await deviceA.until('call:ended', { callId: call.id });
  assert.deepEqual([ended.state, ended.reason], ['ended', 'network_error']);
  assert.equal((await a.at(2).details(call)).call.state, 'ended');
});

test('a user has ten sockets and no more, whichever nodes they are on', async () => {
  const a = cluster.person();
  const devices = [];
  for (let count = 0; count < 10; count += 1) devices.push(await a.at(count % 3).connect());
  const last = new Device(cluster.node(1).url, { auth: { token: a.token } });
  await last.connected();
  assert.equal((await last.until('call:error')).code, 'too_many_sockets');
  await last.until('disconnect', () => true);
  assert.ok(devices.every((it) => it.socket.connected));
  for (const it of devices) it.close();
});

test('who is lost at one node is seen to be at all others', async () => {
  const [[a, deviceA], [b, deviceB], [c, deviceC]] = await cluster.connectedAt(0, 1, 2);
  const call = await a.start([b, c]);
  await b.join(call);
  await c.join(call);
  await deviceC.until('call:state_changed', { callId: call.id, state: 'connected' });
  for (const state of ['reconnecting', 'connected']) {
    if (state === 'reconnecting') deviceB.close();
    else await b.connect();
    const seen = (it) => it.userId === b.id && it.participant.connectionState === state;
    for (const device of [deviceA, deviceC]) await device.until('call:participant_updated', seen);
  }
  await a.end(call);
  await deviceC.until('call:ended', { callId: call.id });
});

test('history and figures are the same at every node, in the end', async () => {
  const a = cluster.person();
  const calls = [];
  for (const at of [0, 1, 2, 0]) {
    const b = cluster.person('b', { at: at + 1 });
    const call = await a.at(at).start(b, { chatId: `chat-${at}` });
    await b.join(call);
    await a.at(at + 2).end(call);
    calls.unshift(call.id);
  }
  await cluster.flushed();
  const same = async (path, of) => {
    const all = await cluster.everywhere((node) => a.at(node).want('GET', path));
    return all.every((it) => of(it) === of(all[0])) && all[0];
  };
  const page = await eventually('histories agree', async () => {
    const found = await same('/history', JSON.stringify);
    return found && found.pagination.total === 4 && found;
  });
  assert.deepEqual(
    page.calls.map((it) => it.id),
    calls,
  );
  assert.ok(page.calls.every((it) => it.participants.length === 2 && it.initiator.userId === a.id));
  const ids = (it) => it.calls.map(({ id }) => id).join();
  const some = await same('/history?chatId=chat-0&state=ended&limit=1&offset=1', ids);
  assert.deepEqual([ids(some), some.pagination.total], [calls.at(-1), 2]);
  await eventually('figures agree', () => same('/stats?window=1h', (it) => it.completedCalls));
});

test('what nobody is left in is nowhere', async () => {
  await cluster.idle();
  await cluster.flushed();
});
