// The wire, word for word: every answer and every event, with ids and times made equal, as checked in under golden/.
// A change of the wire is a diff there: UPDATE_GOLDEN=1 node --test tests/service/golden.test.mjs writes it.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { sign, tokenFor } from '../support/tokens.mjs';
import { http, World } from '../support/world.mjs';

const world = await World.open({
  STUN_SERVER_URL: 'stun:stun.example:3478',
  TURN_SERVER_URL: 'turn:turn.example:3478',
  TURN_USERNAME: 'supuser',
  TURN_PASSWORD: 'a password of ours',
  MAX_CALL_PARTICIPANTS: '4',
  RINGING_TIMEOUT: '30',
});
const brief = await World.open({ RINGING_TIMEOUT: '1', MAX_CALL_DURATION: '2', RECONNECT_GRACE: '1' });
const strict = await World.open({ RATE_LIMITS: null, RATE_LIMIT_START: '1/1h:1' });

const NOBODY = '0190aaaa-bbbb-7ccc-8ddd-eeeeffff0000';
const TIME = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/g;
const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g;
const USER = /\b([a-z])-\d+-\d+\b/g;

/** The same for every run: times, ids and lengths by what they are, users by their letters. */
function plain(value) {
  const text = JSON.stringify(value, (key, it) => {
    if (key === 'duration' && typeof it === 'number') return '<seconds>';
    if (key === 'nextCursor' && typeof it === 'string') return '<cursor>';
    return it;
  });
  return JSON.parse(text.replace(TIME, '<time>').replace(UUID, '<id>').replace(USER, '<user $1>'));
}

/** Compares with the file of that name, or writes it. */
function golden(name, found) {
  const file = new URL(`golden/${name}.json`, import.meta.url);
  const text = `${JSON.stringify(plain(found), null, 2)}\n`;
  if (process.env.UPDATE_GOLDEN) writeFileSync(file, text);
  assert.deepEqual(JSON.parse(text), JSON.parse(readFileSync(file, 'utf8')));
}

test('every answer of REST', async () => {
  const answers = {};
  const keep = async (what, asked) => {
    const { status, body } = await asked;
    answers[what] = { status, body };
    return body.data;
  };
  const [a, b, c] = world.people(3);
  const start = { type: 'video', participantIds: [b.id, c.id], chatId: 'chat-1' };
  const { call } = await keep('POST /start', a.rest('POST', '/start', start));
  const path = `/${call.id}`;
  await keep('POST /:id/join', b.rest('POST', `${path}/join`, { videoEnabled: false }));
  await keep('POST /:id/token', b.rest('POST', `${path}/token`));
  await keep('PATCH /:id/participant', b.rest('PATCH', `${path}/participant`, { audioEnabled: false }));
  const device = await b.connect();
  await device.do('call:quality_update', {
    callId: call.id,
    jitter: 25,
    packetLoss: 0.5,
    roundTripTime: 120,
    bandwidth: 1500,
  });
  await keep('GET /:id', a.rest('GET', path));
  await keep('GET /:id/quality', a.rest('GET', `${path}/quality`));
  await keep('GET /active', a.rest('GET', '/active'));
  await keep('GET /history', a.rest('GET', '/history?limit=1'));
  await keep('POST /:id/recording/start', a.rest('POST', `${path}/recording/start`));
  await keep('POST /:id/end', a.rest('POST', `${path}/end`, { reason: 'normal' }));
  await keep('GET /:id after the end', a.rest('GET', path));
  await keep('GET /history after the end', a.rest('GET', '/history'));
  const idle = await World.open();
  await keep('GET /stats', idle.person().rest('GET', '/stats?window=1h'));
  await keep('GET /monitoring/metrics', idle.http('/monitoring/metrics'));
  await keep('GET /monitoring/health', idle.http('/monitoring/health'));
  await keep('GET /ready', idle.http('/ready'));
  await keep('GET /health', idle.http('/health'));
  await keep('GET /dev/users', idle.http('/dev/users'));
  golden('rest', answers);
});

