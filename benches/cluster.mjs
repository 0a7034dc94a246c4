// What a cluster takes: asking another node, signaling between nodes, taking over a dead node's calls, and what the life of a call costs
// nodes, Redis and Postgres. `make bench-cluster`, or:
//   NODES=1,3,6 CALLS=1000 SECONDS=1.5 node benches/cluster.mjs
// Everything runs on one machine, the clients too: rates are what it can do with all of that, processor time is what each part took.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Cluster } from '../tests/support/cluster.mjs';
import { OUTPUT } from '../tests/support/service.mjs';
import { circumstances, inLines, redisVersion } from './circumstances.mjs';
import { asking } from './cluster/asking.mjs';
import { background } from './cluster/cost.mjs';
import { bus } from './cluster/bus.mjs';
import { living } from './cluster/living.mjs';
import { paper } from './cluster/paper.mjs';
import { relaying } from './cluster/relaying.mjs';
import { ROWS, table, TOLD_ROWS } from './cluster/table.mjs';
import { taking } from './cluster/taking.mjs';
import { publish } from './readme.mjs';

const number = (name, other) => Number(process.env[name] ?? other);

/** How many nodes there are, one trial after the other. */
const NODES = (process.env.NODES ?? '1,3,6').split(',').map(Number);
/** How long each single figure is measured. */
const SECONDS = number('SECONDS', 1.5);
/** Live calls of the node that is killed. */
const CALLS = number('CALLS', 1000);
/** Who asks, signals or calls at once, over all nodes: the more nodes, the less each does together. */
const SEATS = number('SEATS', 24);
/** Messages that each of them has on their way where as many go as can. */
const WINDOW = number('WINDOW', 16);

const SETTINGS = {
  LOG_LEVEL: 'info',
  // Nobody who is without a socket is missed meanwhile.
  RECONNECT_GRACE: '3600',
  STUN_SERVER_URL: 'stun:stun.example:3478',
};

/** Says what is being done: some of it takes its time. */
const note = (text) => process.stderr.write(`${text}\n`);

/** The same at one node, and over two where there are others. */
async function nearAndFar(cluster, measure) {
  const near = await measure(0);
  return cluster.nodes.length > 1 ? { near, away: await measure(1) } : { near };
}

async function measured(cluster) {
  const seconds = SECONDS;
  const idle = await background(cluster, 2 * seconds);
  note('  the bus alone');
  const trips = await bus(cluster, idle, { window: SEATS, seconds });
  note('  lives of calls');
  const lives = await living(cluster, idle, { pairs: SEATS, seconds: 2 * seconds });
  note('  asking');
  const asks = await nearAndFar(cluster, (away) => asking(cluster, idle, { away, seats: SEATS, seconds }));
  note('  signaling');
  const relays = await nearAndFar(cluster, (away) =>
    relaying(cluster, idle, { away, pairs: SEATS, window: WINDOW, seconds }),
  );
  note('  a node is killed');
  const taken = await taking(cluster, idle, { calls: CALLS });
  return { idle, bus: trips, living: lives, asking: asks, relaying: relays, taking: taken };
}

/** All figures of so many nodes. What is still there of them goes at once, whatever became of it. */
async function trial(nodes) {
  note(`${nodes} node${nodes > 1 ? 's' : ''}`);
  const cluster = await Cluster.open({ nodes, env: SETTINGS });
  try {
    return await measured(cluster);
  } finally {
    await Promise.all(cluster.living.map((it) => it.kill()));
    await cluster.close();
  }
}

/** What many users need, by the figures of the largest cluster. */
function computed(figures, { build }) {
  const [largest] = NODES.filter((it) => it > 1).sort((a, b) => b - a);
  if (!largest) return '';
  const warning = build.startsWith('release')
    ? []
    : ['Not of a release build: what follows only shows that it works.'];
  return [...warning, ...paper(figures[largest])].join('\n');
}

const where = { ...circumstances({ SECONDS, CALLS, SEATS, WINDOW }), redis: redisVersion() };
console.log(inLines(where));
const figures = {};
for (const nodes of NODES) figures[nodes] = await trial(nodes);
const titles = NODES.map((it) => `${it} node${it > 1 ? 's' : ''}`);
const of = (rows) => table(titles, rows, Object.values(figures));
console.log(`\n${of(ROWS)}\n\n${computed(figures, where)}`);
// Fewer nodes say nothing to who reads of the whole.
if (!process.env.NODES) publish('bench-cluster', where, [of(TOLD_ROWS)]);
mkdirSync(OUTPUT, { recursive: true });
const file = join(OUTPUT, 'bench-cluster.json');
writeFileSync(file, JSON.stringify({ ...where, figures }, null, 2));
note(`\nAll figures: ${file}`);
