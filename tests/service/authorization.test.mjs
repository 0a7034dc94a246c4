// Who may do what: the authorization matrix as a table, every cell by REST and by socket, live and ended.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { World } from '../support/world.mjs';

const patient = await World.open();
const hasty = await World.open({ RINGING_TIMEOUT: '3' });

/** How to get somebody into each standing of a group call, beside the initiator and one who has joined. */
const STANDINGS = {
  initiator: async ({ initiator }) => initiator,
  joined: async ({ joined }) => joined,
  ringing: async ({ actor }) => actor,
  left: async ({ actor, call }) => {
    await actor.join(call);
    await actor.end(call);
    return actor;
  },
  declined: async ({ actor, call }) => {
    await actor.end(call);
    return actor;
  },
  missed: async ({ actor, deviceI }) => {
    await deviceI.until('call:participant_updated', (it) => it.participant.connectionState === 'missed');
    return actor;
  },
  removed: async ({ actor, call, deviceI }) => {
    await actor.join(call);
    await deviceI.do('call:remove_participant', { callId: call.id, userId: actor.id });
    return actor;
  },
  outsider: async ({ world }) => world.person(),
};

const rest =
  (method, path, body) =>
  ({ person, call }) =>
    person.rest(method, `/${call.id}${path}`, body);
const emit =
  (event, more = () => ({})) =>
  async (cell) => {
    const body = await cell.device.ask(event, { callId: cell.call.id, ...more(cell) });
    return { status: body.success ? 200 : 0, body };
  };
const peer = ({ person, initiator, joined }) => (person === joined ? initiator : joined);
const sample = { jitter: 1, packetLoss: 0, roundTripTime: 1 };

// The columns of the table: initiator, joined, ringing, left, declined, missed, removed, outsider.
const NAMES = ['initiator', 'joined', 'ringing', 'left', 'declined', 'missed', 'removed', 'outsider'];
const row = (text) => Object.fromEntries(text.split(/\s+/).map((it, index) => [NAMES[index], it]));
const Y = 'ok';
const F = 'forbidden';
const all = (word) => row(Array(8).fill(word).join(' '));

/** Each action: ways to ask for it, who may while the call is live, and who may when it is over. */
const ACTIONS = {
  read: {
    ways: {
      'GET /:id': rest('GET', ''),
      'GET /:id/quality': rest('GET', '/quality'),
      'call:resume': emit('call:resume', () => ({ lastSeq: 0 })),
    },
    live: { ...all(Y), outsider: F },
    over: { ...all(Y), outsider: F },
  },
  'see recordings': {
    ways: { 'GET /:id/recordings': rest('GET', '/recordings') },
    live: { ...all('no_media_server'), outsider: F },
    over: { ...all('no_media_server'), outsider: F },
  },
  join: {
    ways: { 'POST /:id/join': rest('POST', '/join'), 'call:accept': emit('call:accept') },
    live: { ...all(Y), removed: 'removed', outsider: 'not_invited' },
    over: { ...all('call_over'), removed: 'removed', outsider: 'not_invited' },
  },
  token: {
    ways: { 'POST /:id/token': rest('POST', '/token') },
    live: row(`${Y} ${Y} not_joined not_joined not_joined not_joined removed ${F}`),
    over: { ...all('call_over'), outsider: F },
  },
  end: {
    ways: { 'POST /:id/end': rest('POST', '/end'), 'call:end': emit('call:end') },
    live: { ...all(Y), outsider: F },
    over: { ...all(Y), outsider: F },
    leaves: { initiator: 'left', joined: 'left', ringing: 'declined' },
  },
  decline: {
    ways: { 'call:decline': emit('call:decline') },
    live: { ...all(Y), initiator: F, outsider: F },
    over: { ...all(Y), initiator: F, outsider: F },
    leaves: { joined: 'connected', ringing: 'declined' },
  },
  'change media': {
    ways: {
      'PATCH /:id/participant': rest('PATCH', '/participant', { audioEnabled: false }),
      'call:toggle_audio': emit('call:toggle_audio', () => ({ enabled: false })),
      'call:toggle_video': emit('call:toggle_video', () => ({ enabled: false })),
      'call:toggle_screen_share': emit('call:toggle_screen_share', () => ({ enabled: true })),
    },
    live: { ...all(F), initiator: Y, joined: Y },
    over: { ...all('call_over'), outsider: F },
  },
  invite: {
    ways: { 'call:invite': emit('call:invite', ({ world }) => ({ participantIds: [world.person().id] })) },
    live: { ...all(F), initiator: Y, joined: Y },
    over: { ...all('call_over'), outsider: F },
  },
  remove: {
    ways: {
      'call:remove_participant': emit('call:remove_participant', (cell) => ({ userId: peer(cell).id })),
    },
    live: { ...all(F), initiator: Y },
    over: { ...all('call_over'), outsider: F },
  },
  'mute another': {
    ways: { 'call:mute_participant': emit('call:mute_participant', (cell) => ({ userId: peer(cell).id })) },
    live: { ...all(F), initiator: Y },
    over: { ...all('call_over'), outsider: F },
  },
  record: {
    ways: {
      'POST /:id/recording/start': rest('POST', '/recording/start'),
      'POST /:id/recording/stop': rest('POST', '/recording/stop'),
    },
    live: { ...all(F), initiator: 'no_media_server' },
    over: { ...all(F), initiator: 'no_media_server' },
  },
  signal: {
    ways: {
      'webrtc:offer': emit('webrtc:offer', (cell) => ({ targetUserId: peer(cell).id, offer: {} })),
      'webrtc:answer': emit('webrtc:answer', (cell) => ({ targetUserId: peer(cell).id, answer: {} })),
      'webrtc:ice_candidate': emit('webrtc:ice_candidate', (cell) => ({
        targetUserId: peer(cell).id,
        candidate: {},
      })),
    },
    live: { ...all(F), initiator: Y, joined: Y },
    over: { ...all('call_over'), outsider: F },
  },
  'give a quality sample': {
    ways: { 'call:quality_update': emit('call:quality_update', () => sample) },
    live: { ...all(F), initiator: Y, joined: Y },
    over: { ...all('call_over'), outsider: F },
  },
  'say that media is up': {
    ways: { 'call:connected': emit('call:connected') },
    live: row(`${Y} ${Y} not_joined not_joined not_joined not_joined not_joined ${F}`),
    over: { ...all('call_over'), outsider: F },
  },
};

