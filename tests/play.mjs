// Three nodes to play with, and all that they need on this machine: a Redis Cluster of three masters and three replicas, Postgres, and
// nginx where it is there. Nothing is kept.
//   node tests/play.mjs    as `make cluster` does; CLUSTER_PORT is where the load balancer listens, and the nodes behind it count on
import { fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const NODES = 3;
const PORT = Number(process.env.CLUSTER_PORT ?? 3010);
/** After how long a node that has ended is started again, milliseconds: the others take over its calls before. */
const AGAIN_MS = 15_000;
/** What a node says of itself that is worth a line here: whatever is wrong, and what it does about the others. */
const WORTH = /^(calls are handed over|Redis answers|another node has a call)/;

/** Nobody listens there but us. */
function free(port) {
  return new Promise((resolve, reject) => {
    const taken = () => reject(new Error(`port ${port} is taken: CLUSTER_PORT=4010 make cluster`));
    const server = createServer().once('error', taken);
    server.listen(port, '127.0.0.1', () => server.close(resolve));
  });
}

/** Shows that something goes on, and how long it took. */
async function step(what, work) {
  process.stdout.write(`  ${what} ... `);
  const begun = performance.now();
  try {
    const made = await work();
    console.log(`${((performance.now() - begun) / 1000).toFixed(1)} s`);
    return made;
  } catch (error) {
    console.log('failed');
    throw error;
  }
}

/**
 * The one that Ctrl-C reaches: a terminal would send it to all servers at once, so they belong to another that is told to end them in order.
 * The folder is there until then; where something went wrong it stays, with the logs.
 */
async function watch() {
  for (let port = PORT; port <= PORT + NODES; port += 1) await free(port);
  const folder = mkdtempSync(join(tmpdir(), 'call-cluster-'));
  // Postgres has a user of its own, who has to get to its data.
  chmodSync(folder, 0o755);
  const env = { ...process.env, TMPDIR: folder, OUTPUT: join(folder, 'logs') };
  const child = fork(fileURLToPath(import.meta.url), { env, detached: true });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill('SIGTERM'));
  child.once('exit', (code) => {
    if (code === 0) rmSync(folder, { recursive: true, force: true, maxRetries: 10 });
    else console.log(`\nWhat the servers said is in ${join(folder, 'logs')}`);
    process.exitCode = code ?? 1;
  });
}

/** The one that has all the servers. */
class Play {
  /** What ends it all, the last that began first. */
  #ends = [];
  #ending;
  nodes = [];
  /** What is said before would stand between the steps. */
  isBegun = false;

  /** Begins something, unless all ends already. */
  async begin(what, work, end) {
    if (this.#ending) return undefined;
    const made = await step(what, work);
    this.#ends.unshift([what, () => end(made)]);
    return made;
  }

  end(code) {
    this.#ending ??= this.#endAll(code);
  }

  get isEnding() {
    return this.#ending !== undefined;
  }

  async #endAll(code) {
    console.log('\nStopping what was started, in order (once more: at once):');
    let result = code;
    for (const [what, end] of this.#ends) {
      await step(what, end).catch((error) => {
        result = 1;
        console.error(error.message);
      });
    }
    // Whatever did not end by itself ends with this process.
    process.exit(result);
  }
}

/** One node, which is started again whenever it ends. */
class Node {
  constructor(play, startService, index, settings) {
    Object.assign(this, { play, startService, name: `node-${index + 1}`, port: PORT + 1 + index });
    this.settings = { ...settings, PORT: String(this.port), NODE_NAME: this.name };
    this.dataDir = join(process.env.TMPDIR, this.name);
  }

  get url() {
    return `http://localhost:${this.port}`;
  }

  async start(program) {
    this.program = program;
    mkdirSync(this.dataDir, { recursive: true });
    const { settings: env, dataDir } = this;
    const hear = (line) => this.#hear(line);
    this.service = await this.startService({ env, dataDir, program, hear });
    this.#again(this.service);
    return this;
  }

  say(text) {
    if (this.play.isBegun && !this.play.isEnding)
      console.log(`  ${new Date().toTimeString().slice(0, 8)}  ${this.name}  ${text}`);
  }

