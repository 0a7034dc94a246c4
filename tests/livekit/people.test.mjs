// What people do in a room shows in the call, and what becomes of the call shows in the room: a real LiveKit, and real browsers.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { enterRoom, heardOf, heardState, meet, part, Venue } from '../support/meeting.mjs';
import { inTime } from '../support/patience.mjs';
import { Guest, openBrowser } from '../support/room.mjs';
import { eventually } from '../support/world.mjs';

/** How often the watchful service compares, and how much longer a difference may last, milliseconds. */
const CHECK_MS = 500;
const SEEN_MS = CHECK_MS + 2000;
/** How long what a webhook tells may take to show, milliseconds: two busy cores included. */
const TOLD_MS = 2500;
/** LiveKit counts who is in a room only so often, milliseconds: who leaves is not missed before. */
const COUNT_MS = 5000;
/** How long one who must not be in a room may be there, milliseconds. */
const OUT_MS = 2000;

await openBrowser();
const venue = await Venue.open(2);
// Of two services one has nothing but webhooks to go by in the time of a test, and one compares so often that it needs none.
const trusting = await venue.world({ LIVEKIT_CHECK_INTERVAL: '30000', MAX_CALL_PARTICIPANTS: '3' });
const watchful = await venue.world({ LIVEKIT_CHECK_INTERVAL: String(CHECK_MS) });
const WAYS = [
  { how: 'by webhooks', world: trusting, fate: 'pass', within: TOLD_MS },
  { how: 'by comparison', world: watchful, fate: 'drop', within: SEEN_MS },
];

const BOTH = ['microphone', 'camera'];
const last = (events, name) => events.filter((it) => it.event === name).at(-1);
const roomGone = (call) => eventually('the room is gone', async () => !(await venue.room(call)));

/** Nobody gets in with the token; a page that could is closed. */
async function shut({ url, token }) {
  const page = await Guest.arrive();
  try {
    await assert.rejects(page.enter(url, token));
  } finally {
    await page.close();
  }
}

/** Has one whose token does not hold come in, and waits until they are out again: how they were put out. */
async function comesAndGoes({ id, guest, ticket }, call) {
  const begun = Date.now();
  // Its way in may end by its way out.
  guest.enter(ticket.url, ticket.token).catch(() => undefined);
  const out = await guest.until(
    'disconnected',
    { reason: 'PARTICIPANT_REMOVED' },
    { after: begun, within: 15_000 },
  );
  await eventually(`${id} is out`, async () => (await venue.guests(call)).every((it) => it.identity !== id));
  return out;
}

for (const { how, world, fate, within } of WAYS) {
  test(`two meet, see each other and part, ${how}`, async (t) => {
    const meeting = await meet(world, { fate, publish: [] });
    const { call, people } = meeting;
    const [a, b] = people;
    const there = await Promise.all(people.map((it) => it.guest.until('connected')));
    const both = Math.max(...there.map((it) => it.at));
    const heard = await Promise.all(people.map((it) => heardState(it, call, 'connected')));
    const took = Math.max(...heard) - both;
    t.diagnostic(`connected ${took} ms after both were`);
    inTime(took, within);
    const { call: now, participants } = await a.details(call);
    assert.equal(now.state, 'connected');
    assert.ok(now.startedAt);
    assert.deepEqual(
      participants.map((it) => it.connectionState),
      ['connected', 'connected'],
    );
    for (const it of people) for (const source of BOTH) await it.guest.publish(source);
    await Promise.all([a.guest.gets(b.id), b.guest.gets(a.id)]);
    const begun = Date.now();
    await a.end(call);
    for (const it of people) {
      const { at } = await it.guest.until('disconnected', { reason: 'ROOM_DELETED' });
      t.diagnostic(`out of the room ${at - begun} ms after the end`);
    }
    await roomGone(call);
    await shut(b.ticket);
    await part(meeting);
  });

  test(`who leaves the room and comes again, ${how}`, async (t) => {
    const meeting = await meet(world, { fate });
    const { call, people } = meeting;
    const [a, b] = people;
    await heardState(a, call, 'connected');
    const begun = Date.now();
    await b.guest.leave();
    const away = await heardState(a, call, 'reconnecting', { within: within + COUNT_MS });
    t.diagnostic(`left: noticed after ${away - begun} ms`);
    // A socket is there: not lost, just without media.
    assert.equal((await b.standing(call)).connectionState, 'connecting');
    const { token } = await b.want('POST', `/${call.id}/token`);
    await b.guest.enter(token.url, token.token);
    await heardState(a, call, 'connected', { within });
    assert.deepEqual(a.device.all('call:participant_left'), []);
    await part(meeting);
  });

  test(`who is removed stays out, ${how}`, async (t) => {
    const meeting = await meet(world, { count: 3, present: 2, fate });
    const { call, people } = meeting;
    const [a, b, c] = people;
    await heardState(c, call, 'connected');
    const begun = Date.now();
    await a.device.do('call:remove_participant', { callId: call.id, userId: b.id });
    const { at } = await b.guest.until('disconnected', { reason: 'PARTICIPANT_REMOVED' });
    t.diagnostic(`put out ${at - begun} ms after the removal`);
    inTime(at - begun, OUT_MS);
    await b.refused(403, 'removed', 'POST', `/${call.id}/token`);
    await b.refused(403, 'removed', 'POST', `/${call.id}/join`);
    for (const time of [1, 2]) {
      const again = Date.now();
      const out = await comesAndGoes(b, call);
      t.diagnostic(`time ${time}: put out again ${out.at - again} ms after it began to come`);
      inTime(out.at - again, OUT_MS + CHECK_MS);
    }
    for (const { device } of [a, c]) {
      await device.settled();
      const removal = device.log.findIndex((it) => it.event === 'call:participant_left');
      assert.equal(device.log[removal].data.reason, 'removed');
      const later = device.log.slice(removal + 1);
      assert.deepEqual(
        later.filter((it) => it.data?.userId === b.id),
        [],
      );
    }
    const { participants } = await a.details(call);
    assert.equal(participants.find((it) => it.userId === b.id).connectionState, 'removed');
    await part(meeting);
  });
}