/** A group call with somebody in that standing. */
async function cellOf(standing, over) {
  const world = standing === 'missed' ? hasty : patient;
  const [initiator, joined, actor] = world.people(3);
  const deviceI = await initiator.connect();
  const call = await initiator.start([joined, actor], { type: 'audio', videoEnabled: true });
  await joined.join(call);
  const person = await STANDINGS[standing]({ world, initiator, joined, actor, deviceI, call });
  if (over) await initiator.end(call);
  const device = person === initiator ? deviceI : await person.connect();
  return { world, initiator, joined, person, device, call };
}

/** The call and its people, without what time alone changes. */
async function facts({ initiator, call }) {
  const { participants, ...rest } = await initiator.details(call);
  return { ...rest, participants: participants.map(({ duration, ...it }) => it) };
}

async function check({ ways, live, over, leaves = {} }, way, standing, isOver) {
  const cell = await cellOf(standing, isOver);
  const before = await facts(cell);
  const { status, body } = await ways[way](cell);
  const expected = (isOver ? over : live)[standing];
  const got = body.success ? Y : body.code;
  assert.equal(
    got,
    expected,
    `${standing}: ${way}${isOver ? ' after the end' : ''}: ${JSON.stringify(body)}`,
  );
  if (expected === Y) assert.ok(status < 300, `${status}`);
  const after = await facts(cell);
  // Who is refused has changed nothing; nothing changes a call that is over.
  if (expected !== Y || isOver) assert.deepEqual(after, before, `${standing}: ${way} changed something`);
  if (leaves[standing] && !isOver) {
    const { connectionState } = after.participants.find((it) => it.userId === cell.person.id);
    assert.equal(connectionState, leaves[standing], `${standing}: ${way}`);
  }
  cell.device.close();
  if (!isOver) await cell.initiator.end(cell.call);
}

// Each waits for somebody to miss a call, so several run at once.
describe('every cell of the table', { concurrency: 8 }, () => {
  for (const [action, of] of Object.entries(ACTIONS)) {
    for (const way of Object.keys(of.ways)) {
      for (const isOver of [false, true]) {
        test(`${action}: ${way}, ${isOver ? 'after the end' : 'live'}, by everyone`, async () => {
          await Promise.all(NAMES.map((standing) => check(of, way, standing, isOver)));
        });
      }
    }
  }
});

test('who hears what happens in a call', async () => {
  const heard = { ...row('yes yes yes no no yes no no') };
  await Promise.all(
    NAMES.map(async (standing) => {
      const cell = await cellOf(standing, false);
      const deviceJ = cell.person === cell.joined ? cell.device : await cell.joined.connect();
      await deviceJ.do('call:toggle_audio', { callId: cell.call.id, enabled: false });
      await deviceJ.until('call:participant_updated', { userId: cell.joined.id });
      await deviceJ.do('call:invite', { callId: cell.call.id, participantIds: [cell.world.person().id] });
      await cell.initiator.end(cell.call);
      await deviceJ.until('call:ended');
      await cell.device.settled();
      const names = new Set(cell.device.heard(cell.call.id));
      assert.equal(
        names.has('call:participant_updated'),
        heard[standing] === 'yes',
        `${standing}: ${[...names]}`,
      );
      const end = heard[standing] === 'yes' || standing === 'left';
      assert.equal(names.has('call:ended'), end, `${standing}: ${[...names]}`);
      if (standing === 'outsider') assert.equal(names.size, 0);
    }),
  );
});

test('history and active are one’s own in every standing', async () => {
  for (const standing of NAMES) {
    const { person, call } = await cellOf(standing, false);
    const { calls } = await person.want('GET', '/history');
    assert.deepEqual(
      calls.map((it) => it.id),
      standing === 'outsider' ? [] : [call.id],
      standing,
    );
    const active = (await person.want('GET', '/active')).calls.map((it) => it.id);
    assert.ok(active.every((it) => it === call.id));
    if (standing === 'outsider' || standing === 'removed') assert.deepEqual(active, []);
  }
});

test('a polling session is bound to whoever opened it: another’s packets cannot make it theirs', async () => {
  const [a, b] = patient.people(2);
  const device = await a.connect({ transports: ['polling'] });
  const { id: sid } = device.socket.io.engine;
  const { body } = await patient.http(`/socket.io/?EIO=4&transport=polling&sid=${sid}`, {
    method: 'POST',
    body: `40${JSON.stringify({ token: b.token })}`,
    headers: { 'content-type': 'text/plain' },
  });
  assert.ok(body !== undefined);
  const users = (await patient.http('/dev/users')).body.data.users.map((it) => it.userId);
  assert.ok(!users.includes(b.id), 'a second CONNECT on the same session made another user of it');
});