  #hear(line) {
    if (!line.startsWith('{')) return this.say(line);
    const { level, message, timestamp, target, ...rest } = JSON.parse(line);
    if (level === 'INFO' && !WORTH.test(message)) return;
    const more = Object.entries(rest).filter(([name]) => !name.startsWith('log.'));
    this.say([message, ...more.map(([name, it]) => `${name}=${it}`)].join('  '));
  }

  async #again(service) {
    const { code, signal } = await service.gone;
    this.say(`has ended (${signal ?? code}), and is started again in ${AGAIN_MS / 1000} s`);
    await pause(AGAIN_MS);
    if (this.play.isEnding) return;
    await this.start(this.program).then(
      () => this.say(`is there again: pid ${this.service.pid}`),
      (error) => this.play.isEnding || this.say(error.message),
    );
  }
}

async function begin(play) {
  const [{ RedisCluster }, { Postgres }, { Nginx }, { binary, startService }] = await Promise.all(
    ['redis', 'postgres', 'balancer', 'service'].map((it) => import(`./support/${it}.mjs`)),
  );
  // Theirs would end all at once; ours ends it in order, and the second one at once.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.removeAllListeners(signal).on(signal, () => (play.isEnding ? process.exit(0) : play.end(0)));
  }
  const program = binary(['release', 'debug']);
  console.log(`Starting, in ${process.env.TMPDIR} (nothing is kept):`);
  const stop = (it) => it.stop();
  const postgres = await play.begin('Postgres', () => Postgres.create(), stop);
  const redis = await play.begin(
    'Redis Cluster of three masters and three replicas',
    () => RedisCluster.start(),
    stop,
  );
  if (play.isEnding) return;
  const settings = {
    REDIS_URL: redis.url,
    DATABASE_URL: postgres.url,
    // The same for all, so that who signs in at one has signed in at all.
    JWT_SECRET: randomBytes(48).toString('base64'),
    TRUSTED_PROXIES: '127.0.0.1',
    METRICS_PORT: '0',
    LOG_LEVEL: 'info',
    // The tests' default is off.
    RATE_LIMITS: null,
  };
  play.nodes = Array.from({ length: NODES }, (_, index) => new Node(play, startService, index, settings));
  const all = (work) => Promise.all(play.nodes.map(work));
  await play.begin(
    'three nodes',
    () => all((node) => node.start(program)),
    () => all((node) => node.service?.stop()),
  );
  const addresses = play.nodes.map((it) => `127.0.0.1:${it.port}`);
  const balancer = await play
    .begin('nginx', () => new Nginx('nginx', PORT, { addresses }).begin(), stop)
    .catch((error) => console.log(`  no load balancer: ${error.message}`));
  if (play.isEnding) return;
  tell(play, { postgres, redis, balancer });
  play.isBegun = true;
}

function tell({ nodes }, { postgres, redis, balancer }) {
  const row = (name, it, url) => `  ${name.padEnd(8)}  ${url ?? it.url}  pid ${it.pid}`;
  const [{ service }] = nodes;
  console.log(
    [
      '',
      ...nodes.map((it) => row(it.name, it.service, it.url)),
      ...(balancer ? [row('balancer', balancer, `http://localhost:${PORT}`)] : []),
      `  Postgres  ${postgres.url}`,
      `  Redis     masters: ${redis.nodes
        .slice(0, redis.masters)
        .map((it) => `${it.host} pid ${it.pid}`)
        .join(', ')}`,
      '',
      'Sign in at two nodes under two names, and call: the page says at the left which node it is on.',
      ...(balancer
        ? ['A page at the balancer goes to another node, and stays in its call, when it loses its own.']
        : []),
      `Kill the node that a call was started at, and watch: kill -9 ${service.pid}. Without -9 it hands its calls over before it goes.`,
      `It is started again after ${AGAIN_MS / 1000} s. Kill a master of Redis, whose replica takes its place; or hold it: kill -STOP, kill -CONT.`,
      'Ctrl-C stops everything.',
      '',
    ].join('\n'),
  );
}

// What `watch` has forked can send to it.
if (process.send) {
  const play = new Play();
  // Whoever watches is gone.
  process.on('disconnect', () => play.end(0));
  begin(play).catch((error) => {
    console.error(error.message);
    play.end(1);
  });
} else {
  await watch().catch((error) => {
    console.error(error.message);
    process.exitCode = 1;
  });
}
