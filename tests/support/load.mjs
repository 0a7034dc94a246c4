// Calls that go on and on, and whether what was acknowledged has got to Postgres.

/** Calls between two people, one after the other, until told to stop: what was acknowledged, and how long it took. */
export function load(world, pairs = 6) {
  const lived = new Set();
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
      lived.add(call.id);
    }
  };
  const all = Promise.all(Array.from({ length: pairs }, one));
  const stop = async () => {
    going = false;
    await all;
    times.sort((a, b) => a - b);
    return { lived, slowest: times.at(-1), typical: times[times.length >> 1] };
  };
  return { stop };
}

/** The acknowledged calls that are not there, over, with both people and a whole story. */
export async function missing(postgres, lived) {
  const rows = await postgres.sql(
    `SELECT c.id, c.state, (SELECT count(*) FROM call_participants p WHERE p.call_id = c.id),
       (SELECT count(*) = max(seq) AND max(seq) = c.seq FROM call_events e WHERE e.call_id = c.id) FROM calls c`,
  );
  const found = new Map(rows.map(([id, ...rest]) => [id, rest.join()]));
  return [...lived].filter((id) => found.get(id) !== 'ended,2,t');
}
