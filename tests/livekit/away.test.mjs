// LiveKit is away, hangs, is slow or does not believe us: starts say so in time, everything else goes on, and all is well soon after.
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { LiveKit } from '../support/livekit.mjs';
import { Passage } from '../support/passage.mjs';
import { inTime } from '../support/patience.mjs';
import { door, onlyRoomsOf, roomNames, timed } from '../support/rooms.mjs';
import { OUTPUT, runToEnd } from '../support/service.mjs';
import { Toxiproxy } from '../support/toxiproxy.mjs';
import { eventually, World } from '../support/world.mjs';

/** How long a start may take, milliseconds. */
const START_MS_MAX = 2200;
/** How long one may take where LiveKit is known to be away. */
const AT_ONCE_MS = 100;
/** How long anything else may take meanwhile. */
const QUICK_MS = 400;
/** How long after its return LiveKit is used again. */
const BACK_MS = 6500;
const WRONG = 'a secret of which that LiveKit has never heard';

const livekit = await LiveKit.start();
const toxiproxy = await Toxiproxy.start();
after(() => Promise.all([livekit.stop(), toxiproxy.stop()]));
const envOf = (server, way) => ({
  ...server.env,
  ...(way && { LIVEKIT_API_URL: `http://${way.host}` }),
  LIVEKIT_CHECK_INTERVAL: '500',
});

const start = (caller, other, headers) =>
  caller.rest('POST', '/start', { type: 'audio', participantIds: [other.id] }, headers);
const health = async (world) => (await world.http('/monitoring/health')).body;

/** A start that says in time that there is no media; gives how long it took. */
async function refusedStart(world) {
  const [took, { status, body, headers }] = await timed(start(world.person(), world.person()));
  assert.deepEqual([status, body.success, body.code], [503, false, 'media_unavailable']);
  const wait = Number(headers.get('retry-after'));
  assert.ok(wait >= 1 && wait <= 10, `Retry-After: ${headers.get('retry-after')}`);
  inTime(took, START_MS_MAX, 'a start');
  return took;
}

/** Everything that is not a start, in calls that live: all of it is answered soon. */
async function othersGoOn({ group, pairs }) {
  const quick = async (what, work) => {
    const [took, it] = await timed(work);
    inTime(took, QUICK_MS, what);
    return it;
  };
  const [a, b, c, d, e] = group.people;
  const { call } = group;
  const path = (end) => `/${call.id}/${end}`;
  const joined = await quick('a join', c.join(call));
  assert.equal(joined.token.media, 'livekit');
  await quick('a token', b.want('POST', path('token')));
  await quick('a PATCH', b.want('PATCH', path('participant'), { videoEnabled: true }));
  await quick('a toggle', group.device.do('call:toggle_screen_share', { callId: call.id, enabled: true }));
  await quick('a decline', d.end(call));
  await quick('a leave', c.end(call));
  await quick('an accept', e.join(call));
  await quick('a removal', group.device.do('call:remove_participant', { callId: call.id, userId: e.id }));
  await quick('a look', a.details(call));
  await quick('an end', a.end(call));
  assert.equal((await quick('a look', b.details(call))).call.state, 'ended');
  await quick('an end', pairs[0].a.end(pairs[0].call));
  await quick('a cancel', pairs[1].a.end(pairs[1].call));
}

async function liveCalls(world) {
  const people = world.people(5);
  const device = await people[0].connect();
  const call = await people[0].start(people.slice(1), { type: 'audio' });
  await people[1].join(call);
  const ringing = world.people(2);
  const stays = await world.callOfTwo({ connect: false });
  return {
    group: { people, device, call },
    pairs: [
      await world.callOfTwo({ connect: false }),
      { a: ringing[0], call: await ringing[0].start(ringing[1]) },
    ],
    stays,
  };
}

const SITUATIONS = {
  hangs: { own: true, breaks: (it) => it.server.hold(), heals: (it) => it.server.thaw() },
  'has crashed': { own: true, breaks: (it) => it.server.crash(), heals: (it) => it.server.begin() },
  'refuses connections': { breaks: (it) => it.way.close(), heals: (it) => it.way.open() },
  'says nothing': { breaks: (it) => it.way.add('timeout', { timeout: 0 }), heals: (it) => it.way.clear() },
  'cuts connections': {
    breaks: (it) => it.way.add('reset_peer', { timeout: 0 }),
    heals: (it) => it.way.clear(),
  },
  'takes five seconds': {
    breaks: (it) => it.way.add('latency', { latency: 5000 }),
    heals: (it) => it.way.clear(),
  },
};