test('every refusal of REST', async () => {
  const refusals = {};
  const keep = async (what, asked) => {
    const { status, body } = await asked;
    assert.equal(body.success, false, what);
    refusals[what] = { status, body };
  };
  const [a, b, c, d, e, f] = world.people(6);
  const start = (from, to) =>
    from.rest('POST', '/start', { type: 'audio', participantIds: to.map((it) => it.id ?? it) });
  const device = await a.connect();
  const { call } = await a.want('POST', '/start', { type: 'audio', participantIds: [b.id, c.id, d.id] });
  const path = `/${call.id}`;
  await b.join(call);
  await c.join(call);
  await keep('invalid_request', start(e, []));
  await keep('unauthorized, without a token', http(`${world.url}/api/v1/calls/active`));
  const other = world.person();
  other.token = sign({ userId: 'x' });
  await keep('unauthorized, with a bad one', other.rest('GET', '/active'));
  other.token = tokenFor('x', { ttl: -60 });
  await keep('unauthorized, with an old one', other.rest('GET', '/active'));
  await keep('forbidden', e.rest('GET', path));
  await keep('not_invited', e.rest('POST', `${path}/join`));
  await keep('not_found', e.rest('GET', `/${NOBODY}`));
  await keep('not_found, of paths', world.http('/nothing'));
  await keep('method_not_allowed', world.http('/api/v1/calls/start'));
  await keep('already_in_call', start(a, [e]));
  await keep('busy', start(e, [a]));
  await keep('not_joined', d.rest('POST', `${path}/token`));
  await d.end(call);
  await device.do('call:invite', { callId: call.id, participantIds: [f.id] });
  await keep('call_full', d.rest('POST', `${path}/join`));
  await f.end(call);
  await device.do('call:remove_participant', { callId: call.id, userId: c.id });
  await keep('removed', c.rest('POST', `${path}/join`));
  await keep('no_media_server', a.rest('POST', `${path}/recording/start`));
  await a.end(call);
  await keep('call_over', b.rest('POST', `${path}/join`));
  await keep('payload_too_large', start(e, ['x'.repeat(66_000)]));
  const text = {
    method: 'POST',
    body: 'hello',
    headers: { authorization: `Bearer ${e.token}`, 'content-type': 'text/plain' },
  };
  await keep('unsupported_media_type', world.http('/api/v1/calls/start', text));
  const [g, h] = [strict.person('g'), strict.person('h')];
  await g.end(await g.start(h));
  const { status, body } = await start(g, [h]);
  refusals.rate_limited = { status, body: { ...body, error: body.error.replace(/\d+/, '<seconds>') } };
  golden('refusals', refusals);
});

