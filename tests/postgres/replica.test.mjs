// A standby by streaming replication, read where it is well: DATABASE_REPLICA_URL.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { inTime } from '../support/patience.mjs';
import { Postgres, trimmed } from '../support/postgres.mjs';
import { Toxiproxy } from '../support/toxiproxy.mjs';
import { eventually, World } from '../support/world.mjs';

/** How long a statement of a read may take, milliseconds. */
const READ_MS = 500;

const primary = await Postgres.create();
after(() => primary.stop());
const standby = await primary.standby();
after(() => standby.stop());
const dataDir = mkdtempSync(join(tmpdir(), 'call-service-'));
after(() => rmSync(dataDir, { recursive: true, force: true }));

const env = {
  DATABASE_URL: primary.url,
  DATABASE_REPLICA_URL: standby.url,
  DATABASE_READ_TIMEOUT: `${READ_MS}`,
};
const ids = (page) => page.calls.map((it) => it.id);
const moveTo = (world, who) => {
  for (const it of who) it.world = world;
};

/** Which of the two a history came from: what they say of the chat differs. */
async function readAt(person) {
  const { calls } = await person.want('GET', '/history');
  return calls.at(-1).chatId;
}

test('a standby is read where it is well, and the primary where it is not; what is recent is seen in any case', async () => {
  const first = await World.start(env, { dataDir });
  const [a, b] = first.people(2);
  const past = await a.start(b, { chatId: 'standby' });
  await b.join(past);
  await a.end(past);
  await first.close();
  await eventually('the standby has it', () => standby.hasAllOf(primary));

  // From here on the standby stays as it is, and differs from the primary by this.
  await standby.sql('SELECT pg_wal_replay_pause()');
  await eventually(
    'replay is paused',
    async () => (await standby.one('SELECT pg_get_wal_replay_pause_state()')) === 'paused',
  );
  await primary.sql(`UPDATE calls SET chat_id = 'primary', duration = 1000`);

  const world = await World.start({ ...env, DATABASE_LOCAL_KEEP: '0' }, { dataDir });
  moveTo(world, [a, b]);
  await trimmed(world);
  assert.equal(await readAt(a), 'standby', 'history');
  assert.ok((await a.want('GET', '/stats')).averageDuration < 1000, 'figures');
  assert.equal((await a.details(past)).call.chatId, 'standby', 'one call');
  assert.equal((await world.http('/monitoring/metrics')).body.calls.total, 1);

  // The call that has just ended is in the primary, but not in the standby, and seen all the same.
  const recent = await a.start(b, { chatId: 'recent' });
  await a.end(recent);
  await eventually(
    'it is in the primary',
    async () => (await primary.one(`SELECT state FROM calls WHERE id = '${recent.id}'`)) === 'cancelled',
  );
  assert.equal(await standby.one('SELECT count(*) FROM calls'), '1');
  const page = await a.want('GET', '/history');
  assert.deepEqual([ids(page), page.pagination.total], [[recent.id, past.id], 2]);
  assert.equal(page.calls[1].chatId, 'standby');
  assert.equal((await a.want('GET', '/stats')).totalCalls, 2);
  assert.equal((await a.details(recent)).call.state, 'cancelled');

  // One that hangs costs the first to find out some time, and nobody an answer.
  standby.hang();
  const begun = performance.now();
  assert.equal(await readAt(a), 'primary', 'the standby hangs');
  inTime(performance.now() - begun, 4 * READ_MS);
  const next = performance.now();
  assert.equal(await readAt(a), 'primary');
  assert.ok(performance.now() - next < READ_MS, 'the next does not wait for it');
  standby.resume();
  await eventually('it is read again', async () => (await readAt(a)) === 'standby');

  // Gone altogether.
  await standby.crash();
  assert.equal(await readAt(a), 'primary', 'the standby is gone');
  assert.equal((await a.want('GET', '/stats')).averageDuration, 1000);
  assert.equal((await world.http('/monitoring/health')).body.checks.store, 'ok');
  await standby.start();
  await eventually('it is back, and goes on', () => standby.hasAllOf(primary));
  await primary.sql(`UPDATE calls SET chat_id = 'both' WHERE chat_id = 'primary'`);
  await eventually('it follows', () => standby.hasAllOf(primary));
  assert.equal(await readAt(a), 'both');
  await world.close();
});

test('a read that takes too long is refused, and tells nothing about the server', async () => {
  const toxiproxy = await Toxiproxy.start();
  after(() => toxiproxy.stop());
  const way = await toxiproxy.before(primary.port);
  await way.add('latency', { latency: 20 });
  const world = await World.start({
    DATABASE_URL: `postgresql://calls@${way.host}/calls?sslmode=disable`,
    DATABASE_READ_TIMEOUT: `${READ_MS}`,
  });
  const a = world.person();
  assert.deepEqual(ids(await a.want('GET', '/history')), []);
  const held = primary.sql(`BEGIN; LOCK TABLE call_participants; SELECT pg_sleep(2); COMMIT`);
  await eventually(
    'the table is locked',
    async () =>
      (await primary.one(`SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted
      AND relation = 'call_participants'::regclass`)) === '1',
  );
  await a.refused(503, 'history_unavailable', 'GET', '/history');
  assert.equal((await world.http('/monitoring/health')).body.checks.store, 'ok');
  await held;
  assert.deepEqual(ids(await a.want('GET', '/history')), []);
  assert.ok(!world.service.lines.some((it) => it.includes('is away')));
  await world.close();
});
