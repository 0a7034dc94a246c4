// Several nodes of the program on one Redis and one Postgres, each with a data folder that outlives it; and people whose requests and
// devices come to any of them, as behind a load balancer.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { pause, pick, random } from './chance.mjs';
import { Device } from './device.mjs';
import { Network } from './netns.mjs';
import { Postgres } from './postgres.mjs';
import { Redis, RedisCluster, Sentinel } from './redis.mjs';
import { freePort } from './servers.mjs';
import { fastBinary, startService } from './service.mjs';
import { eventually, http, Person } from './world.mjs';

/** How long one answer may take before a client gives it up, milliseconds. */
const ANSWER_MS_MAX = 8000;
/** How long a client goes on trying, milliseconds: longer than a node's death takes to be noticed and mended. */
const INSIST_MS_MAX = 20_000;
/** How often a client asks for what the nodes could not tell each other in time, as may be on a busy machine. */
const TRIES_MAX = 5;
/** After how long an app that has lost its socket tries again, milliseconds. */
const BACKOFF_MS = { min: 100, max: 500 };
/** How long it waits to be let in, milliseconds. */
const CONNECT_MS_MAX = 3000;
/** How long a load balancer goes on giving requests to a node that says that it drains, milliseconds. */
const NOTICED_MS = 500;
/** How long a node may take to stop, milliseconds. */
const STOP_MS_MAX = 30_000;

/** For a trial without other nodes: how many there are instead of those that a test asks for, and whether with Redis. */
const SIZE = process.env.CLUSTER_SIZE && Number(process.env.CLUSTER_SIZE);
const REDIS = process.env.CLUSTER_REDIS;

/** Why a test that takes more than one node is not run, for its `skip`; false where it is. */
export const alone = SIZE === 1 && 'not run: one node is tried alone (CLUSTER_SIZE)';

const REDISES = {
  cluster: (options) => RedisCluster.start({ nodeTimeoutMs: 2000, ...options }),
  single: (options) => Redis.start(options),
  sentinel: (options) => Sentinel.start(options),
  none: () => undefined,
};

let people = 0;

/** What is answered in the end, by REST or as an acknowledgement: asked again where the nodes could not reach each other, as an app does. */
async function patiently(ask) {
  for (let tries = 1; ; tries += 1) {
    const answer = await ask();
    const { code } = answer.body ?? answer;
    if (code !== 'cluster_unavailable' || tries === TRIES_MAX) return answer;
    await pause(1000 * Number(answer.headers?.get('retry-after') ?? 1));
  }
}

/** A device that goes to another node when it loses its own, as an app behind a load balancer does. */
export class Wanderer extends Device {
  #cluster;
  #options;
  #gone = false;

  constructor(cluster, node, options) {
    const all = { timeout: CONNECT_MS_MAX, ...options };
    super(node.url, all);
    this.#cluster = cluster;
    this.#options = all;
    this.node = node;
    this.#follow();
  }

  get isConnected() {
    return this.socket.connected;
  }

  #follow() {
    this.socket.once('disconnect', () => this.#seek());
  }

