// What each hot path costs, held against the least that it can cost: the floors of `examples/load`, run in turns with the service, on the
// same machine. `make bench-paths`, or:
//   SECONDS=3 TURNS=3 node benches/paths.mjs [PATH ...]     only paths whose names contain one of the words
// The figure is processor time (user and system) of the server's process over operations done: it repeats better than rates, which follow
// whatever else the machine does.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Cluster } from '../tests/support/cluster.mjs';
import { LiveKit } from '../tests/support/livekit.mjs';
import { freePort } from '../tests/support/servers.mjs';
import { fastBinary, OUTPUT, ROOT, startService } from '../tests/support/service.mjs';
import { circumstances, inLines } from './circumstances.mjs';
import { publish } from './readme.mjs';
import { ask, call, figured, LOAD, load, median, PRODUCTION, serverOf, TARGET } from './load.mjs';

const SECONDS = Number(process.env.SECONDS ?? 3);
/** How often the floor and the service are measured, one after the other: what counts is the middle one. */
const TURNS = Number(process.env.TURNS ?? 3);

const note = (text) => process.stderr.write(`${text}\n`);

/** What listens at a port of its own, as a server. */
async function started(command) {
  const port = await freePort();
  const [program, ...args] = command(port);
  const child = spawn(program, args.map(String), { stdio: 'ignore' });
  const address = `127.0.0.1:${port}`;
  for (;;) {
    const is = await fetch(`http://${address}/`).then(
      () => true,
      (error) => error.cause?.code !== 'ECONNREFUSED',
    );
    if (is) break;
  }
  return {
    address,
    pid: child.pid,
    secret: 'secret',
    stop: async () => {
      child.kill();
      await once(child, 'close');
    },
  };
}

/** A floor, as a server. */
const floor = (kind) => started((port) => [LOAD, kind, port]);

/** Other servers that do the same, by name: how they are started. */
const PEERS = {
  socketioxide: (port) => [join(TARGET, 'peers/release/socketioxide-peer'), port],
  'socket.io': (port) => [process.execPath, join(ROOT, 'benches/peers/socketio.mjs'), port],
};

/** A peer, as a server. */
const peer = (name) => started(PEERS[name]);

/** The service, as a server. */
async function service(env = {}) {
  const it = await startService({ env: { ...PRODUCTION, ...env }, program: fastBinary() });
  return { ...serverOf(it), stop: () => it.stop() };
}

/** One path: how its floor and the service are measured; `floors` floors are the least it takes. */
const fixed = (on) => load(on, ['requests', '--seconds', SECONDS], [{ method: 'GET', path: '/', user: 'x' }]);
const minted = (on, _, more = []) =>
  load(on, ['requests', '--seconds', SECONDS, ...more], [{ method: 'POST', path: '/token', user: 'x' }]);
