// The way between nodes over real Redis servers: the same behaviour on each kind, and what comes of it when they fail (faults F5 to F7).
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, test } from 'node:test';
import { inTime } from '../support/patience.mjs';
import { operators, Redis, RedisCluster, Sentinel } from '../support/redis.mjs';
import { freePort } from '../support/servers.mjs';
import { ROOT } from '../support/service.mjs';
import { eventually } from '../support/world.mjs';

const TARGET = process.env.CARGO_TARGET_DIR ?? join(ROOT, 'target');
const CERTIFICATE = join(ROOT, 'tests/data/localhost.pem');
/** How long anything asked may take while Redis is away, milliseconds: half a second, and what a busy machine adds. */
const ANSWER_MS_MAX = 600;
/** How long letters may be away after a server is back or has been replaced, milliseconds. */
const HEAL_MS_MAX = 8000;
/** How long the self-check may take to find that the mailbox is no longer where it was, milliseconds. */
const FOUND_MS_MAX = 6000;

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
/** The least that the user of a node has to be allowed. */
const { rules: RULES } = operators();

const running = new Set();
after(() => Promise.all([...running].map((it) => it.stop())));

async function started(group, options) {
  const it = await group.start(options);
  running.add(it);
  return it;
}

/** Runs those of the bus' own tests that take a Redis. */
async function behaves(redis) {
  const env = { ...process.env, TEST_REDIS_URL: redis.url };
  if (redis.url.startsWith('rediss')) env.TEST_REDIS_TLS_CA = CERTIFICATE;
  const args = ['test', '--locked', '--lib', 'bus::tests::redis', '--', '--ignored', '--nocapture'];
  const child = spawn('cargo', args, { cwd: ROOT, env, stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  for (const from of [child.stdout, child.stderr]) from.on('data', (it) => (text += it));
  const [code] = await once(child, 'close');
  assert.equal(code, 0, text);
  assert.match(text, /2 passed/, text);
  return text.match(/.*p50.*/g).join('; ');
}

/** Two nodes in a program of their own, one of which writes to the other and asks all the time. */
class Nodes {
  static async open(url, { ca } = { ca: CERTIFICATE }) {
    const it = new Nodes();
    const tls = url.startsWith('rediss') && ca ? ['--tls-ca', ca] : [];
    it.child = spawn(join(TARGET, 'debug/examples/bus_nodes'), ['--url', url, ...tls]);
    it.child.stderr.resume();
    it.lines = createInterface({ input: it.child.stdout })[Symbol.asyncIterator]();
    it.begun = await it.line();
    running.add(it);
    return it;
  }

  async line() {
    const { value } = await this.lines.next();
    return JSON.parse(value);
  }

  /** What has come of it since the last report. */
  async report() {
    this.child.stdin.write('\n');
    return this.line();
  }

  /** Waits until all is well and letters arrive: how long that took, and the worst report until then. */
  async heal(within) {
    const begun = Date.now();
    const worst = { longestAskMs: 0, disordered: 0, gaps: 0, silentMs: 0 };
    await eventually(
      'the nodes hear each other',
      async () => {
        const it = await this.report();
        for (const name of Object.keys(worst)) worst[name] = Math.max(worst[name], it[name]);
        return it.isWell && it.heard > 0 && it.failed === 0 && it.answered > 0;
      },
      { within, every: 200 },
    );
    return { ...worst, tookMs: Date.now() - begun };
  }

  async stop() {
    running.delete(this);
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const ended = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await ended;
  }
}

const cluster = await started(RedisCluster);
const nodes = await Nodes.open(cluster.url);
const [, mailbox] = nodes.begun.mailboxes;

test('a single Redis', async (t) => {
  const redis = await started(Redis);
  t.diagnostic(await behaves(redis));
});

test('a Redis with TLS, and a user who may do no more than needed', async (t) => {
  const users = {
    calls: { password: 'p@ss/word', rules: RULES },
    idle: { password: 'x', rules: '~* &* +@connection +info' },
  };
  const redis = await started(Redis, { tls: true, users });
  t.diagnostic(await behaves(redis));
  // Each of these is told at once, and not taken for a Redis that is away.
  const right = 'calls:p%40ss%2Fword';
  for (const [what, url, options] of [
    ['a wrong password', redis.url.replace(right, 'calls:another')],
    ['no password', redis.url.replace(`${right}@`, '')],
    ['a user without rights', redis.url.replace(right, 'idle:x')],
    ['a certificate that nobody vouches for', redis.url, { ca: undefined }],
  ]) {
    const its = await Nodes.open(url, options);
    assert.equal(its.begun.refused, 'Refused', what);
    await its.stop();
  }
});

test('Sentinel: the nodes follow a failover', async (t) => {
  const redis = await started(Sentinel);
  t.diagnostic(await behaves(redis));
  const its = await Nodes.open(redis.url);
  await its.heal(HEAL_MS_MAX);
  const { tookMs } = await redis.crashMaster();
  const healed = await its.heal(HEAL_MS_MAX);
  inTime(healed.longestAskMs, ANSWER_MS_MAX);
  assert.ok(healed.disordered === 0 && healed.gaps > 0);
  t.diagnostic(`another master after ${tookMs} ms, well ${healed.tookMs} ms later`);
  await its.stop();
});

test('a Redis that is not there at the start is found when it comes', async () => {
  const port = await freePort();
  const its = await Nodes.open(`redis://127.0.0.1:${port}`);
  assert.equal(its.begun.isWell, false);
  inTime(its.begun.tookMs, 2500);
  const redis = new Redis(port);
  await redis.begin();
  running.add(redis);
  await its.heal(HEAL_MS_MAX);
  await its.stop();
});

test('a cluster', async (t) => {
  t.diagnostic(await behaves(cluster));
});

test('F7: the slot of a mailbox moves, and it is found again', async (t) => {
  await nodes.heal(HEAL_MS_MAX);
  const from = await cluster.masterOf(mailbox);
  await cluster.migrateSlot(mailbox, from, await masterBesides(from));
  // What was heard before it moved says nothing.
  const moved = await nodes.report();
  const healed = await nodes.heal(FOUND_MS_MAX);
  inTime(Math.max(moved.longestAskMs, healed.longestAskMs), ANSWER_MS_MAX);
  assert.ok(moved.disordered + healed.disordered === 0 && moved.gaps + healed.gaps > 0);
  t.diagnostic(`silent for ${healed.silentMs} ms`);
});

/** Another master of the cluster. */
async function masterBesides(one) {
  const view = await one.view();
  const other = view.find((it) => it.isMaster && it.id !== one.id && !it.isLost);
  return cluster.nodes.find((it) => it.id === other.id);
}

test('F6: the master of a mailbox is killed, and its replica is found', async (t) => {
  await nodes.heal(HEAL_MS_MAX);
  const { crashed, tookMs } = await cluster.crashMaster(mailbox);
  const healed = await nodes.heal(HEAL_MS_MAX);
  inTime(healed.longestAskMs, ANSWER_MS_MAX);
  assert.ok(healed.disordered === 0 && healed.gaps > 0);
  t.diagnostic(`another master after ${tookMs} ms, silent for ${healed.silentMs} ms in all`);
  await crashed.begin();
  await cluster.ready();
});

test('F5: all are held, nothing waits, and it heals when they go on', async (t) => {
  await nodes.heal(HEAL_MS_MAX);
  cluster.freezeAll();
  await sleep(4000);
  const held = await nodes.report();
  assert.equal(held.isWell, false);
  inTime(held.longestAskMs, ANSWER_MS_MAX);
  const later = await sleep(500).then(() => nodes.report());
  inTime(later.longestAskMs, 50, 'a refusal while it is known');
  cluster.thawAll();
  const healed = await nodes.heal(HEAL_MS_MAX);
  inTime(healed.longestAskMs, ANSWER_MS_MAX);
  assert.equal(healed.disordered, 0);
  t.diagnostic(`well ${healed.tookMs} ms after they went on`);
});

test('F5: all are stopped and started again', async (t) => {
  await nodes.heal(HEAL_MS_MAX);
  await cluster.crashAll();
  await sleep(3000);
  assert.equal((await nodes.report()).isWell, false);
  await cluster.startAll();
  const healed = await nodes.heal(HEAL_MS_MAX);
  inTime(healed.longestAskMs, ANSWER_MS_MAX);
  assert.ok(healed.disordered === 0 && healed.gaps > 0);
  t.diagnostic(`well ${healed.tookMs} ms after they were`);
  await nodes.stop();
});