  async #seek() {
    while (!this.#gone) {
      await pause(BACKOFF_MS.min + random(BACKOFF_MS.max - BACKOFF_MS.min));
      const node = pick(this.#cluster.reachable);
      if (this.#gone || !node) continue;
      this.socket.off().disconnect();
      this.node = node;
      this.open(node.url, this.#options);
      if (await this.#isLetIn()) return this.#follow();
    }
  }

  #isLetIn() {
    const yes = this.connected().then(
      () => true,
      () => false,
    );
    return Promise.race([yes, pause(CONNECT_MS_MAX).then(() => false)]);
  }

  /** Sends an event, once it is connected, and gives its acknowledgement. */
  async ask(event, data) {
    await eventually('it is connected', () => this.isConnected);
    return super.ask(event, data);
  }

  close() {
    this.#gone = true;
    super.close();
  }

  patient(event, data) {
    return patiently(() => this.ask(event, data));
  }

  /** Waits until it has been told since then, by this node or another, what is going on. */
  async synced({ since, within = 10_000 }) {
    const has = () => this.log.find((it) => it.event === 'call:sync' && it.at >= since);
    const found = await eventually('call:sync', has, { within }).catch((error) => {
      const heard = this.log.filter((it) => it.at >= since);
      const lines = heard.map(
        ({ event, data, at, node }) => `${at - since} ms ${node} ${event} ${JSON.stringify(data)}`,
      );
      throw new Error(`${error.message}; heard since:\n${lines.join('\n')}`);
    });
    return found.data;
  }
}

/** A user of the cluster: asks a node of its own, or any that is reachable. */
export class Member extends Person {
  /** The same user, asking that node. */
  at(node) {
    const world = typeof node === 'number' ? this.world.cluster.node(node) : node;
    return Object.assign(Object.create(this), { world });
  }

  async rest(method, path, body, headers = {}) {
    const authorization = `Bearer ${this.token}`;
    return http(`${this.world.url}/api/v1/calls${path}`, {
      method,
      body,
      headers: { authorization, ...headers },
      signal: AbortSignal.timeout(ANSWER_MS_MAX),
    });
  }

  patient(method, path, body, headers) {
    return patiently(() => this.rest(method, path, body, headers));
  }

  /**
   * Asks any node, and again where there was no answer or one that says to come back later, as an app does: the last answer, with
   * `tries`. What was asked has to be the same when it is asked twice.
   */
  async insist(method, path, body, headers) {
    const any = this.at(this.world.cluster);
    const end = Date.now() + INSIST_MS_MAX;
    const reasons = [];
    for (let tries = 1; ; tries += 1) {
      const answer = await any.rest(method, path, body, headers).catch((error) => ({ lost: error }));
      if (answer.status && answer.status !== 503) return { ...answer, tries, reasons };
      reasons.push(answer.lost ? `${answer.lost.cause?.code ?? answer.lost.message}` : answer.body.code);
      if (answer.status)
        assert.ok(answer.headers.get('retry-after') >= 1, `503 without Retry-After: ${path}`);
      assert.ok(Date.now() < end, `${method} ${path}: no answer in ${INSIST_MS_MAX} ms: ${reasons}`);
      const wait = answer.status ? 1000 * Math.min(2, Number(answer.headers.get('retry-after'))) : 0;
      await pause(wait || BACKOFF_MS.min + random(BACKOFF_MS.max - BACKOFF_MS.min));
    }
  }

  /** A device that is connected, to this user's own node or to any, and has its `call:sync`. */
  async connect({ deviceId, token = this.token, ...options } = {}) {
    const { cluster } = this.world;
    const node = this.world === cluster ? pick(cluster.reachable) : this.world;
    const device = new Wanderer(cluster, node, { auth: { token, deviceId }, ...options });
    device.person = this;
    cluster.devices.push(device);
    await device.connected();
    device.sync = await device.until('call:sync');
    return device;
  }
}

/** One of the nodes, with its folder; it may be running or not. */
export class ClusterNode {
  service;
  isDraining = false;
  isFrozen = false;
  #port;

  constructor(cluster, index, place) {
    Object.assign(this, { cluster, index, name: `node-${index + 1}`, place });
    this.dataDir = mkdtempSync(join(tmpdir(), `call-${this.name}-`));
  }

  get devices() {
    return this.cluster.devices;
  }

  get url() {
    return `http://${this.place?.front ?? '127.0.0.1'}:${this.#port}`;
  }

  get isRunning() {
    return this.service !== undefined;
  }

  /** Whether a load balancer would send anybody here. */
  get isReachable() {
    return this.isRunning && !this.isDraining && !this.isFrozen;
  }

  /** Starts it, for the first time or again, at the same address. */
  async start() {
    this.#port ??= await freePort();
    const own = {
      PORT: String(this.#port),
      METRICS_PORT: '0',
      NODE_NAME: this.name,
      ...(this.place && { HOST: this.place.front }),
    };
    const env = { ...(await this.cluster.env(this)), ...own };
    const { dataDir } = this;
    const inside = this.place?.inside ?? [];
    this.service = await startService({ env, dataDir, inside, program: fastBinary() });
    this.isDraining = false;
    this.#watch(this.service);
    this.note('is there');
    return this;
  }

  note(what) {
    this.cluster.events.push({ at: Date.now(), text: `${this.name} ${what}` });
  }

  /** One that nobody has ended has no business to end. */
  async #watch(service) {
    const { code, signal } = await service.gone;
    if (this.service !== service || this.isStopping) return;
    this.service = undefined;
    const last = service.lines.slice(-5).join('\n');
    this.cluster.faults.push(`${this.name} ended by itself (${signal ?? code}):\n${last}`);
  }

  #leave() {
    const { service } = this;
    this.service = undefined;
    this.cluster.faults.push(...service.lines.filter((line) => line.includes('panic')));
    return service;
  }

  /** Ends it at once, as a power failure would. */
  kill() {
    this.note('is killed');
    return this.#leave().crash();
  }

  /** Holds it: its sockets stay, and it does nothing. */
  freeze() {
    this.note('is held');
    this.isFrozen = true;
    this.service.signal('SIGSTOP');
  }

  thaw() {
    this.note('goes on');
    this.isFrozen = false;
    this.service.signal('SIGCONT');
  }

  /** Asks it to stop, and waits until it has, in order: how long that took, milliseconds. */
  async stop() {
    const { service } = this;
    const begun = Date.now();
    this.isStopping = true;
    this.note('is told to stop');
    service.signal('SIGTERM');
    const noticed = setTimeout(() => (this.isDraining = true), NOTICED_MS);
    const how = await service.ended();
    clearTimeout(noticed);
    this.note('has stopped');
    this.#leave();
    this.isStopping = false;
    assert.deepEqual(how, { code: 0, signal: null }, `${this.name} did not stop in order`);
    const tookMs = Date.now() - begun;
    assert.ok(tookMs <= STOP_MS_MAX, `${this.name} took ${tookMs} ms to stop`);
    return tookMs;
  }

  /** A number that it tells Prometheus. */
  async metric(name) {
    const { body } = await http(`${this.service.urlOf('METRICS_PORT')}/metrics`);
    return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(body)?.[1]);
  }

