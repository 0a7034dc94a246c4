// Postgres away under load: nobody notices, and all of it is there soon after its return, once.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
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
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Calls between two people, one after the other, until told to stop: what was acknowledged, and how long it took. */
function load(world, pairs = 6) {
  const lived = new Map();
  const times = [];
  let going = true;
  const timed = async (work) => {
    const begun = performance.now();
    const result = await work();
    times.push(performance.now() - begun);
    return result;
  };
  const one = async () => {
    const [a, b] = world.people(2);
    while (going) {
      const call = await timed(() => a.start(b));
      await timed(() => b.join(call));
      await timed(() => a.end(call));
      lived.set(call.id, 'ended');
    }
  };
  const all = Promise.all(Array.from({ length: pairs }, one));
  const stop = async () => {
    going = false;
    await all;
    times.sort((a, b) => a - b);
    return { lived, slowest: times.at(-1), typical: times[times.length >> 1] };
  };
  return { stop, all };
}

/** Each acknowledged call is there exactly once, over, with both people and a whole story. */
async function allThere(postgres, lived) {
  const rows = await postgres.sql(
    `SELECT c.id, c.state, (SELECT count(*) FROM call_participants p WHERE p.call_id = c.id),
       (SELECT max(seq) FROM call_events e WHERE e.call_id = c.id) = c.seq FROM calls c`,
  );
  const found = new Map(rows.map(([id, ...rest]) => [id, rest.join()]));
  return [...lived.keys()].filter((id) => found.get(id) !== 'ended,2,t');
}

/** What others see while it is away: old history is refused in time, all else goes on. */
async function unnoticed(world, asked) {
  const begun = performance.now();
  await asked.refused(503, 'history_unavailable', 'GET', '/history');
  assert.ok(performance.now() - begun < 3000, 'a read is refused in time');
  assert.equal((await world.http('/ready')).status, 200);
  assert.equal((await world.http('/monitoring/health')).body.checks.store, 'away');
}

async function away(postgres, world, leave, come) {
  const working = load(world);
  const asked = world.person();
  await pause(1000);
  await leave();
  await pause(AWAY_MS / 2);
  const seen = await unnoticed(world, asked).catch((error) => error);
  await pause(AWAY_MS / 2);
  await come();
  await pause(1000);
  const { lived, slowest, typical } = await working.stop();
  if (seen) throw seen;
  const back = performance.now();
  await eventually('all is there', async () => (await allThere(postgres, lived)).length === 0, {
    within: CAUGHT_UP_MS,
    every: 200,
  });
  const behind = Math.round(performance.now() - back);
  console.log(
    `${lived.size} calls, requests took ${Math.round(typical)} ms, the slowest ${Math.round(slowest)} ms, all there ${behind} ms after the load`,
  );
  assert.ok(
    slowest < SLOW_MS && typical < TYPICAL_MS,
    `a request took ${typical}, the slowest ${slowest} ms`,
  );
  assert.ok(lived.size > 50, `${lived.size} calls`);
  assert.equal(await postgres.one('SELECT count(*) = count(DISTINCT id) FROM calls'), 't');
  await eventually('history answers again', async () => (await asked.rest('GET', '/history')).status === 200);
}

test('Postgres crashes, hangs, and is away when the service starts', async () => {
  const postgres = await Postgres.create();
  after(() => postgres.stop());
  const env = { DATABASE_URL: postgres.url };
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
  const lived = new Map([call, over.call].map((it) => [it.id, 'ended']));
  await eventually('all is there', async () => (await allThere(postgres, lived)).length === 0, {
    within: CAUGHT_UP_MS,
  });
  await again.close();
});
