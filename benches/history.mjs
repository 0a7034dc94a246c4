// What a year of history costs: pages of it out of Postgres, each with its total, by those who have some calls and by one who has very
// many; and whether what goes on costs more with it. `make bench-history`, or:
//   ROWS=10000000 SECONDS=10 node benches/history.mjs
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Postgres } from '../tests/support/postgres.mjs';
import { fastBinary, OUTPUT, startService } from '../tests/support/service.mjs';
import { circumstances, inLines } from './circumstances.mjs';
import { call, load, PRODUCTION, serverOf } from './load.mjs';
import { publish } from './readme.mjs';

/** Calls in the year, of two people each. */
const ROWS = Number(process.env.ROWS ?? 10_000_000);
const SECONDS = Number(process.env.SECONDS ?? 10);
/** Calls that somebody has in it, about. */
const CALLS_EACH = 100;
const USERS = Math.max(10, Math.round((2 * ROWS) / CALLS_EACH));
/** One call of so many is the desk's. */
const DESK_EVERY = 1000;
/** Pages asked for, a second: far below what it can answer, as their times are what counts. */
const RATE = 200;
const CONNECTIONS = 8;
/** Those whose pages are asked for. */
const READERS = 2000;
const YEAR_MS = 365 * 24 * 3600 * 1000;

/** How long one step of filling it may take, milliseconds. */
const FILL_MS_MAX = 1_800_000;

/** Nothing of it has to outlast the bench. */
const POSTGRES = {
  fsync: 'off',
  wal_level: 'minimal',
  max_wal_senders: 0,
  max_wal_size: '8GB',
  shared_buffers: '2GB',
  maintenance_work_mem: '1GB',
  autovacuum: 'off',
};

const note = (text) => process.stderr.write(`${text}\n`);

const calls = `INSERT INTO calls (id, room_id, type, state, initiator_id, is_group, max_participants, started_at, ended_at,
    duration, end_reason, created_at, updated_at, epoch, seq)
  SELECT id, 'room_' || id, CASE i % 3 WHEN 0 THEN 'video' ELSE 'audio' END, 'ended',
    CASE i % ${DESK_EVERY} WHEN 0 THEN 'desk' ELSE 'reader-' || (i::bigint * 7919) % ${USERS} END, FALSE, 2, at + 2000, at + 60000, 58,
    'normal', at, at + 60000, 1, 12
  FROM (SELECT i, at,
      (lpad(to_hex(at), 12, '0') || '7' || lpad(to_hex(i & 4095), 3, '0') || '8' || lpad(to_hex(i), 15, '0'))::uuid AS id
    FROM (SELECT i, ${Date.now() - YEAR_MS} + (i::bigint * ${YEAR_MS}) / ${ROWS} AS at FROM generate_series(1, ${ROWS}) i) times) made`;

const participants = `INSERT INTO call_participants (id, call_id, user_id, role, joined_at, left_at, duration, connection_state,
    audio_enabled, video_enabled, screen_share_enabled, call_created_at, created_at, updated_at, epoch, seq, call_type, call_state, chat_id)
  SELECT gen_random_uuid(), c.id, CASE n WHEN 0 THEN c.initiator_id ELSE 'reader-' || abs(hashtext(c.id::text)) % ${USERS} END,
    CASE n WHEN 0 THEN 'initiator' ELSE 'participant' END, c.created_at, c.ended_at, 58, 'left', TRUE, FALSE, FALSE,
    c.created_at, c.created_at, c.updated_at, 1, 12, c.type, c.state, c.chat_id
  FROM calls c, (VALUES (0), (1)) AS who (n) ORDER BY c.id`;

/** A year of calls; what orders them is made after them, which takes a fraction of the time. */
async function fill(postgres) {
  const step = async (what, sql) => {
    const begun = performance.now();
    await postgres.sql(sql, 'calls', { within: FILL_MS_MAX });
    note(`  ${what}: ${((performance.now() - begun) / 1000).toFixed(0)} s`);
  };
  const indexes = await postgres.sql(
    `SELECT indexname, indexdef FROM pg_indexes WHERE tablename IN ('calls', 'call_participants') AND indexname NOT LIKE '%_pkey'`,
  );
  for (const [name] of indexes) await postgres.sql(`DROP INDEX ${name}`);
  await step(`${ROWS} calls`, calls);
  await step('their participants', participants);
  for (const [name, definition] of indexes) await step(name, definition);
  await step('what the planner knows', 'VACUUM ANALYZE calls, call_participants');
}

