// What the life of a call costs: it is started, rings at another node, is answered there, somebody mutes, and it ends.
import { pause } from '../../tests/support/chance.mjs';
import { user } from './clients.mjs';
import { costing, heldBytes, summed } from './cost.mjs';

/** Between two steps of a call that takes its time, milliseconds: longer than a batch of rows waits for Postgres. */
const STEP_MS = 250;
const SLOW_LIVES = 8;

/** Counts each row that is written, also where it is written again. */
const COUNT_ROWS = `
  CREATE SEQUENCE touched;
  CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM nextval('public.touched'); RETURN NULL; END $$;
  DO $$ DECLARE name regclass; BEGIN
    FOR name IN SELECT oid FROM pg_class
      WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
    LOOP
      EXECUTE format('CREATE TRIGGER touch AFTER INSERT OR UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION touch()', name);
    END LOOP;
  END $$`;

async function pair(cluster, at) {
  const nodes = [cluster.node(at), cluster.node(at + 1)];
  return Promise.all(nodes.map((node) => user(node, { listens: true })));
}

/** One call from its start to its end: how long it took until the other's device rang, milliseconds. */
async function life([a, b], between = () => {}) {
  const begun = performance.now();
  const rings = b.socket.next('call:incoming').then(() => performance.now() - begun);
  const [{ call }, rang] = await Promise.all([
    a.line.want('POST', '/start', a.token, { type: 'video', participantIds: [b.id] }),
    rings,
  ]);
  await between();
  await b.line.want('POST', `/${call.id}/join`, b.token);
  await between();
  await b.line.want('PATCH', `/${call.id}/participant`, b.token, { audioEnabled: false });
  await between();
  const ended = b.socket.next('call:ended');
  await a.line.want('POST', `/${call.id}/end`, a.token);
  await ended;
  return rang;
}

/** Lives one after the other, of as many pairs at once. */
async function lived(pairs, seconds) {
  const rang = [];
  const end = performance.now() + seconds * 1000;
  const one = async (it) => {
    while (performance.now() < end) rang.push(await life(it));
  };
  await Promise.all(pairs.map(one));
  return summed(rang);
}

/** Rows that Postgres gets of a call that takes its time, so that no change of it comes together with the next. */
async function rowsPerLife(cluster, pairs) {
  const { postgres } = cluster;
  await cluster.flushed();
  await postgres.sql(COUNT_ROWS);
  const some = pairs.slice(0, SLOW_LIVES);
  await Promise.all(some.map((it) => life(it, () => pause(STEP_MS))));
  await cluster.flushed();
  const rows = Number(await postgres.one('SELECT last_value FROM touched'));
  await postgres.sql('DROP FUNCTION touch CASCADE; DROP SEQUENCE touched');
  return rows / some.length;
}

/** Lives of calls between each two neighbours. */
export async function living(cluster, idle, { pairs: count, seconds }) {
  const pairs = await Promise.all(Array.from({ length: count }, (_, at) => pair(cluster, at)));
  await lived(pairs, seconds / 4);
  const rows = await rowsPerLife(cluster, pairs);
  const before = await heldBytes(cluster);
  const figures = await costing(cluster, idle, async () => {
    const those = await lived(pairs, seconds);
    // What is still to be written belongs to them.
    await cluster.flushed();
    return those;
  });
  const overBytes = ((await heldBytes(cluster)) - before) / figures.count;
  for (const it of pairs.flat()) it.close();
  return { ...figures, rows, overBytes };
}
