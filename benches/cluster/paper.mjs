// What many users need, computed from what few have cost here.

/** What is asked of the service. */
export const DEMAND = {
  users: 1_000_000,
  startsPerMinute: 20_000,
  callSeconds: 180,
  /** Offers, answers and candidates of both. */
  relaysPerCall: 30,
  /** Of each of two people: QUALITY_CHECK_INTERVAL. */
  secondsPerSample: 5,
  /** How long a socket lasts: phones change networks, apps go to the background. */
  secondsPerSocket: 600,
  /** Within how long those of a node that has died are back. */
  stormSeconds: 30,
};

/** What there is of each thing. */
export const SUPPLY = {
  /** SOCKETS_MAX, and the budget that `make loadtest` holds the service to; the kernel's own buffers are as much again. */
  socketsPerNode: 100_000,
  kibPerSocket: 8,
  gibPerNode: 4,
  coresPerNode: 4,
  /** CALLS_MAX. */
  callsPerNode: 50_000,
  /** Redis does one thing at a time. */
  coresPerShard: 1,
  /** Rows written behind: `cargo bench --bench write_behind`. */
  rowsPerSecond: 100_000,
  /** How much of a processor is planned with. */
  busy: 0.6,
};

/** What happens a second. */
function ratesOf(demand) {
  const lives = demand.startsPerMinute / 60;
  const liveCalls = lives * demand.callSeconds;
  return {
    lives,
    liveCalls,
    relays: lives * demand.relaysPerCall,
    samples: (2 * liveCalls) / demand.secondsPerSample,
    sockets: demand.users / demand.secondsPerSocket,
  };
}

/** What that costs a second: a figure of each piece by its rate. Every piece is taken to go from node to node. */
function perSecond(figures, rates, name) {
  const { living, relaying, asking, taking } = figures;
  return (
    rates.lives * living.each[name] +
    rates.relays * relaying.away.half.each[name] +
    rates.samples * asking.away.sample.many.each[name] +
    rates.sockets * taking.coming.each[name]
  );
}

/** Processors that are busy with it. */
const cores = (figures, rates, name) => perSecond(figures, rates, name) / 1e6;

function nodesFor(demand, supply, busyCores) {
  const bySockets = Math.ceil(demand.users / supply.socketsPerNode);
  const byCores = Math.ceil(busyCores / (supply.coresPerNode * supply.busy));
  // And one that may die.
  return { bySockets, byCores, nodes: Math.max(bySockets, byCores) + 1 };
}

/** What is used of each thing in the worst moment: a node has died, and its users are coming back. */
function ceilings({ demand, supply, figures, rates, nodes, shards, rows }) {
  const left = nodes - 1;
  const storm = { ...rates, sockets: rates.sockets + demand.users / nodes / demand.stormSeconds };
  const [nodeCores, shardCores] = ['nodesUs', 'mastersUs'].map((it) => cores(figures, storm, it));
  const mib = (demand.users / left) * (supply.kibPerSocket / 1024);
  return [
    ['sockets of a node (SOCKETS_MAX)', demand.users / left, supply.socketsPerNode],
    ['processors of a node', nodeCores / left, supply.coresPerNode],
    ['memory of a node for sockets, MiB', mib, supply.gibPerNode * 1024],
    // Whoever takes over a dead node has all of its calls.
    [
      'live calls of the node that takes over (CALLS_MAX)',
      (2 * rates.liveCalls) / nodes,
      supply.callsPerNode,
    ],
    ['processor of a Redis shard', shardCores / shards, supply.coresPerShard],
    ['rows a second of Postgres', rows, supply.rowsPerSecond],
  ].sort(([, a, most], [, b, more]) => b / more - a / most);
}

const whole = (it) => Math.round(it).toLocaleString('en');

const ofThat = ([what, need, most]) => `${what}, at ${(most / need).toFixed(2)} times that`;

/** The computation, as lines, from the figures of the largest cluster that was measured. */
export function paper(figures, demand = DEMAND, supply = SUPPLY) {
  const { living, taking } = figures;
  const rates = ratesOf(demand);
  const [ours, masters] = ['nodesUs', 'mastersUs'].map((it) => cores(figures, rates, it));
  const { bySockets, byCores, nodes } = nodesFor(demand, supply, ours);
  // Three are the fewest that can choose among them who follows one that fails.
  const shards = Math.max(3, Math.ceil(masters / (supply.coresPerShard * supply.busy)));
  const rows = rates.lives * living.rows + rates.samples;
  const asked = perSecond(figures, rates, 'asked');
  const overCalls = rates.lives * 600;
  const redisBytes =
    demand.users * taking.userBytes + rates.liveCalls * taking.callBytes + overCalls * living.overBytes;
  const callsPerNode = rates.liveCalls / nodes;
  const takenSeconds = (taking.takenMs / taking.calls) * (callsPerNode / 1000);
  const all = ceilings({ demand, supply, figures, rates, nodes, shards, rows });
  return [
    `${whole(demand.users)} connected users, ${whole(demand.startsPerMinute)} starts a minute:`,
    `  a second: ${whole(rates.lives)} lives of calls (${whole(rates.liveCalls)} live), ${whole(rates.relays)} relays, ` +
      `${whole(rates.samples)} quality samples, ${whole(rates.sockets)} sockets that come and go`,
    `  nodes: ${bySockets} by sockets, ${byCores} by processors (${ours.toFixed(1)} busy; ` +
      `${supply.coresPerNode} a node, ${supply.busy * 100}% planned with); with one to spare: ${nodes}`,
    `  Redis: ${whole(asked)} commands a second, ${masters.toFixed(1)} processors busy: ${shards} shards of ` +
      `${whole(asked / shards)} commands a second and ${whole(redisBytes / shards / 2 ** 20)} MiB`,
    `  Postgres: ${whole(rows)} rows a second (${living.rows.toFixed(1)} a life, and the samples)`,
    `  a node dies: ${whole(callsPerNode)} calls are taken in ${takenSeconds.toFixed(1)} s after it was noticed, and ` +
      `${whole(demand.users / nodes)} users come back in ${demand.stormSeconds} s`,
    '  used then, and up to how many such users it suffices:',
    ...all.map(
      ([what, need, most]) =>
        `    ${what}: ${((100 * need) / most).toFixed(0)}%, ${whole((demand.users * most) / need)} users`,
    ),
    `  what breaks first: ${all.slice(0, 2).map(ofThat).join('; then ')}`,
  ];
}