const relayed = (args) => ({
  peers: true,
  besides: (on) => load(on, ['relay', '--peer', '--seconds', SECONDS, ...args]),
  floor: [
    'floor-relay',
    (on, _, more = []) => load(on, ['relay', '--bare', '--seconds', SECONDS, ...args, ...more]),
  ],
  ours: (on, more = []) => load(on, ['relay', '--seconds', SECONDS, ...args, ...more]),
});
/** Between two nodes the least is a relay between bare websockets, and Redis' client alone. */
const betweenNodes = (args) => ({
  between: true,
  most: 1.5,
  floor: [
    'floor-relay',
    async (on, { redis }) => {
      const sockets = await load(on, ['relay', '--bare', '--seconds', SECONDS, ...args]);
      const bus = await figured(['bus', '--redis', redis, '--seconds', SECONDS, ...args]);
      note(`    sockets ${sockets.cpuUs.toFixed(2)}, Redis' client ${bus.cpuUs.toFixed(2)} us`);
      return { cpuUs: sockets.cpuUs + bus.cpuUs, sockets, bus };
    },
  ],
  ours: (on) =>
    load(on, ['relay', '--away', on.away.address, '--away-pid', on.away.pid, '--seconds', SECONDS, ...args]),
});
const PATHS = [
  {
    name: 'a token',
    livekit: true,
    most: 1.1,
    steady: { ms: 2, of: 'p99' },
    floor: ['floor-http', minted],
    ours: async (on, more = []) => {
      const { id, people } = await call(on, 2);
      const requests = people.map((user) => ({ method: 'POST', path: `/api/v1/calls/${id}/token`, user }));
      const found = await load(on, ['requests', '--seconds', SECONDS, ...more], requests);
      await ask(on, people[0], 'POST', `/${id}/end`);
      return found;
    },
  },
  {
    name: 'a live call of eight, read',
    most: 1.5,
    floor: ['floor-http', fixed],
    ours: async (on) => {
      const { id, people } = await call(on, 8);
      const requests = people.map((user) => ({ method: 'GET', path: `/api/v1/calls/${id}`, user }));
      const found = await load(on, ['requests', '--seconds', SECONDS], requests);
      await ask(on, people[0], 'POST', `/${id}/end`);
      return found;
    },
  },
  {
    name: 'the life of a call',
    most: 4,
    floors: 3,
    floor: ['floor-http', minted],
    steady: { ms: 5, of: 'stepP99', name: 'its start' },
    ours: (on, more = []) => load(on, ['lives', '--seconds', SECONDS, ...more]),
  },
  { name: 'a relayed candidate (330 B), window 1', most: 1.1, steady: { ms: 2, of: 'p99' }, ...relayed([]) },
  {
    name: 'a relayed candidate (330 B), 5,000 a second',
    most: 1.1,
    ...relayed(['--pairs', 500, '--rate', 5000]),
  },
  { name: 'a relayed offer (4 KB), window 1', most: 1.1, ...relayed(['--bytes', 4096]) },
  {
    name: 'a relayed offer (4 KB), 5,000 a second',
    most: 1.1,
    ...relayed(['--bytes', 4096, '--pairs', 500, '--rate', 5000]),
  },
  { name: 'a candidate (330 B) to another node, 100 on their way', ...betweenNodes([]) },
  { name: 'a candidate (330 B) to another node, 5,000 a second', ...betweenNodes(['--rate', 5000]) },
  {
    name: 'a socket, from the upgrade to its call:sync',
    most: 1.1,
    floor: ['floor-relay', (on) => load(on, ['idle', '--bare', '--sockets', 5000])],
    ours: (on) => load(on, ['idle', '--sockets', 5000]),
  },
];

/** Two nodes, which run as long as the bench does; and the Redis between them. */
class Pair {
  static async start() {
    const it = new Pair();
    it.cluster = await Cluster.open({ nodes: 2, env: PRODUCTION });
    const [near, away] = it.cluster.nodes.map((node) => serverOf(node.service));
    it.on = { ...near, away, redis: it.cluster.redis.url, stop: () => undefined };
    return it;
  }

  async stop() {
    await Promise.all(this.cluster.living.map((it) => it.kill()));
    await this.cluster.close();
  }
}

/** Measures one that runs meanwhile. */
async function alone(server, measure) {
  const on = await server();
  try {
    return await measure(on);
  } finally {
    await on.stop();
  }
}

/** Floor and service in turns. */
async function measured(path, { env, pair }) {
  const [kind, least] = path.floor;
  const ours = path.between ? () => pair.on : () => service(env);
  const found = { floor: [], ours: [], peers: {} };
  for (let turn = 0; turn < TURNS; turn += 1) {
    found.floor.push(
      await alone(
        () => floor(kind),
        (on) => least(on, pair?.on),
      ),
    );
    found.ours.push(await alone(ours, path.ours));
    const [a, b] = [found.floor, found.ours].map((it) => it.at(-1).cpuUs.toFixed(2));
    note(`  ${path.name}: ${a} and ${b} us`);
    for (const name of path.peers ? Object.keys(PEERS) : []) {
      const its = await alone(() => peer(name), path.besides);
      (found.peers[name] ??= []).push(its);
      note(`    ${name}: ${its.cpuUs.toFixed(2)} us`);
    }
  }
  if (path.steady) found.steady = await steady(path, found, env);
  return found;
}

/** Of what the machine can do, load and all: this much is asked for, whatever comes back when. */
const STEADY = 0.7;

/**
 * How long the slowest of a hundred wait under a load that leaves room, microseconds, and those of the floor under the
 * same: the middle ones of some turns.
 */