async function outage({ own, breaks, heals }) {
  const server = own ? await LiveKit.start() : livekit;
  const way = own ? undefined : await toxiproxy.before(server.ports.port);
  const world = await World.open(envOf(server, way));
  const it = { server, way };
  const calls = await liveCalls(world);
  await eventually('media is well', async () => (await health(world)).checks.media === 'ok');
  await breaks(it);
  // At once: a look that fails counts too, so that sooner or later LiveKit is left alone.
  await Promise.all(Array.from({ length: 5 }, () => refusedStart(world)));
  const took = [];
  for (let times = 0; times < 5; times += 1) took.push(await refusedStart(world));
  // One may meet a busy moment of the machine.
  const [, , middle] = took.sort((one, other) => one - other);
  inTime(middle, AT_ONCE_MS, 'a start, once it is known');
  await othersGoOn(calls);
  const away = await eventually('media is away', async () => {
    const now = await health(world);
    return now.checks.media === 'away' && now;
  });
  assert.equal(away.status, 'degraded');
  const ready = await world.http('/ready');
  assert.deepEqual([ready.status, ready.body.status, ready.body.checks.media], [200, 'ready', 'away']);
  assert.equal((await world.http('/health')).status, 200);
  await heals(it);
  const begun = Date.now();
  const [caller, other] = world.people(2);
  const again = await eventually(
    'calls can be started again',
    async () => {
      const [took, answer] = await timed(start(caller, other));
      inTime(took, START_MS_MAX, 'a start');
      return answer.status === 201 && answer.body.data;
    },
    { within: BACK_MS, every: 100 },
  );
  const back = Date.now() - begun;
  assert.equal(await door(server, again.token.token), 200);
  assert.equal((await calls.stays.a.details(calls.stays.call)).call.endedAt, null);
  await eventually('media is well again', async () => (await health(world)).status === 'healthy');
  const mine = [calls.stays.call, again.call];
  const gone = [calls.group, ...calls.pairs].map((one) => one.call.roomId);
  const mended = async () => {
    const names = await roomNames(server);
    return mine.every((call) => names.includes(call.roomId)) && gone.every((room) => !names.includes(room));
  };
  await eventually('the rooms are those of the live calls', mended, { within: 12_000, every: 100 });
  const all = Date.now() - begun;
  await calls.stays.a.end(calls.stays.call);
  await caller.end(again.call);
  if (own) await onlyRoomsOf(server, []);
  await world.close();
  if (own) await server.stop();
  return { back, all };
}

test('outages', { concurrency: true }, (context) =>
  Promise.all(
    Object.entries(SITUATIONS).map(([what, situation]) =>
      context.test(`LiveKit ${what}: starts say so in time, the rest goes on, and it heals`, async (its) => {
        const { back, all } = await outage(situation);
        its.diagnostic(`${what}: starts again after ${back} ms, rooms mended after ${all} ms`);
      }),
    ),
  ),
);

test('a service starts and stops while LiveKit hangs, and mends what it missed', async () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'call-service-'));
  after(() => rmSync(dataDir, { recursive: true, force: true }));
  const server = await LiveKit.start();
  const before = await World.start(envOf(server), { dataDir });
  const [stays, ended] = [
    await before.callOfTwo({ connect: false }),
    await before.callOfTwo({ connect: false }),
  ];
  await server.hold();
  await ended.a.end(ended.call);
  await before.abandon();
  const [took, world] = await timed(World.start(envOf(server), { dataDir }));
  inTime(took, 5000, 'starting');
  for (const it of [stays, ended]) it.a.world = it.b.world = world;
  assert.equal((await ended.a.details(ended.call)).call.state, 'ended');
  assert.equal((await stays.b.want('POST', `/${stays.call.id}/token`)).token.media, 'livekit');
  await refusedStart(world);
  const [stopped] = await timed(world.close());
  inTime(stopped, 5000, 'stopping');
  const again = await World.start(envOf(server), { dataDir });
  stays.a.world = again;
  await server.crash();
  await server.begin();
  await onlyRoomsOf(server, [stays.call], { within: 10_000 });
  await stays.a.end(stays.call);
  await onlyRoomsOf(server, []);
  await again.close();
  await server.stop();
});

test('with half a second more each way of asking, starts succeed', async () => {
  const way = await toxiproxy.before(livekit.ports.port);
  const world = await World.open(envOf(livekit, way));
  await way.add('latency', { latency: 500 });
  const answers = await Promise.all(
    Array.from({ length: 20 }, () => timed(start(world.person(), world.person()))),
  );
  for (const [took, { status, body }] of answers) {
    assert.equal(status, 201, JSON.stringify(body));
    assert.ok(took > 400, `a start took ${took} ms`);
    inTime(took, START_MS_MAX, 'a start');
    assert.equal(await door(livekit, body.data.token.token), 200);
  }
  assert.equal((await health(world)).checks.media, 'ok');
  await way.clear();
  await world.close();
});

