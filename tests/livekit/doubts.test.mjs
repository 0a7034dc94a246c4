// What LiveKit tells of a room is half, old, lost, or meant for another service.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { enterRoom, heardOf, heardState, meet, part, Venue } from '../support/meeting.mjs';
import { inTime } from '../support/patience.mjs';
import { comeSlowly, openBrowser } from '../support/room.mjs';
import { eventually } from '../support/world.mjs';

/** How often the watchful service compares, and how long a difference may last, milliseconds. */
const CHECK_MS = 500;
const SEEN_MS = CHECK_MS + 2000;
/** LiveKit counts who is in a room only so often, milliseconds. */
const COUNT_MS = 5000;
/** Longer than until the look that a takeover has made, milliseconds. */
const TAKEOVER_MS = 1500;

await openBrowser();
const venue = await Venue.open(3);
const trusting = await venue.world({ LIVEKIT_CHECK_INTERVAL: '30000' });
const watchful = await venue.world({ LIVEKIT_CHECK_INTERVAL: String(CHECK_MS) });
const WAYS = [
  { how: 'by webhooks', world: trusting, fate: 'pass' },
  { how: 'by comparison', world: watchful, fate: 'drop' },
];

for (const { how, world, fate } of WAYS) {
  test(`a second device takes over, and its media takes a while, ${how}`, async () => {
    const meeting = await meet(world, { fate });
    const { call, people } = meeting;
    const [a, b] = people;
    await heardState(a, call, 'connected');
    const go = await comeSlowly(b.ticket.url, b.ticket.token);
    await b.guest.until('disconnected', { reason: 'DUPLICATE_IDENTITY' });
    await pause(TAKEOVER_MS);
    const old = b.guest;
    // The slow one stays until this one is in: between them nobody would be, for as long as a browser takes.
    await enterRoom(b);
    go();
    await old.close();
    await a.guest.gets(b.id, { kinds: ['packets'] });
    await a.device.settled();
    const states = a.device.all('call:state_changed').map((it) => it.state);
    const standings = a.device.all('call:participant_updated').map((it) => it.participant.connectionState);
    await part(meeting);
    assert.deepEqual(states, ['connecting', 'connected']);
    assert.ok(
      standings.every((it) => it === 'connected'),
      `${standings}`,
    );
  });
}

test('what somebody sends shows', async (t) => {
  const meeting = await meet(trusting, { fate: 'pass', publish: ['camera'] });
  t.after(() => part(meeting));
  const { call, people } = meeting;
  const [a, b] = people;
  await heardState(a, call, 'connected');
  await b.guest.share();
  await heardOf(a, b, { screenShareEnabled: true }, { within: SEEN_MS });
  await b.guest.unpublish('camera');
  await heardOf(a, b, { videoEnabled: false }, { within: SEEN_MS });
  await b.guest.unpublish('screen_share');
  await heardOf(a, b, { screenShareEnabled: false }, { within: SEEN_MS });
});

test('who is removed and comes again is put out, though LiveKit has not counted yet', async (t) => {
  // Two others have media, so that nothing else is in doubt.
  const meeting = await meet(watchful, { count: 3, fate: 'drop' });
  t.after(() => part(meeting));
  const { call, people } = meeting;
  const [a, b] = people;
  await heardState(a, call, 'connected');
  await a.device.do('call:remove_participant', { callId: call.id, userId: b.id });
  await b.guest.until('disconnected', { reason: 'PARTICIPANT_REMOVED' });
  const counted = async () => (await venue.room(call)).num_participants === 2;
  await eventually('LiveKit counts two', counted, { within: COUNT_MS + 2000 });
  const inside = async () => (await venue.guests(call)).some((it) => it.identity === b.id);
  b.guest.enter(b.ticket.url, b.ticket.token).catch(() => undefined);
  await eventually('the removed one comes in', inside, { every: 5 });
  const begun = Date.now();
  await eventually('the removed one is put out', async () => !(await inside()), {
    within: COUNT_MS + SEEN_MS,
  });
  const took = Date.now() - begun;
  t.diagnostic(`put out again after ${took} ms`);
  inTime(took, SEEN_MS);
});

test('services that share a LiveKit leave the rooms of one another alone', async (t) => {
  // LiveKit sends every webhook to every address.
  const other = await venue.world({ LIVEKIT_CHECK_INTERVAL: String(CHECK_MS) }, { hearsAll: true });
  const meeting = await meet(trusting, { fate: 'hold' });
  t.after(() => part(meeting));
  const { call, people } = meeting;
  for (const it of people) {
    await other.relay.until({ event: 'participant_joined', room: call.roomId, identity: it.id });
  }
  const { sid } = await venue.room(call);
  await other.relay.release();
  await pause(2 * CHECK_MS);
  assert.equal((await venue.room(call))?.sid, sid);
  for (const it of people) {
    const events = (await it.guest.events()).map(({ event }) => event);
    assert.ok(!events.includes('disconnected'), `${events}`);
  }
  await trusting.relay.release();
  await heardState(people[0], call, 'connected');
});

test('in an audio call the camera of one who takes another device goes on', async (t) => {
  const meeting = await meet(trusting, { type: 'audio' });
  t.after(() => part(meeting));
  const { call, people } = meeting;
  const [a, b] = people;
  await heardState(a, call, 'connected');
  await b.device.do('call:toggle_video', { callId: call.id, enabled: true });
  await b.guest.until('permissions');
  await b.guest.publish('camera');
  await a.guest.gets(b.id, { kinds: ['frames'] });
  b.ticket = (await b.want('POST', `/${call.id}/token`)).token;
  const old = b.guest;
  t.after(() => old.close());
  await enterRoom(b, ['microphone', 'camera']);
  await old.until('disconnected', { reason: 'DUPLICATE_IDENTITY' });
  await pause(TAKEOVER_MS);
  await a.guest.gets(b.id, { kinds: ['frames'], within: SEEN_MS });
  const { permission } = (await venue.guests(call)).find((it) => it.identity === b.id);
  assert.deepEqual(permission.can_publish_sources, ['MICROPHONE', 'CAMERA']);
  assert.equal((await b.standing(call)).videoEnabled, true);
});

test('who is muted while LiveKit hangs is muted once it goes on', async (t) => {
  const meeting = await meet(watchful);
  t.after(() => part(meeting));
  const { call, people } = meeting;
  const [a, b] = people;
  await a.guest.until('trackSubscribed', { identity: b.id, source: 'microphone' });
  await venue.livekit.hold();
  try {
    await a.device.do('call:mute_participant', { callId: call.id, userId: b.id });
    // Longer than LiveKit is waited for.
    await pause(2500);
  } finally {
    venue.livekit.thaw();
  }
  const back = Date.now();
  await heardOf(a, b, { audioEnabled: false });
  const { at } = await b.guest.until('muted', { source: 'microphone' }, { within: 8000 });
  t.diagnostic(`muted ${at - back} ms after LiveKit went on`);
});
