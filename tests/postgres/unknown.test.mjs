// Connections to Postgres that break at any moment, also between a COMMIT and its answer.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { load, missing } from '../support/load.mjs';
import { Postgres } from '../support/postgres.mjs';
import { Toxiproxy } from '../support/toxiproxy.mjs';
import { eventually, World } from '../support/world.mjs';

/** How long connections break, milliseconds. */
const BREAKING_MS = 6000;
/** How long after that all has to be there: a session that has lost its client may hold rows for five seconds. */
const CAUGHT_UP_MS = 15_000;

const upTo = (ms) => Math.random() * ms;

test('resets at random moments under load lose no acknowledged call, and none is there twice', async () => {
  const postgres = await Postgres.create();
  after(() => postgres.stop());
  const toxiproxy = await Toxiproxy.start();
  after(() => toxiproxy.stop());
  const way = await toxiproxy.before(postgres.port);
  const world = await World.start({
    DATABASE_URL: `postgresql://calls@${way.host}/calls?sslmode=disable`,
    // A batch every few milliseconds: much is under way at any moment.
    DATABASE_BATCH_AGE: '1',
    METRICS_PORT: '0',
  });
  const working = load(world);
  await eventually(
    'rows get there',
    async () => Number(await postgres.one('SELECT count(*) FROM calls')) > 0,
  );
  const until = Date.now() + BREAKING_MS;
  let resets = 0;
  while (Date.now() < until) {
    await pause(upTo(150));
    const stream = resets % 2 === 0 ? 'downstream' : 'upstream';
    const heal = await way.add('reset_peer', { timeout: Math.round(upTo(10)) }, { stream });
    await pause(20 + upTo(30));
    await heal();
    resets += 1;
  }
  await pause(500);
  const { lived, slowest, typical } = await working.stop();
  await eventually('all is there', async () => (await missing(postgres, lived)).length === 0, {
    within: CAUGHT_UP_MS,
    every: 200,
  });
  const metrics = await (await fetch(`${world.service.urlOf('METRICS_PORT')}/metrics`)).text();
  const counted = (name) => Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(metrics)?.[1] ?? 0);
  const failures = counted('postgres_batch_failures_total');
  console.log(
    `${lived.size} calls, ${resets} resets, ${failures} batches failed, requests took ${Math.round(typical)} ms, the slowest ${Math.round(slowest)} ms`,
  );
  assert.ok(failures > 5, `${failures} batches failed`);
  assert.equal(counted('postgres_rows_refused_total'), 0);
  assert.equal(await postgres.one('SELECT count(*) FROM calls'), `${lived.size}`);
  await world.close();
});