const asked = (path, users) =>
  users.map((user) => ({ method: 'GET', path: `/api/v1/calls/history?${path}`, user }));
const readers = Array.from({ length: READERS }, (_, index) => `reader-${(index * 104_729) % USERS}`);
const PAGES = {
  'the newest twenty calls': asked('limit=20', readers),
  'the same, sixty calls further back': asked('limit=20&offset=60', readers),
  'the newest twenty video calls': asked('limit=20&type=video', readers),
  [`the newest twenty of one with ${(ROWS / DESK_EVERY).toLocaleString('en')} calls`]: asked('limit=20', [
    'desk',
  ]),
  'the same, but video calls': asked('limit=20&type=video', ['desk']),
};

/** Costs that the past must not change. */
async function going(on) {
  const { id, people } = await call(on, 2);
  const requests = people.map((user) => ({ method: 'POST', path: `/api/v1/calls/${id}/token`, user }));
  return {
    'a token': (await load(on, ['requests', '--seconds', 3], requests)).cpuUs,
    'a life of a call, written behind': (await load(on, ['lives', '--clients', 64, '--seconds', 3])).cpuUs,
    'a relayed candidate': (await load(on, ['relay', '--seconds', 3])).cpuUs,
  };
}

async function read(on) {
  const found = {};
  const paced = ['--connections', CONNECTIONS, '--rate', RATE, '--seconds', SECONDS];
  for (const [name, requests] of Object.entries(PAGES)) {
    found[name] = await load(on, ['requests', ...paced], requests);
    note(`  ${name}: ${found[name].p50} us, ${found[name].p99} us of a hundred`);
  }
  return found;
}

async function measured(postgres) {
  const dataDir = mkdtempSync(join(tmpdir(), 'call-service-'));
  const start = () =>
    startService({
      env: { ...PRODUCTION, DATABASE_URL: postgres.url, CALLS_MAX: '100000' },
      dataDir,
      program: fastBinary(),
    });
  try {
    let service = await start();
    const before = await going(serverOf(service));
    await service.stop();
    await postgres.sql('TRUNCATE calls, call_participants, call_events, idempotency_keys');
    await fill(postgres);
    service = await start();
    try {
      const on = serverOf(service);
      const pages = await read(on);
      return { pages, before, after: await going(on) };
    } finally {
      await service.stop();
    }
  } finally {
    rmSync(dataDir, { recursive: true, force: true });
  }
}

const where = circumstances({ ROWS, SECONDS, RATE });
const postgres = await Postgres.create(POSTGRES);
const figures = await measured(postgres).finally(() => postgres.stop());
const ms = (us) => (us / 1000).toFixed(2);
const tables = [
  `| out of ${ROWS.toLocaleString('en')} calls in Postgres, ${RATE} pages a second | p50, ms | p99, ms |`,
  '| --- | --- | --- |',
  ...Object.entries(figures.pages).map(([name, { p50, p99 }]) => `| ${name} | ${ms(p50)} | ${ms(p99)} |`),
  '',
  `| us of processor time, with so many calls in Postgres | none | ${ROWS.toLocaleString('en')} |`,
  '| --- | --- | --- |',
  ...Object.entries(figures.before).map(([name, us]) => {
    const after = figures.after[name];
    return `| ${name} | ${us.toFixed(1)} | ${after.toFixed(1)} (${(after / us).toFixed(2)}) |`;
  }),
];
console.log([inLines(where), '', ...tables].join('\n'));
if (ROWS >= 10_000_000) publish('bench-history', where, tables);
mkdirSync(OUTPUT, { recursive: true });
writeFileSync(join(OUTPUT, 'bench-history.json'), JSON.stringify({ ...where, figures }, null, 2));
