// What has been kept in Postgres for long enough goes: samples by the day, calls by their end.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { Postgres } from '../support/postgres.mjs';
import { runToEnd } from '../support/service.mjs';
import { eventually, World } from '../support/world.mjs';

const DAY_MS = 24 * 3600 * 1000;
/** More than one step of the service removes. */
const OLD_CALLS = 450;

const postgres = await Postgres.create();
after(() => postgres.stop());

async function migrated(name) {
  await postgres.database(name);
  const DATABASE_URL = postgres.urlOf(name);
  const { code, stderr } = await runToEnd({ args: ['migrate'], env: { DATABASE_URL } });
  assert.equal(code, 0, stderr);
  return { DATABASE_URL };
}

/** So many calls with two people, an event and a sample each, that ended at that time or go on. */
async function calls(name, word, count, { createdAt, endedAt = 'NULL', sampledAt = createdAt }) {
  const day = Math.floor(sampledAt / DAY_MS);
  const id = (kind) => `md5('${word} ${kind}' || n)::uuid`;
  const made = `FROM generate_series(1, ${count}) n`;
  await postgres.sql(
    `CREATE TABLE IF NOT EXISTS call_quality_metrics_${day} PARTITION OF call_quality_metrics
       FOR VALUES FROM (${day * DAY_MS}) TO (${(day + 1) * DAY_MS});
     INSERT INTO calls (id, room_id, type, state, initiator_id, chat_id, is_group, max_participants, created_at,
         updated_at, ended_at, epoch, seq)
       SELECT ${id('call')}, 'room', 'video', ${endedAt === 'NULL' ? `'connected'` : `'ended'`}, 'alice', '${word}',
         false, 8, ${createdAt}, ${createdAt}, ${endedAt}, 1, 1 ${made};
     INSERT INTO call_participants (id, call_id, user_id, role, connection_state, audio_enabled, video_enabled,
         screen_share_enabled, call_created_at, created_at, updated_at, epoch, seq)
       SELECT ${id('alice')}, ${id('call')}, 'alice', 'initiator', 'left', true, true, false, ${createdAt},
         ${createdAt}, ${createdAt}, 1, 1 ${made};
     INSERT INTO call_events SELECT ${id('call')}, 1, ${createdAt}, 'call:incoming', '["alice"]', '{}' ${made};
     INSERT INTO call_quality_metrics (id, call_id, participant_id, timestamp, jitter, packet_loss,
         round_trip_time, quality)
       SELECT ${id('sample')}, ${id('call')}, ${id('alice')}, ${sampledAt}, 1, 0, 20, 'excellent' ${made};`,
    name,
  );
}

const partitions = async (name) =>
  (
    await postgres.sql(
      `SELECT substr(inhrelid::regclass::text, 22)::int FROM pg_inherits
         WHERE inhparent = 'call_quality_metrics'::regclass ORDER BY 1`,
      name,
    )
  ).map(([it]) => Number(it));

test('partitions are dropped once all their samples are too old, and made ahead', async () => {
  const name = 'samples';
  const env = await migrated(name);
  const now = Date.now();
  const today = Math.floor(now / DAY_MS);
  for (const ago of [0, 1, 6, 7, 8, 9, 400]) {
    await calls(name, `sampled ${ago} days ago`, 3, { createdAt: now - ago * DAY_MS });
  }
  const world = await World.start({ ...env, QUALITY_RETENTION_DAYS: '7' });
  // The day that began more than seven days ago has not ended seven days ago.
  const kept = [-7, -6, -1, 0, 1, 2, 3].map((it) => today + it);
  await eventually('old partitions are gone', async () => (await partitions(name)).join() === kept.join());
  assert.equal(await postgres.one('SELECT count(*) FROM call_quality_metrics', name), '12');
  assert.equal(await postgres.one('SELECT count(*) FROM calls', name), '21', 'calls are kept for ever');
  await world.close();

  const forever = await World.start({ ...env, QUALITY_RETENTION_DAYS: 'forever' });
  await calls(name, 'of long ago', 3, { createdAt: now - 900 * DAY_MS });
  const { deviceA, call } = await forever.callOfTwo();
  await deviceA.do('call:quality_update', { callId: call.id, jitter: 5, packetLoss: 0.1, roundTripTime: 40 });
  await eventually(
    'a sample of today is there',
    async () => (await postgres.one('SELECT count(*) FROM call_quality_metrics', name)) === '16',
  );
  assert.deepEqual(await partitions(name), [today - 900, ...kept]);
  await forever.close();
});

test('calls leave with all that belongs to them, once they have been over for long enough', async () => {
  const name = 'over';
  const env = await migrated(name);
  const now = Date.now();
  const ago = (days) => now - days * DAY_MS;
  await calls(name, 'old', OLD_CALLS, { createdAt: ago(32), endedAt: ago(31), sampledAt: ago(3) });
  await calls(name, 'just over', 3, { createdAt: ago(31), endedAt: ago(29), sampledAt: ago(3) });
  await calls(name, 'going on', 2, { createdAt: ago(40), sampledAt: ago(3) });
  await postgres.sql(
    `INSERT INTO idempotency_keys SELECT 'alice', d::text, md5('x')::uuid, ${now} - d * ${DAY_MS}
       FROM unnest(ARRAY[0, 2]) d`,
    name,
  );
  const world = await World.start({ ...env, CALL_RETENTION_DAYS: '30' });
  await eventually(
    'old calls are gone',
    async () => (await postgres.one('SELECT count(*) FROM calls', name)) === '5',
  );
  const chats = await postgres.sql('SELECT chat_id, count(*) FROM calls GROUP BY 1 ORDER BY 1', name);
  assert.deepEqual(chats, [
    ['going on', '2'],
    ['just over', '3'],
  ]);
  for (const table of ['call_participants', 'call_events', 'call_quality_metrics']) {
    const left = await postgres.one(
      `SELECT count(DISTINCT call_id) || ' of ' || count(*) FROM ${table}`,
      name,
    );
    assert.equal(left, '5 of 5', table);
  }
  assert.deepEqual(await postgres.sql('SELECT key FROM idempotency_keys', name), [['0']]);
  await world.close();
});