test('who leaves the call is put out of its room, and may come again', async (t) => {
  const meeting = await meet(trusting, { count: 3, present: 2 });
  const { call, people } = meeting;
  const [a, b] = people;
  await heardState(a, call, 'connected');
  const begun = Date.now();
  await b.end(call);
  const { at } = await b.guest.until('disconnected', { reason: 'PARTICIPANT_REMOVED' });
  t.diagnostic(`put out ${at - begun} ms after leaving`);
  inTime(at - begun, OUT_MS);
  // The old token does not hold, as long as its owner is not in the call.
  await comesAndGoes(b, call);
  assert.equal((await b.standing(call)).connectionState, 'left');
  b.ticket = (await b.join(call)).token;
  await b.guest.enter(b.ticket.url, b.ticket.token);
  await eventually('back in the call', async () => (await b.standing(call)).connectionState === 'connected');
  await part(meeting);
});

test('a second device takes over, and what the first one still says is late', async () => {
  const meeting = await meet(trusting);
  const { call, people } = meeting;
  const [a, b] = people;
  await heardState(a, call, 'connected');
  // Once as it comes, and once with the end of the old stay after the begin of the new one.
  for (const fate of ['pass', ({ event }) => (event === 'participant_joined' ? 'pass' : 'hold')]) {
    venue.fates.set(call.roomId, fate);
    const old = b.guest;
    b.ticket = (await b.want('POST', `/${call.id}/token`)).token;
    await enterRoom(b);
    await old.until('disconnected', { reason: 'DUPLICATE_IDENTITY' });
    await old.close();
    await a.guest.gets(b.id, { kinds: ['packets'] });
    const left = {
      event: 'participant_left',
      room: call.roomId,
      fate: typeof fate === 'string' ? fate : 'hold',
    };
    await trusting.relay.until(left);
    await trusting.relay.release();
    // A look at the room follows, a second later.
    await pause(1300);
    await a.device.settled();
    assert.deepEqual(a.device.all('call:participant_left'), []);
    const states = a.device.all('call:state_changed').map((it) => it.state);
    assert.deepEqual(states, ['connecting', 'connected']);
    const { participants } = await a.details(call);
    assert.deepEqual(
      participants.map((it) => [it.connectionState, it.audioEnabled]),
      [
        ['connected', true],
        ['connected', true],
      ],
    );
  }
  await part(meeting);
});

test('what is told late and in another order of one who came and went says nothing false', async () => {
  const meeting = await meet(trusting);
  const { call, people } = meeting;
  const [a, b] = people;
  await heardState(a, call, 'connected');
  for (const seed of [1, 2, 3]) {
    venue.fates.set(call.roomId, 'hold');
    for (let time = 0; time < 2; time += 1) {
      const joined = trusting.relay.all('participant_joined', call.roomId).length;
      await b.guest.leave();
      await b.guest.enter(b.ticket.url, b.ticket.token);
      await eventually('the new stay is told', async () => {
        return trusting.relay.all('participant_joined', call.roomId).length > joined;
      });
    }
    venue.fates.set(call.roomId, 'pass');
    await trusting.relay.release({ seed });
    await a.device.settled();
    await eventually('in the call with media', async () => {
      return (await b.standing(call)).connectionState === 'connected';
    });
    assert.equal((await a.details(call)).call.state, 'connected');
  }
  assert.deepEqual(a.device.all('call:participant_left'), []);
  await part(meeting);
});