test('every event, and what call:sync and call:resume say', async () => {
  const events = {};
  const keep = async (device, event, where, what = event) => {
    events[what] = await device.until(event, where);
    return events[what];
  };
  const [[a, deviceA], [b, deviceB], [c, deviceC]] = await world.connectedPeople(3);
  for (const device of [deviceA, deviceB, deviceC]) device.rings = false;
  const second = await b.connect();
  second.rings = false;
  events['call:sync, with nothing'] = deviceA.sync;
  const call = await a.start([b, c], { chatId: 'chat-1' });
  const callId = call.id;
  await keep(deviceB, 'call:incoming');
  const third = await b.connect();
  third.rings = false;
  events['call:sync, while being rung'] = third.sync;
  await deviceB.do('call:ringing', { callId });
  await keep(deviceA, 'call:ringing');
  events['ack of call:accept'] = await deviceB.ask('call:accept', { callId, videoEnabled: false });
  await keep(second, 'call:handled_elsewhere');
  await keep(deviceA, 'call:accepted');
  await keep(deviceA, 'call:participant_joined');
  await keep(deviceA, 'call:state_changed', { state: 'connected' });
  events['ack of call:toggle_audio'] = await deviceB.ask('call:toggle_audio', { callId, enabled: false });
  await keep(deviceA, 'call:participant_updated');
  await deviceB.do('call:quality_update', { callId, jitter: 25, packetLoss: 0, roundTripTime: 10 });
  await keep(deviceA, 'call:quality_changed');
  for (const [event, field] of [
    ['webrtc:offer', 'offer'],
    ['webrtc:answer', 'answer'],
    ['webrtc:ice_candidate', 'candidate'],
  ]) {
    deviceA.tell(event, { callId, targetUserId: b.id, [field]: { any: 'thing' } });
    await keep(deviceB, event);
  }
  await deviceC.do('call:decline', { callId });
  await keep(deviceA, 'call:declined');
  events['ack of call:invite'] = await deviceA.ask('call:invite', { callId, participantIds: [c.id] });
  await keep(deviceC, 'call:incoming', (it) => it.seq > 3, 'call:incoming, again');
  await deviceC.do('call:accept', { callId });
  await deviceA.do('call:remove_participant', { callId, userId: c.id });
  await keep(deviceC, 'call:participant_left', { reason: 'removed' });
  deviceA.tell('call:toggle_video', { callId: NOBODY, enabled: true });
  await keep(deviceA, 'call:error');
  deviceA.tell('call:toggle_video', 'nonsense');
  await keep(deviceA, 'call:error', {}, 'call:error, of no call');
  events['ack of what there is not'] = await deviceA.ask('call:dance', { callId });
  const { seq } = (await a.details(call)).call;
  await deviceA.do('call:end', { callId });
  await keep(deviceB, 'call:ended');
  events['ack of call:resume'] = await deviceA.ask('call:resume', { callId, lastSeq: seq });
  events['ack of call:resume, with the state'] = await deviceA.ask('call:resume', {
    callId,
    lastSeq: seq + 1000,
  });
  const rung = await a.start(b);
  await deviceB.until('call:incoming', { callId: rung.id });
  await a.end(rung);
  await keep(deviceB, 'call:cancelled');
  await keep(deviceB, 'call:ended', { callId: rung.id }, 'call:ended, cancelled');
  golden('events', events);
});

test('every event that time brings', async () => {
  const events = {};
  const { call, deviceA } = await brief.callOfTwo();
  events['call:ending_soon'] = await deviceA.until('call:ending_soon');
  events['call:ended, by the maximum'] = await deviceA.until('call:ended', { callId: call.id });
  const [c, d] = brief.people(2);
  const deviceC = await c.connect();
  deviceC.rings = false;
  await c.start(d);
  events['call:participant_updated, missed'] = await deviceC.until('call:participant_updated');
  events['call:ended, missed'] = await deviceC.until('call:ended');
  const long = await World.open({ RECONNECT_GRACE: '1' });
  const two = await long.callOfTwo();
  two.deviceB.cut();
  events['call:participant_updated, lost'] = await two.deviceA.until('call:participant_updated', {
    userId: two.b.id,
  });
  events['call:state_changed, reconnecting'] = await two.deviceA.until('call:state_changed', {
    state: 'reconnecting',
  });
  events['call:participant_left, lost'] = await two.deviceA.until('call:participant_left');
  events['call:ended, lost'] = await two.deviceA.until('call:ended');
  // Devices may say that they ring before or after the answer, which shifts the numbers.
  const unnumbered = Object.entries(events).map(([what, event]) => [what, { ...event, seq: '<seq>' }]);
  golden('timed', Object.fromEntries(unnumbered));
});

test('every way in which a socket is refused', async () => {
  const refusals = {};
  const keep = async (what, connecting) => {
    refusals[what] = await connecting.then(
      () => assert.fail(`${what} was let in`),
      ({ message, data }) => ({ message, data }),
    );
  };
  await keep('no token', world.person().connect({ token: null }));
  await keep('a bad token', world.person().connect({ token: 'nonsense' }));
  await keep('an old token', world.person().connect({ token: tokenFor('x', { ttl: -60 }) }));
  await keep('a bad device id', world.person().connect({ deviceId: 'a b' }));
  const many = world.person();
  for (let count = 0; count < 10; count += 1) await many.connect();
  await keep('too many sockets', many.connect());
  golden('connect', refusals);
});
