// The same program on Postgres: what happens is written behind, and read from both as from one.
import assert from 'node:assert/strict';
import { chownSync, copyFileSync, chmodSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { Postgres, Relay, trimmed } from '../support/postgres.mjs';
import { ROOT, runToEnd } from '../support/service.mjs';
import { eventually, World } from '../support/world.mjs';

const CERTIFICATE = join(ROOT, 'tests/data/localhost.pem');
const postgres = await Postgres.create();
after(() => postgres.stop());
let databases = 0;
const folders = [];
after(() => folders.forEach((it) => rmSync(it, { recursive: true, force: true })));

async function database() {
  databases += 1;
  return postgres.database(`calls_${databases}`);
}

function folder() {
  folders.push(mkdtempSync(join(tmpdir(), 'call-service-')));
  return folders.at(-1);
}

const ids = (page) => page.calls.map((it) => it.id);

async function figure(world, name) {
  const text = (await (await fetch(`${world.service.urlOf('METRICS_PORT')}/metrics`)).text()).split('\n');
  return Number(
    text
      .find((it) => it.startsWith(`${name} `) || it.startsWith(`${name}{`))
      ?.split(' ')
      .at(-1) ?? 0,
  );
}

/** Waits until nothing waits to be written behind. */
const flushed = (world) =>
  eventually('all is in Postgres', async () => {
    const first = await figure(world, 'journal_unflushed_rows');
    await pause(60);
    return first + (await figure(world, 'journal_unflushed_rows')) === 0;
  });

const on = (name, env = {}) => ({ DATABASE_URL: postgres.urlOf(name), METRICS_PORT: '0', ...env });

test('what happens to a call is in Postgres a moment later, as the service tells it', async () => {
  const name = await database();
  const world = await World.start(on(name));
  const { a, b, deviceA, call } = await world.callOfTwo({ chatId: 'chat', type: 'audio' });
  await deviceA.do('call:quality_update', { callId: call.id, jitter: 5, packetLoss: 0.1, roundTripTime: 40 });
  await eventually(
    'the live call is there',
    async () => (await postgres.one('SELECT state FROM calls', name)) === 'connected',
  );
  await b.end(call);
  await flushed(world);
  const told = (await a.details(call)).call;
  const [row] = await postgres.sql(
    `SELECT id, room_id, type, state, initiator_id, chat_id, is_group, max_participants, end_reason, created_at, ended_at, epoch, seq FROM calls`,
    name,
  );
  assert.deepEqual(row, [
    call.id,
    `room_${call.id}`,
    'audio',
    'ended',
    a.id,
    'chat',
    'f',
    '8',
    'normal',
    `${Date.parse(told.createdAt)}`,
    `${Date.parse(told.endedAt)}`,
    `${told.epoch}`,
    `${told.seq}`,
  ]);
  const people = await postgres.sql(
    'SELECT user_id, role, connection_state FROM call_participants ORDER BY role',
    name,
  );
  assert.deepEqual(people.map(([user]) => user).sort(), [a.id, b.id].sort());
  const seqs = (await postgres.sql('SELECT seq FROM call_events ORDER BY seq', name)).map(([it]) =>
    Number(it),
  );
  assert.equal(seqs.at(-1), told.seq);
  assert.deepEqual(seqs, [...new Set(seqs)]);
  const samples = await postgres.sql(
    'SELECT jitter, packet_loss, round_trip_time, quality FROM call_quality_metrics',
    name,
  );
  assert.deepEqual(samples, [['5', '0.1', '40', 'excellent']]);
  const partitions = await postgres.one(
    `SELECT count(*) FROM pg_inherits WHERE inhparent = 'call_quality_metrics'::regclass`,
    name,
  );
  assert.equal(partitions, '4', 'today and three days ahead');
  assert.equal((await world.http('/ready')).body.checks.store, 'ok');
  await world.close();
});

test('recent and past calls are one history, one set of figures', async () => {
  const name = await database();
  const dataDir = folder();
  let world = await World.start(on(name), { dataDir });
  const [a, b] = world.people(2);
  const deviceA = await a.connect();
  const past = [];
  for (let count = 0; count < 9; count += 1) {
    const call = await a.start(b, { type: count % 3 === 0 ? 'audio' : 'video', chatId: `chat-${count % 2}` });
    if (count % 3 === 0) {
      await b.join(call);
      await a.want('GET', `/${call.id}`);
    }
    await a.end(call);
    past.push(call.id);
    await pause(2);
  }
  await flushed(world);
  const whole = await a.want('GET', '/history');
  assert.deepEqual(ids(whole), past.toReversed());
  const [before, figures] = [await a.want('GET', '/history?state=ended'), await a.want('GET', '/stats')];
  deviceA.close();
  await world.close();

  // The local file now keeps nothing that is over.
  world = await World.start(on(name, { DATABASE_LOCAL_KEEP: '0' }), { dataDir });
  a.world = world;
  b.world = world;
  await trimmed(world);
  assert.deepEqual(await a.want('GET', '/history'), whole);
  assert.deepEqual(await a.want('GET', '/history?state=ended'), before);
  assert.deepEqual(await a.want('GET', '/stats'), figures);
  assert.deepEqual((await a.details(past[0])).participants.length, 2);
  assert.equal((await world.person().refused(403, 'forbidden', 'GET', `/${past[0]}`)).success, false);
  assert.equal(await b.end(past[0]), 'Call ended successfully');
  assert.deepEqual(await a.want('GET', `/${past[0]}/quality`), { participants: [] });

  // New ones are in both, or in the local file alone.
  const recent = [];
  for (let count = 0; count < 4; count += 1) {
    const call = await a.start(b);
    await a.end(call);
    recent.push(call.id);
    assert.equal(ids(await a.want('GET', '/history?limit=1'))[0], call.id, 'the call that just ended');
    await pause(2);
  }
  const live = await a.start(b);
  const newest = [live.id, ...recent.toReversed(), ...past.toReversed()];
  for (const limit of [1, 3, 4, 5, 14, 100]) {
    const found = [];
    for (let offset = 0; offset <= 15; offset += limit) {
      const page = await a.want('GET', `/history?limit=${limit}&offset=${offset}`);
      assert.equal(page.pagination.total, 14);
      found.push(...ids(page));
    }
    assert.deepEqual(found, newest, `by offset, ${limit} at a time`);
    const followed = [];
    let cursor = '';
    do {
      const page = await a.want('GET', `/history?limit=${limit}${cursor}`);
      followed.push(...ids(page));
      cursor = page.pagination.nextCursor && `&cursor=${encodeURIComponent(page.pagination.nextCursor)}`;
    } while (cursor);
    assert.deepEqual(followed, newest, `by cursor, ${limit} at a time`);
  }
  assert.deepEqual(ids(await a.want('GET', '/history?state=ringing')), [live.id]);
  const cancelled = await a.want('GET', '/history?state=cancelled&limit=2&offset=3');
  assert.deepEqual([ids(cancelled).length, cancelled.pagination.total], [2, 10]);
  const stats = await a.want('GET', '/stats');
  assert.deepEqual(
    [stats.totalCalls, stats.activeCalls, stats.completedCalls, stats.failedCalls],
    [14, 1, 3, 10],
  );
  await a.end(live);
  await flushed(world);
  await world.close();

  // A file that was used without Postgres in between begins anew with all that it has; nothing is there twice.
  world = await World.start({}, { dataDir });
  a.world = world;
  const alone = await a.start(b);
  await a.end(alone);
  await world.close();
  world = await World.start(on(name), { dataDir });
  a.world = world;
  await flushed(world);
  assert.equal(await postgres.one('SELECT count(*) FROM calls', name), '15');
  assert.equal(await postgres.one(`SELECT state FROM calls WHERE id = '${alone.id}'`, name), 'cancelled');
  await world.close();
});

test('a COMMIT whose outcome is unknown makes nothing twice, and loses nothing', async () => {
  const name = await database();
  const relay = await Relay.to(postgres.port);
  after(() => relay.close());
  let [cuts, cutting] = [0, false];
  relay.cut = (data) => {
    if (!cutting || cuts >= 3 || !data.includes('COMMIT') || data.includes('CREATE')) return false;
    cuts += 1;
    return true;
  };
  const env = on(name, {
    DATABASE_URL: relay.url.replace('/calls?', `/${name}?`),
    DATABASE_READ_TIMEOUT: '500',
  });
  const migrated = await runToEnd({ args: ['migrate'], env: on(name) });
  assert.equal(migrated.code, 0, migrated.stderr);
  const world = await World.start(env);
  await flushed(world);
  cutting = true;
  const [a, b] = world.people(2);
  for (let count = 0; count < 10; count += 1) {
    await a.end(await a.start(b));
    await pause(100);
  }
  await eventually('three answers are lost', () => cuts === 3, { within: 10_000 });
  await flushed(world);
  assert.ok((await figure(world, 'postgres_batch_failures_total')) >= 3);
  const [[calls, participants, events]] = await postgres.sql(
    `SELECT (SELECT count(*) FROM calls WHERE state = 'cancelled'), (SELECT count(*) FROM call_participants),
       (SELECT count(*) FROM call_events)`,
    name,
  );
  assert.deepEqual([calls, participants], ['10', '20']);
  assert.ok(Number(events) >= 20);
  await world.close();
});

test('a row that Postgres never takes is set aside; the rest of its batch lands', async () => {
  const name = await database();
  const migrated = await runToEnd({ args: ['migrate'], env: on(name) });
  assert.equal(migrated.code, 0, migrated.stderr);
  await postgres.sql(
    `ALTER TABLE calls ADD CONSTRAINT unlucky CHECK (chat_id IS DISTINCT FROM 'unlucky')`,
    name,
  );
  const world = await World.start(on(name, { DATABASE_BATCH_AGE: '500' }));
  const [a, b] = world.people(2);
  for (let count = 0; count < 6; count += 1)
    await a.end(await a.start(b, { chatId: count === 3 ? 'unlucky' : 'fine' }));
  const called = await world.callOfTwo();
  const sample = { callId: called.call.id, jitter: 5, packetLoss: 0.1, roundTripTime: 40 };
  await called.deviceA.do('call:quality_update', { ...sample, codec: 'opus\u0000' });
  await called.deviceB.do('call:quality_update', { ...sample, codec: 'opus' });
  await called.a.end(called.call);
  await eventually(
    'all else is there',
    async () => (await postgres.one(`SELECT count(*) FROM calls WHERE state = 'ended'`, name)) === '1',
  );
  await flushed(world);
  assert.deepEqual(await postgres.sql('SELECT codec FROM call_quality_metrics', name), [['opus']]);
  assert.equal(await postgres.one('SELECT count(*) FROM calls', name), '6');
  assert.equal(await postgres.one('SELECT count(*) FROM call_participants', name), '14');
  assert.ok((await figure(world, 'postgres_rows_refused_total')) >= 2);
  assert.equal((await a.want('GET', '/history')).pagination.total, 6, 'the local file still has it');
  await world.close();
});

test('no row goes back to an older change, nor out of a terminal state', async () => {
  const name = await database();
  const world = await World.start(on(name));
  const { b, call } = await world.callOfTwo({ connect: false });
  await flushed(world);
  const other = await world.callOfTwo({ connect: false });
  await flushed(world);
  await postgres.sql(`UPDATE calls SET epoch = 9 WHERE id = '${call.id}'`, name);
  await postgres.sql(`UPDATE calls SET state = 'failed' WHERE id = '${other.call.id}'`, name);
  await b.end(call);
  await other.b.end(other.call);
  await flushed(world);
  const states = await postgres.sql(`SELECT state FROM calls ORDER BY created_at`, name);
  assert.deepEqual(states.flat(), ['connected', 'failed']);
  await world.close();
});

test('a history is filtered by copies of what its calls say, and by the calls where there are none', async () => {
  const name = await database();
  const dataDir = folder();
  let world = await World.start(on(name), { dataDir });
  const [a, b, early] = world.people(3);
  const made = [];
  for (let count = 0; count < 12; count += 1) {
    const options = {
      type: count % 2 ? 'audio' : 'video',
      ...(count % 4 && { chatId: `chat-${count % 4}` }),
    };
    const call = await a.start([b, early], options);
    if (count % 3) await early.join(call);
    if (count % 3 === 2) await b.join(call);
    // Out before the end, which changes nothing of theirs.
    await early.end(call);
    await a.end(call);
    if (count % 3 === 2) await b.end(call);
    made.unshift({ id: call.id, ...options, state: (await a.details(call)).call.state });
    await pause(2);
  }
  await flushed(world);
  await world.close();
  assert.deepEqual([...new Set(made.map((it) => it.state))].sort(), ['cancelled', 'ended']);
  const odd = `SELECT count(*) FROM call_participants p JOIN calls c ON c.id = p.call_id
    WHERE (p.call_type, p.call_state) <> (c.type, c.state) OR p.call_type IS NULL OR p.call_state IS NULL
      OR p.chat_id IS DISTINCT FROM c.chat_id`;
  assert.equal(await postgres.one(odd, name), '0', 'each has a copy');

  world = await World.start(on(name, { DATABASE_LOCAL_KEEP: '0' }), { dataDir });
  await trimmed(world);
  const queries = [undefined, 'audio', 'video'].flatMap((type) =>
    [undefined, 'ended', 'cancelled', 'missed'].flatMap((state) =>
      [undefined, 'chat-1', 'chat-2', 'nowhere'].map((chatId) =>
        Object.entries({ type, state, chatId }).filter(([, value]) => value),
      ),
    ),
  );
  const pages = async () => {
    for (const person of [a, b, early]) {
      person.world = world;
      for (const query of queries) {
        const fits = made.filter((it) => query.every(([key, value]) => it[key] === value));
        const page = await person.want('GET', `/history?limit=3&offset=1&${new URLSearchParams(query)}`);
        assert.deepEqual(
          [ids(page), page.pagination.total],
          [fits.slice(1, 4).map((it) => it.id), fits.length],
          `${query}`,
        );
      }
    }
  };
  await pages();
  // As rows from before there were copies.
  await postgres.sql(
    `UPDATE call_participants SET call_type = NULL, call_state = NULL, chat_id = NULL
      WHERE call_id IN (SELECT id FROM calls ORDER BY id LIMIT 7)`,
    name,
  );
  await pages();
  await world.close();
});

test('whom only a deposed owner knew does not come into the history', async () => {
  const name = await database();
  const world = await World.start(on(name));
  const [a, b, c, d] = world.people(4);
  const call = await a.start([b, c]);
  await flushed(world);
  const known = 'SELECT user_id FROM call_participants ORDER BY user_id';
  const three = await postgres.sql(known, name);
  assert.equal(three.length, 3);
  // As a node does that takes the call over, and writes all of its people anew.
  for (const table of ['calls', 'call_participants'])
    await postgres.sql(`UPDATE ${table} SET epoch = 9`, name);
  const device = await a.connect();
  await device.do('call:invite', { callId: call.id, participantIds: [d.id] });
  await flushed(world);
  assert.deepEqual(await postgres.sql(known, name), three);
  await world.close();
});

test('migrations: by the command, by two at once, and MIGRATE=off insists', async () => {
  const name = await database();
  const refused = await runToEnd({ env: on(name, { MIGRATE: 'off' }) });
  assert.notEqual(refused.code, 0);
  assert.match(refused.stderr, /MIGRATE=off: run `call-service migrate` first/);
  const both = await Promise.all([1, 2].map(() => runToEnd({ args: ['migrate'], env: on(name) })));
  for (const { code, stdout, stderr } of both) {
    assert.equal(code, 0, stderr);
    assert.match(stdout, /DATABASE_URL: tables up to date/);
  }
  const steps = readdirSync(join(ROOT, 'migrations/postgres')).length;
  assert.equal(await postgres.one('SELECT count(*) FROM refinery_schema_history', name), String(steps));
  const checked = await runToEnd({ args: ['check'], env: on(name) });
  assert.match(checked.stdout, /^ok +DATABASE_URL: reached, tables up to date$/m);
  const wrong = await runToEnd({ args: ['check'], env: { DATABASE_URL: postgres.urlOf('nowhere') } });
  assert.match(wrong.stdout, /^FAILED +DATABASE_URL: .*database "nowhere" does not exist/m);
  const form = await runToEnd({ env: { DATABASE_URL: 'mysql://somewhere' } });
  assert.match(form.stderr, /^DATABASE_URL holds 17 bytes \(not shown\); allowed: postgresql:/);
});

test('a user is erased in both', async () => {
  const name = await database();
  const dataDir = folder();
  const world = await World.start(on(name), { dataDir });
  const { a, b, call } = await world.callOfTwo({ connect: false });
  await a.end(call);
  await world.close();
  const { stdout, stderr } = await runToEnd({ args: ['erase', '--user', a.id], env: on(name), dataDir });
  assert.match(stdout, /^erased: 1 calls made nameless/, stderr);
  for (const column of [
    'user_id FROM call_participants',
    'initiator_id FROM calls',
    'recipients || data FROM call_events',
  ]) {
    const left = (await postgres.sql(`SELECT ${column}`, name)).flat().filter((it) => it.includes(a.id));
    assert.deepEqual(left, [], column);
  }
  assert.equal(
    await postgres.one(`SELECT count(*) FROM call_participants WHERE user_id = '${b.id}'`, name),
    '1',
  );
});

test('TLS: any certificate with require, the right one and the right name with verify-full', async () => {
  const secure = await Postgres.create({ listen_addresses: '127.0.0.1,127.0.0.2' });
  const [pem, key] = ['pem', 'key'].map((it) => join(secure.folder, `server.${it}`));
  copyFileSync(CERTIFICATE, pem);
  copyFileSync(CERTIFICATE.replace('.pem', '.key'), key);
  const owner =
    process.getuid() === 0
      ? ['-u', '-g'].map((it) => Number(execFileSync('id', [it, 'postgres'])))
      : undefined;
  for (const file of [pem, key]) {
    chmodSync(file, 0o600);
    if (owner) chownSync(file, ...owner);
  }
  await secure.crash();
  Object.assign(secure.settings, { ssl: 'on', ssl_cert_file: pem, ssl_key_file: key });
  await secure.start();
  const check = async (host, query) => {
    const DATABASE_URL = `postgresql://calls@${host}:${secure.port}/calls?${query}`;
    const { stdout } = await runToEnd({ args: ['check'], env: { DATABASE_URL } });
    return /^(ok|FAILED) +DATABASE_URL/m.exec(stdout)?.[1];
  };
  const trusted = `sslrootcert=${encodeURIComponent(CERTIFICATE)}`;
  const unrelated = `sslrootcert=${encodeURIComponent(join(ROOT, 'tests/data/renewed.pem'))}`;
  const ways = {
    require: ['127.0.0.1', 'sslmode=require'],
    verified: ['localhost', `sslmode=verify-full&${trusted}`],
    otherName: ['127.0.0.2', `sslmode=verify-full&${trusted}`],
    otherRoot: ['localhost', `sslmode=verify-full&${unrelated}`],
    plain: ['127.0.0.1', 'sslmode=disable'],
  };
  // At once: one that fails has tried for three seconds.
  const results = Object.fromEntries(
    await Promise.all(Object.entries(ways).map(async ([name, way]) => [name, await check(...way)])),
  );
  await secure.crash();
  secure.settings.ssl = 'off';
  await secure.start();
  results.required = await check('127.0.0.1', 'sslmode=require');
  await secure.stop();
  assert.deepEqual(results, {
    require: 'ok',
    verified: 'ok',
    otherName: 'FAILED',
    otherRoot: 'FAILED',
    plain: 'ok',
    required: 'FAILED',
  });
});