test('the room shows what somebody sends', async () => {
  const meeting = await meet(trusting, { publish: [] });
  const { call, people } = meeting;
  const [a, b] = people;
  await heardState(a, call, 'connected');
  await b.guest.publish('camera');
  await b.guest.share();
  await heardOf(a, b, { screenShareEnabled: true });
  await a.guest.gets(b.id, { kinds: ['frames'] });
  await b.guest.unpublish('camera');
  await heardOf(a, b, { videoEnabled: false, screenShareEnabled: true });
  await b.guest.unpublish('screen_share');
  await heardOf(b, b, { screenShareEnabled: false });
  await b.guest.publish('camera');
  await heardOf(a, b, { videoEnabled: true, screenShareEnabled: false });
  await part(meeting);
});

test('the initiator mutes somebody', async () => {
  const meeting = await meet(trusting, { publish: BOTH });
  const { call, people } = meeting;
  const [a, b] = people;
  await a.guest.until('trackSubscribed', { identity: b.id, source: 'camera' });
  const ask = { callId: call.id, userId: b.id, source: 'audio' };
  await a.device.do('call:mute_participant', ask);
  await b.guest.until('muted', { identity: b.id, source: 'microphone' });
  await a.guest.until('muted', { identity: b.id, source: 'microphone' });
  assert.deepEqual([await b.guest.isMuted('microphone'), await b.guest.isMuted('camera')], [true, false]);
  for (const it of people) await heardOf(it, b, { audioEnabled: false, videoEnabled: true });
  // Nobody is made to speak again by others; who does so oneself can be muted again, though the call does not know.
  await b.guest.unmute('microphone');
  await a.guest.until('unmuted', { identity: b.id, source: 'microphone' });
  const again = Date.now();
  await a.device.do('call:mute_participant', ask);
  await b.guest.until('muted', { identity: b.id, source: 'microphone' }, { after: again });
  const forbidden = await b.device.ask('call:mute_participant', { ...ask, userId: a.id });
  assert.equal(forbidden.code, 'forbidden');
  const unknown = await a.device.ask('call:mute_participant', { ...ask, userId: 'nobody' });
  assert.equal(unknown.code, 'invalid_request');
  assert.equal(await a.guest.isMuted('microphone'), false);
  await part(meeting);
});

test('in an audio call a camera is for who has said so', async () => {
  const meeting = await meet(trusting, { type: 'audio' });
  const { call, people } = meeting;
  const [a, b] = people;
  const allowed = async () => {
    const it = (await venue.guests(call)).find((guest) => guest.identity === b.id);
    return it.permission.can_publish_sources;
  };
  await heardState(a, call, 'connected');
  assert.deepEqual(await allowed(), ['MICROPHONE']);
  await assert.rejects(b.guest.publish('camera'), /permission/);
  await b.device.do('call:toggle_video', { callId: call.id, enabled: true });
  await b.guest.until('permissions');
  assert.deepEqual(await allowed(), ['MICROPHONE', 'CAMERA']);
  await b.guest.publish('camera');
  await a.guest.gets(b.id, { kinds: ['frames'] });
  const off = Date.now();
  await b.device.do('call:toggle_video', { callId: call.id, enabled: false });
  await b.guest.until('permissions', {}, { after: off });
  await a.guest.until('trackUnpublished', { identity: b.id, source: 'camera' });
  assert.deepEqual(await allowed(), ['MICROPHONE']);
  await assert.rejects(b.guest.publish('camera'), /permission/);
  assert.equal((await b.standing(call)).videoEnabled, false);
  await part(meeting);
});

test('a room takes no more than the call does', async () => {
  // Nobody tells the service of this room, so that it puts out nobody.
  const meeting = await meet(trusting, { fate: 'drop' });
  const { call, people } = meeting;
  const [a, b] = people;
  assert.equal((await venue.room(call)).max_participants, call.maxParticipants);
  const { api, url } = venue.livekit;
  const strangers = Array.from({ length: call.maxParticipants - 1 }, (_, index) => `stranger-${index}`);
  const come = (it) => Guest.join(url, api.joinToken(call.roomId, it), { publish: [] });
  const inside = [];
  for (const it of strangers.slice(1)) inside.push(await come(it));
  await assert.rejects(come(strangers[0]));
  // Who is in the call and in the room can take another device all the same.
  const old = b.guest;
  await enterRoom(b);
  await old.until('disconnected', { reason: 'DUPLICATE_IDENTITY' });
  await a.guest.gets(b.id, { kinds: ['packets'] });
  // Heard of, the strangers are put out.
  venue.fates.set(call.roomId, 'pass');
  await b.guest.leave();
  await enterRoom(b);
  await a.device.do('call:mute_participant', { callId: call.id, userId: b.id });
  await eventually(
    'the strangers are put out',
    async () => (await venue.guests(call)).length === people.length,
  );
  await Promise.all([old, ...inside].map((it) => it.close()));
  await part(meeting);
});