  /** Asks any path of it, as nobody. */
  http(path, options) {
    return http(`${this.url}${path}`, { signal: AbortSignal.timeout(ANSWER_MS_MAX), ...options });
  }
}

/** Nodes, what they share, and those who use them. */
export class Cluster {
  devices = [];
  nodes = [];
  /** What must not happen, and did: noticed at the end. */
  faults = [];
  /** What was done to the nodes, and when: `{at, text}`. */
  events = [];
  #closed = false;

  /**
   * Starts `nodes` of them on a Redis of that kind ('cluster', 'single', 'sentinel', 'none'; `redisOptions` are its own), with these
   * settings. With `network` each, and Redis, has a network of its own. It ends after the tests of the file, in order, unless closed before.
   */
  static async start(options) {
    const it = new Cluster();
    after(() => it.#closed || it.close());
    return it.#started(options);
  }

  /** The same where there are no tests: whoever opens it closes it. */
  static open(options) {
    return new Cluster().#started(options);
  }

  async #started(options = {}) {
    try {
      await this.#begin(options);
      return this;
    } catch (error) {
      // Where this is what a file begins with, nothing comes after.
      await this.#end();
      throw error;
    }
  }

  async #begin({ nodes = 3, redis = 'cluster', redisOptions, env = {}, network = false }) {
    this.settings = env;
    if (network) this.network = await Network.open();
    const place = () => this.network?.node();
    const on = network ? { on: await place() } : {};
    await Promise.all([
      REDISES[REDIS ?? redis]({ ...on, ...redisOptions })?.then((it) => (this.redis = it)),
      Postgres.create().then((it) => (this.postgres = it)),
    ]);
    for (let index = 0; index < (SIZE || nodes); index += 1) {
      this.nodes.push(new ClusterNode(this, index, await place()));
    }
    await Promise.all(this.nodes.map((node) => node.start()));
    await Promise.all(this.nodes.map((node) => this.#ready(node)));
  }

  /** As a balancer does: nobody is sent to a node before it hears the others. */
  async #ready(node) {
    const isReady = async () => (await node.http('/ready')).status === 200;
    await eventually(`${node.name} is ready`, isReady, { within: 10_000, every: 20 });
  }