async function steady(path, { ours }, env) {
  const rate = Math.round(STEADY * median(ours.map((it) => it.rate)));
  const [kind, least] = path.floor;
  const turns = [];
  for (let turn = 0; turn < TURNS; turn += 1) {
    const bare = await alone(
      () => floor(kind),
      (on) => least(on, undefined, ['--rate', rate * (path.floors ?? 1)]),
    );
    const found = await alone(
      () => service(env),
      (on) => path.ours(on, ['--rate', rate]),
    );
    turns.push({ floor: bare.p99, ours: found[path.steady.of] });
    note(`  ${path.name}, ${rate} a second: p99 ${bare.p99} and ${found[path.steady.of]} us`);
  }
  const of = (which) => median(turns.map((it) => it[which]));
  return { rate, floor: of('floor'), us: of('ours') };
}

function steadyLine(path, { steady: { rate, floor: least, us } }) {
  const what = path.steady.name ? `${path.name}, ${path.steady.name}` : path.name;
  const [bare, ours] = [least, us].map((it) => cell(it / 1000, 2));
  return `| ${what} | ${rate.toLocaleString('en')} | ${bare} | ${ours} | ${path.steady.ms} |`;
}

const cell = (number, digits = 1) => (number === undefined || number === null ? '' : number.toFixed(digits));

function row(path, { floor: least, ours, peers }) {
  const us = (list) => median(list.map((it) => it.cpuUs));
  const [a, b] = [us(least) * (path.floors ?? 1), us(ours)];
  const rate = median(ours.map((it) => it.rate ?? 0));
  const middle = ours[Math.floor(ours.length / 2)];
  const times = middle.p50 === undefined ? '' : `${middle.p50} / ${middle.p99} us`;
  const kib = middle.kib === undefined ? '' : `, ${cell(median(ours.map((it) => it.kib)), 2)} KiB idle`;
  const [ratio, most] = [b / a, path.most];
  const others = Object.values(peers).map((its) => cell(us(its)));
  return `| ${path.name}${kib} | ${cell(a)} | ${cell(b)} | ${cell(ratio, 2)} | ${most} | ${others.join(' / ')} | ${rate ? Math.round(rate).toLocaleString('en') : ''} | ${times} |`;
}

if (!existsSync(LOAD)) throw new Error(`${LOAD} is missing: make bench-paths builds it`);
const asked = process.argv.slice(2);
const chosen = PATHS.filter(({ name }) => asked.length === 0 || asked.some((it) => name.includes(it)));
const where = circumstances({ SECONDS, TURNS });
const livekit = chosen.some((it) => it.livekit) ? await LiveKit.start() : undefined;
const figures = {};
try {
  for (const path of chosen.filter((it) => !it.between))
    figures[path.name] = await measured(path, { env: path.livekit ? livekit.env : {} });
} finally {
  await livekit?.stop();
}
// After the others, which have the machine for themselves.
const pair = chosen.some((it) => it.between) ? await Pair.start() : undefined;
try {
  for (const path of chosen.filter((it) => it.between)) figures[path.name] = await measured(path, { pair });
} finally {
  await pair?.stop();
}
const steadies = chosen.filter((it) => it.steady);
const tables = [
  `| path | floor, us | ours, us | ratio | at most | ${Object.keys(PEERS).join(' / ')} | a second | p50 / p99 |`,
  '| --- | --- | --- | --- | --- | --- | --- | --- |',
  ...chosen.map((it) => row(it, figures[it.name])),
];
if (steadies.length > 0)
  tables.push(
    '',
    `| at ${100 * STEADY} % of the load that it can take | a second | p99 of the floor, ms | ours | at most |`,
    '| --- | --- | --- | --- | --- |',
    ...steadies.map((it) => steadyLine(it, figures[it.name])),
  );
console.log([inLines(where), '', ...tables].join('\n'));
if (chosen.length === PATHS.length) publish('bench-paths', where, tables);
mkdirSync(OUTPUT, { recursive: true });
const file = join(OUTPUT, 'bench-paths.json');
writeFileSync(file, JSON.stringify({ ...where, figures }, null, 2));
note(`\nAll figures: ${file}`);