test('what changes while a room is made counts, and the room then goes', async () => {
  const server = await LiveKit.start();
  const way = await toxiproxy.before(server.ports.port);
  const world = await World.open(envOf(server, way));
  const [a, b, c, d, e, f] = world.people(6);
  const call = await a.start(b);
  const heal = await way.add('latency', { latency: 700 });
  const starts = [start(c, b), start(d, e), start(d, f), start(e, d, { 'idempotency-key': 'x' })];
  await pause(250);
  await b.join(call);
  const [busy, ...others] = await Promise.all(starts);
  assert.deepEqual([busy.status, busy.body.code], [409, 'busy']);
  // Of three that get in each other's way one is made, and one may be a join of it.
  const made = others.filter((it) => it.status === 201).map((it) => it.body.data.call);
  assert.ok(made.length >= 1 && made.length <= 2, others.map((it) => it.status).join(' '));
  await heal();
  await onlyRoomsOf(server, [call, ...made]);
  await world.close();
  await server.stop();
});

test('a room that is made although nobody waited for it does not stay', async () => {
  const server = await LiveKit.start();
  const way = await toxiproxy.before(server.ports.port);
  const world = await World.open(envOf(server, way));
  await way.add('latency', { latency: 2500 });
  await refusedStart(world);
  await eventually('LiveKit has made it', async () => (await roomNames(server)).length === 1);
  await way.clear();
  await onlyRoomsOf(server, [], { within: 12_000 });
  await world.close();
  await server.stop();
});

for (const [starts, places, delay, why] of [
  [40, 4, 30, 'and all find one in time'],
  [100, 4, 250, 'and who finds none in time hears so'],
  [100, 8, 250, 'and who finds none in time hears so'],
]) {
  test(`${starts} starts share ${places} places, ${why}`, async () => {
    const server = await LiveKit.start();
    const passage = await Passage.open(server);
    const world = await World.open({
      ...passage.env,
      LIVEKIT_CONCURRENCY: String(places),
      LIVEKIT_CHECK_INTERVAL: '30000',
    });
    passage.delay = delay;
    passage.peak = 0;
    const answers = await Promise.all(
      Array.from({ length: starts }, () => timed(start(world.person(), world.person()))),
    );
    const made = answers.filter(([, it]) => it.status === 201).map(([, it]) => it.body.data.call);
    for (const [took, { status, body }] of answers) {
      inTime(took, START_MS_MAX, 'a start');
      if (status !== 201) assert.deepEqual([status, body.code], [503, 'media_unavailable']);
    }
    assert.equal(passage.peak, places);
    if (delay === 30) assert.equal(made.length, starts);
    // How many depends on how busy the machine is.
    else assert.ok(made.length >= places && made.length < starts, `${made.length} were made`);
    // Our own crowd is no fault of LiveKit's.
    passage.delay = 0;
    assert.equal((await start(world.person(), world.person())).status, 201);
    const found = await roomNames(server);
    assert.deepEqual(
      made.map((it) => it.roomId).filter((it) => !found.includes(it)),
      [],
    );
    await world.close();
    await passage.close();
    await server.stop();
  });
}

test('with a secret that LiveKit does not know there is no media, and check says so', async () => {
  const env = { ...envOf(livekit), LIVEKIT_API_SECRET: WRONG };
  const world = await World.open(env);
  for (let times = 0; times < 7; times += 1) await refusedStart(world);
  await eventually('media is away', async () => (await health(world)).checks.media === 'away');
  await world.close();
  const line = (said) => said.stdout.split('\n').find((it) => it.includes('LIVEKIT_URL'));
  const fine = await runToEnd({ args: ['check'], env: envOf(livekit) });
  assert.match(line(fine) ?? `none in:\n${fine.stdout}`, /^ok .*LIVEKIT_URL.*reached/);
  assert.equal(fine.code, 0);
  for (const [what, wrong] of [
    ['a wrong secret', env],
    ['nobody there', { ...envOf(livekit), LIVEKIT_API_URL: 'http://127.0.0.1:1' }],
  ]) {
    const said = await runToEnd({ args: ['check'], env: wrong });
    assert.match(line(said) ?? `none in:\n${said.stdout}`, /^FAILED .*LIVEKIT_URL/, what);
    assert.ok(said.code > 0, what);
    for (const secret of [WRONG, livekit.secret, 'eyJ'])
      assert.ok(!(said.stdout + said.stderr).includes(secret));
  }
});

test('no log of any of this holds a token or a secret', () => {
  const logs = readdirSync(OUTPUT).filter((it) => it.startsWith(`service-${process.pid}-`));
  assert.ok(logs.length > 5);
  for (const name of logs) {
    const log = readFileSync(join(OUTPUT, name), 'utf8');
    assert.ok(log.includes('"listening"'), name);
    for (const secret of [livekit.secret, WRONG, 'eyJ', 'turnPassword', 'turn_password']) {
      const line = log.split('\n').find((it) => it.includes(secret));
      assert.equal(line, undefined, `${name} holds ${secret}`);
    }
  }
});