  /** Ends whatever there is of it. */
  async #end() {
    this.#closed = true;
    for (const device of this.devices) device.close();
    for (const node of this.nodes) if (node.isFrozen) node.thaw();
    const stops = await Promise.allSettled(this.living.map((it) => it.stop()));
    for (const node of this.nodes) rmSync(node.dataDir, { recursive: true, force: true });
    await Promise.all([this.redis?.stop(), this.postgres?.stop()]);
    await this.network?.close();
    return stops;
  }

  /** The settings of a node beyond its own. */
  async env({ place }) {
    const database = place && (await place.forward(this.postgres.port));
    const DATABASE_URL = database ? `postgresql://calls@${database}/calls` : this.postgres.url;
    return { DATABASE_URL, ...(this.redis && { REDIS_URL: this.redis.url }), ...this.settings };
  }

  /** What persons take for their world. */
  get cluster() {
    return this;
  }

  /** The node of that number, from 0: where there are fewer, one of those. */
  node(index) {
    return this.nodes[index % this.nodes.length];
  }

  /** Those that run and are not held. */
  get living() {
    return this.nodes.filter((it) => it.isRunning && !it.isFrozen);
  }

  get reachable() {
    return this.nodes.filter((it) => it.isReachable);
  }

  /** Any node, another one each time. */
  get url() {
    return pick(this.reachable).url;
  }

  kill(index) {
    return this.node(index).kill();
  }

  stop(index) {
    return this.node(index).stop();
  }

  startAgain(index) {
    return this.node(index).start();
  }

  /** Somebody nobody knows yet, who asks that node, or any. */
  person(name = 'user', { at, ...options } = {}) {
    people += 1;
    const world = at === undefined ? this : this.node(at);
    return new Member(world, `${name}-${process.pid}-${people}`, { name, ...options });
  }

  /** So many of them. */
  people(count) {
    return Array.from({ length: count }, (_, index) => this.person((10 + index).toString(36)));
  }

  /** One at each of these nodes, with a device there: `[[person, device], ...]`. */
  connectedAt(...nodes) {
    return Promise.all(
      nodes.map(async (at, index) => {
        const person = this.person((10 + index).toString(36), { at });
        return [person, await person.connect()];
      }),
    );
  }

  /** What every node says to that, in the order of the nodes. */
  everywhere(ask) {
    return Promise.all(this.living.map((it) => ask(it)));
  }

  /** A call as each node shows it; what only goes on with the clock is left out. */
  async views(person, call) {
    const all = await this.everywhere((node) => person.at(node).details(call));
    return all.map((it) => ({
      call: it.call,
      participants: it.participants.map(({ duration, ...rest }) => rest),
    }));
  }

  /** The call as all nodes show it, once they do. */
  async oneTruth(person, call, { within = 7000 } = {}) {
    let views;
    const agree = async () => {
      views = await this.views(person, call).catch((error) => [error.message]);
      return views.every((it) => it.call && JSON.stringify(it) === JSON.stringify(views[0]));
    };
    await eventually('all nodes tell the same', agree, { within, every: 100 }).catch((error) => {
      throw new Error(`${error.message}\n${views.map((it) => JSON.stringify(it)).join('\n')}`);
    });
    return views[0];
  }

  /** Waits until all of the journals are in Postgres. */
  async flushed({ within = 10_000 } = {}) {
    const waiting = () => this.everywhere((node) => node.metric('journal_unflushed_rows'));
    // The number is of the last batch: two looks are further apart than two batches.
    const none = async () => (await waiting()).every((it) => it === 0);
    const still = async () => (await none()) && (await pause(150), none());
    await eventually('nothing waits for Postgres', still, { within, every: 100 });
  }

  /** Waits until no node has a call. */
  async idle({ within = 10_000 } = {}) {
    let counts;
    const none = async () => {
      counts = await this.everywhere((node) => node.metric('calls_live'));
      return counts.every((it) => it === 0);
    };
    await eventually('no call lives', none, { within, every: 100 }).catch((error) => {
      throw new Error(`${error.message}: ${counts}`);
    });
  }

  /** Nothing has happened that must never. */
  check() {
    assert.deepEqual(this.faults, []);
    for (const device of this.devices) device.checkOrder();
  }

  /** Ends everything in order, and looks whether it was in order. */
  async close() {
    for (const { reason } of await this.#end()) if (reason) throw reason;
    this.check();
  }
}
