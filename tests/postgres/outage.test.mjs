// Postgres away under load: nobody notices, and all of it is there soon after its return, once.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { load, missing } from '../support/load.mjs';
import { inTime } from '../support/patience.mjs';
import { Postgres } from '../support/postgres.mjs';
import { eventually, World } from '../support/world.mjs';

/** How long Postgres is away, milliseconds. */
const AWAY_MS = Number(process.env.AWAY_MS ?? 4000);
/** How long a request of a call may take, milliseconds: one that waits for Postgres takes 2,000 at least, one that only
 *  shares two busy cores with the tests much less; the typical one some five. */
const SLOW_MS = 1900;
const TYPICAL_MS = 200;
/** How long after its return all has to be there, milliseconds. */
const CAUGHT_UP_MS = 10_000;

const folder = mkdtempSync(join(tmpdir(), 'call-service-'));
after(() => rmSync(folder, { recursive: true, force: true }));

/** Memory of the service, MiB. */
const memory = ({ pid }) =>
  Math.round(Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) / 1024);

/** Rows that are not in Postgres yet, as counted with the next batch. */
async function waiting(world) {
  await pause(100);
  const text = await (await fetch(`${world.service.urlOf('METRICS_PORT')}/metrics`)).text();
  return Number(/^journal_unflushed_rows (\d+)$/m.exec(text)[1]);
}

/** What others see while it is away: old history is refused in time, recent is told, all else goes on. */
async function unnoticed(world, asked) {
  const begun = performance.now();
  await asked.refused(503, 'history_unavailable', 'GET', '/history');
  inTime(performance.now() - begun, 3000, 'the refusal of a read');
  const recent = world.person();
  const call = await recent.start(world.person());
  await recent.end(call);
  const { calls, pagination } = await recent.want('GET', '/history');
  assert.deepEqual([calls.map((it) => it.id), pagination.total, pagination.stale], [[call.id], 1, true]);
  assert.equal((await world.http('/ready')).status, 200);
  assert.equal((await world.http('/monitoring/health')).body.checks.store, 'away');
  const { status, body } = await world.http('/monitoring/metrics');
  assert.deepEqual([status, body.stale], [200, true], 'an operator sees what the local file has');
  assert.ok(body.calls.total > 0 && body.performance.successRate.endsWith('%'));
}

async function away(postgres, world, leave, come) {
  const working = load(world);
  const asked = world.person();
  await pause(1000);
  const before = memory(world.service);
  await leave();
  await pause(AWAY_MS / 2);
  const seen = await unnoticed(world, asked).catch((error) => error);
  await pause(AWAY_MS / 2);
  const meanwhile = memory(world.service);
  await come();
  const returned = performance.now();
  await pause(1000);
  const { lived, slowest, typical } = await working.stop();
  if (seen) throw seen;
  // Asking Postgres itself for each of them again and again would hold it up.
  await eventually('nothing waits', async () => (await waiting(world)) + (await waiting(world)) === 0, {
    within: CAUGHT_UP_MS,
    every: 100,
  });
  const there = Math.round(performance.now() - returned);
  console.log(
    `${lived.size} calls, requests took ${Math.round(typical)} ms, the slowest ${Math.round(slowest)} ms, all there ${there} ms after the return; MiB before, at its end, after: ${before}, ${meanwhile}, ${memory(world.service)}`,
  );
  assert.deepEqual(await missing(postgres, lived), []);
  inTime(slowest, SLOW_MS, 'the slowest request');
  inTime(typical, TYPICAL_MS, 'a typical request');
  assert.ok(lived.size > 50, `${lived.size} calls`);
  assert.equal(await postgres.one('SELECT count(*) = count(DISTINCT id) FROM calls'), 't');
  await eventually('history answers again', async () => (await asked.rest('GET', '/history')).status === 200);
  const { body } = await world.http('/monitoring/metrics');
  assert.equal(body.stale, undefined);
  assert.ok(body.calls.total >= lived.size);
}

test('Postgres crashes, hangs, and is away when the service starts', async () => {
  const postgres = await Postgres.create();
  after(() => postgres.stop());
  const env = { DATABASE_URL: postgres.url, METRICS_PORT: '0' };
  const world = await World.start(env, { dataDir: folder });
  await away(
    postgres,
    world,
    () => postgres.crash(),
    () => postgres.start(),
  );
  await away(
    postgres,
    world,
    () => postgres.hang(),
    () => postgres.resume(),
  );

  // Killed while rows wait, and started again while Postgres is away: they wait on.
  await postgres.crash();
  const { a, call } = await world.callOfTwo({ connect: false });
  const over = await world.callOfTwo({ connect: false });
  await over.a.end(over.call);
  await world.abandon();
  const again = await World.start(env, { dataDir: folder });
  a.world = again;
  assert.equal((await a.details(call)).call.state, 'connected');
  await a.end(call);
  await postgres.start();
  const lived = new Set([call.id, over.call.id]);
  await eventually('all is there', async () => (await missing(postgres, lived)).length === 0, {
    within: CAUGHT_UP_MS,
  });
  await again.close();
});
