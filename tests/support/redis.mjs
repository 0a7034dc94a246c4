// Real Redis servers on this machine: a single one, one with its replica and sentinels, or a cluster; and what makes each of them fail.
// REDIS_SERVER is another program that speaks its language, as valkey-server.
import { copyFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createClient, ErrorReply } from '@redis/client';
import { freePort, installed, Server } from './servers.mjs';
import { ROOT } from './service.mjs';
import { eventually } from './world.mjs';

/** How long Redis may take to answer a test, milliseconds. */
const ANSWER_MS_MAX = 3000;
/** How long one may take to say that it is there, milliseconds, before it is asked again. */
const PING_MS_MAX = 500;
/** How long a cluster may take to form, to fail over or to come back, milliseconds. */
const AGREE_MS_MAX = 20_000;
const SLOTS = 16_384;
const CERTIFICATE = join(ROOT, 'tests/data/localhost.pem');
const PRIVATE_KEY = join(ROOT, 'tests/data/localhost.key');
/** Where one runs that has no network of its own. */
const HERE = { address: '127.0.0.1', front: '127.0.0.1', inside: [] };
/** The user of these tests themselves, where the default one is off. */
const KIT = { name: 'kit', password: 'only-these-tests' };

/** What operators are given in tests/data/redis.conf: its settings, and the rules of the nodes' user. */
export function operators() {
  const lines = readFileSync(join(ROOT, 'tests/data/redis.conf'), 'utf8').split('\n');
  const [, rules] = lines.map((it) => /^user calls on >\S+ (.*)$/.exec(it)).find(Boolean);
  const settings = lines.filter((it) => it !== '' && !/^(#|user |masterauth )/.test(it));
  return { rules, settings: Object.fromEntries(settings.map((it) => it.split(/ (.*)/).slice(0, 2))) };
}

/** Waits until `look` gives something true; one that is just starting or ending gives no answer, which is no answer yet. */
const until = (what, look) =>
  eventually(what, () => Promise.resolve(look()).catch(() => undefined), { within: AGREE_MS_MAX, every: 50 });

/** One connection to a server: the words of a command go as they are, and nothing is tried again. */
export class Connection {
  #client;

  constructor(client) {
    this.#client = client;
  }

  static async open({ host = '127.0.0.1', port, tls, user, within = ANSWER_MS_MAX }) {
    const client = createClient({
      RESP: 2,
      username: user?.name,
      password: user?.password,
      socket: {
        host,
        port,
        connectTimeout: within,
        reconnectStrategy: false,
        ...(tls && { tls, ca: readFileSync(CERTIFICATE), servername: 'localhost' }),
      },
      // Who watches the commands sees the tests' own alone.
      disableClientInfo: true,
      disableOfflineQueue: true,
    });
    // Whoever asks next is told.
    client.on('error', () => {});
    const it = new Connection(client);
    await it.#answer('a connection', client.connect(), within);
    // A test that failed before it closed this must not wait for it.
    client.unref();
    return it;
  }

  get isOpen() {
    return this.#client.isReady;
  }

  /** Waits no longer than that; what comes later is nobody's. */
  async #answer(what, answer, within) {
    let late;
    const lateness = new Promise((_, reject) => {
      late = setTimeout(() => reject(new Error(`${what}: no answer within ${within} ms`)), within);
    });
    try {
      return await Promise.race([answer, lateness]);
    } catch (error) {
      if (!(error instanceof ErrorReply)) this.close();
      throw error;
    } finally {
      clearTimeout(late);
    }
  }

  /** Asks one command, an array of words. */
  ask(command, { within = ANSWER_MS_MAX } = {}) {
    return this.#answer(command[0], this.#client.sendCommand(command.map(String)), within);
  }

  /** Listens to a shard channel: `messages`, and `isPutOut` once its slot has gone elsewhere. */
  async listen(channel) {
    const heard = { messages: [], isPutOut: false };
    this.#client.on('sharded-channel-moved', (gone) => (heard.isPutOut ||= String(gone) === channel));
    const asked = this.#client.sSubscribe(channel, (message) => heard.messages.push(message));
    await this.#answer('SSUBSCRIBE', asked, ANSWER_MS_MAX);
    return heard;
  }

  /** Sees what the server is asked from now on, each as a line of Redis' own. */
  async watch() {
    const lines = [];
    const asked = this.#client.monitor((line) => lines.push(line));
    await this.#answer('MONITOR', asked, ANSWER_MS_MAX);
    return lines;
  }

  close() {
    if (this.#client.isOpen) this.#client.destroy();
  }
}

/** One server, single or as a part of something. */
export class Redis extends Server {
  /** Whether it is held. */
  frozen = false;
  #connection;

  /** `on` is where it runs: a node of `Network`, else this machine's own address. */
  constructor(port, { settings = {}, users, tls = false, on = HERE, name = 'redis' } = {}) {
    super(name);
    Object.assign(this, { port, settings, users, tls, on });
  }

  /**
   * Starts a single one. `settings` are those of redis.conf, an array for one that stands there several times; `users` are
   * `{name: password}` or `{name: {password, rules}}`, and where there are any the default user is off; `tls` lets nobody in without.
   */
  static async start(options) {
    return new Redis(await freePort(), options).begin();
  }

  /** Its user and password as an address has them. */
  get credentials() {
    const [first] = Object.entries(this.users ?? {});
    if (!first) return '';
    const [name, it] = first;
    return `${name}:${encodeURIComponent(it.password ?? it)}@`;
  }

  get host() {
    return `${this.on.address}:${this.port}`;
  }

  /** What the service is given as REDIS_URL. */
  get url() {
    return `${this.tls ? 'rediss' : 'redis'}://${this.credentials}${this.host}`;
  }

  /** The settings in redis.conf, before those that were asked for. */
  get own() {
    const { address, front } = this.on;
    return {
      bind: [...new Set(['127.0.0.1', address, front])].join(' '),
      // Who asks without a password from another network is no intruder here.
      'protected-mode': 'no',
      ...(this.tls ? { port: 0, 'tls-port': this.port } : { port: this.port }),
      ...(this.tls && {
        'tls-cert-file': CERTIFICATE,
        'tls-key-file': PRIVATE_KEY,
        'tls-ca-cert-file': CERTIFICATE,
        'tls-auth-clients': 'no',
        'tls-replication': 'yes',
      }),
      ...(this.users && {
        user: [
          'default off',
          `${KIT.name} on >${KIT.password} ~* &* +@all`,
          ...Object.entries(this.users).map(
            ([name, it]) => `${name} on >${it.password ?? it} ${it.rules ?? '~* &* +@all'}`,
          ),
        ],
        masteruser: KIT.name,
        masterauth: KIT.password,
      }),
      dir: this.folder,
      // Written down only when a test says so: what an older file holds is then known.
      save: '""',
      'repl-diskless-sync-delay': 0,
    };
  }

  get arguments() {
    return [];
  }

  get program() {
    return installed(process.env.REDIS_SERVER ?? 'redis-server', 'redis');
  }

  /** Starts it, for the first time or again after `halt` or `crash`, on the same port. */
  async begin() {
    const file = join(this.folder, 'redis.conf');
    // Sentinels have it rewritten: who is whose replica stands there.
    if (!existsSync(file)) {
      const all = Object.entries({ ...this.own, ...this.settings });
      const lines = all.flatMap(([name, values]) => [values].flat().map((it) => `${name} ${it}`));
      writeFileSync(file, `${lines.join('\n')}\n`);
    }
    this.frozen = false;
    const [command, ...args] = [...this.on.inside, this.program, file, ...this.arguments];
    const isReady = () =>
      this.ask(['PING'], { within: PING_MS_MAX }).then(
        () => true,
        () => false,
      );
    return this.launch(command, args, isReady);
  }

  /** A connection of its own, as the tests' user. */
  connect(options) {
    const user = this.users && KIT;
    return Connection.open({ host: this.on.front, port: this.port, tls: this.tls, user, ...options });
  }

  /** Asks one command, an array of words. */
  async ask(command, options) {
    if (!this.#connection?.isOpen) this.#connection = await this.connect(options);
    return this.#connection.ask(command, options);
  }

  /** A section of what it says of itself. */
  async info(section) {
    const text = await this.ask(['INFO', section]);
    return Object.fromEntries(
      text
        .split('\r\n')
        .filter((it) => it.includes(':'))
        .map((it) => it.split(/:(.*)/).slice(0, 2)),
    );
  }

  /** Watches what it is asked: `commands()` are those of others until now, each an array of words, and `close` ends it. */
  async monitor() {
    const connection = await this.connect();
    const lines = await connection.watch();
    const words = (line) => [...line.matchAll(/"((?:[^"\\]|\\.)*)"/g)].map(([, it]) => it);
    return { commands: () => lines.map(words), close: () => connection.close() };
  }

  /** Whether this replica has all that its master has, as far as it is told. */
  async isInSync() {
    const its = await this.info('replication');
    return its.role === 'master' || (its.master_link_status === 'up' && its.master_sync_in_progress === '0');
  }

  freeze() {
    this.frozen = true;
    super.freeze();
  }

  thaw() {
    this.frozen = false;
    super.thaw();
  }

  /** Writes down what it holds, for `rollback`. */
  async save() {
    await this.ask(['SAVE']);
    copyFileSync(join(this.folder, 'dump.rdb'), join(this.folder, 'saved.rdb'));
  }

  /** Puts what `save` wrote down in the place of all that came later; to be called while it is ended. */
  restore() {
    if (this.settings.appendonly === 'yes') throw new Error('its journal would be read instead of the file');
    copyFileSync(join(this.folder, 'saved.rdb'), join(this.folder, 'dump.rdb'));
  }

  /** Crashes it, and starts it with what `save` wrote down: all that was acknowledged later is lost. */
  async rollback() {
    await this.crash();
    this.restore();
    return this.begin();
  }
}

/** Several servers that are one store. */
class Group {
  /** All of its processes. */
  get all() {
    return this.nodes;
  }

  get living() {
    return this.nodes.filter((it) => it.isRunning && !it.frozen);
  }

  freezeAll() {
    for (const it of this.all) it.freeze();
  }

  thawAll() {
    for (const it of this.all) it.thaw();
  }

  async crashAll() {
    await Promise.all(this.all.map((it) => it.crash()));
  }

  /** Starts those that have ended, and waits until all agree again. */
  async startAll() {
    await Promise.all(this.all.filter((it) => !it.isRunning).map((it) => it.begin()));
    return this.ready();
  }

  /** Writes down what each holds, for `rollback`. */
  async saveAll() {
    await Promise.all(this.nodes.map((it) => it.save()));
  }

  /** Crashes all, and starts them with what `saveAll` wrote down: all that was acknowledged later is lost. */
  async rollback() {
    await this.crashAll();
    for (const it of this.nodes) it.restore();
    return this.startAll();
  }

  /** Crashes the master, of that key where there are several, and waits for another: `{crashed, master, tookMs}`. */
  async crashMaster(key) {
    const crashed = await this.masterOf(key);
    const begun = Date.now();
    await crashed.crash();
    const master = await until('a failover', async () => {
      const [first, ...others] = await this.mastersOf(key);
      const isChosen = first && first !== crashed && others.every((it) => it === first);
      return isChosen && (await this.takes(key, first)) && first;
    });
    return { crashed, master, tookMs: Date.now() - begun };
  }

  /** Ends all for good. */
  async stop() {
    await Promise.all(this.all.map((it) => it.stop()));
  }
}

/** A part of a cluster. */
class ClusterNode extends Redis {
  constructor(port, { nodeTimeoutMs, ...options }) {
    super(port, { ...options, name: 'redis-node' });
    this.nodeTimeoutMs = nodeTimeoutMs;
  }

  get own() {
    return {
      ...super.own,
      'cluster-enabled': 'yes',
      'cluster-config-file': 'nodes.conf',
      'cluster-node-timeout': this.nodeTimeoutMs,
      // By itself it would be 10,000 higher, among the ports that connections get: a restarted one could find it taken.
      'cluster-port': this.port + 1,
      'cluster-announce-ip': this.on.address,
      ...(this.tls && { 'tls-cluster': 'yes' }),
    };
  }

  async begin() {
    await super.begin();
    this.id ??= await this.ask(['CLUSTER', 'MYID']);
    return this;
  }

  /** What it knows of the cluster: `[{id, isMaster, isLost, masterId, has}]`, where `has(slot)` tells whose a slot is. */
  async view() {
    const text = await this.ask(['CLUSTER', 'NODES']);
    return text
      .split('\n')
      .filter((it) => it !== '')
      .map((line) => {
        const [id, , flags, masterId, , , , , ...slots] = line.split(' ');
        // Those in brackets are on their way.
        const ranges = slots.filter((it) => !it.startsWith('[')).map((it) => it.split('-').map(Number));
        const has = (slot) => ranges.some(([from, to = from]) => slot >= from && slot <= to);
        return { id, isMaster: /\bmaster\b/.test(flags), isLost: /\bfail\b/.test(flags), masterId, has };
      });
  }

  async state() {
    const text = await this.ask(['CLUSTER', 'INFO']);
    return Object.fromEntries(text.split('\r\n').map((it) => it.split(':')));
  }
}

/** A Redis Cluster. A key, a shard channel and a slot's number are all understood where a key is asked for. */
export class RedisCluster extends Group {
  /** `settings`, `users`, `tls` and `on` as those of a single one, the same for each. */
  static async start({ masters = 3, replicas = 1, nodeTimeoutMs = 2000, ...options } = {}) {
    const it = new RedisCluster();
    it.masters = masters;
    it.nodes = [];
    for (let count = masters * (1 + replicas); count > 0; count -= 1) {
      it.nodes.push(new ClusterNode(await freePort(2), { nodeTimeoutMs, ...options }));
    }
    await Promise.all(it.nodes.map((node) => node.begin()));
    const [first, ...others] = it.nodes;
    await Promise.all(
      it.nodes.slice(0, masters).map(async (node, index) => {
        const [from, next] = [index, index + 1].map((part) => Math.floor((part * SLOTS) / masters));
        await node.ask(['CLUSTER', 'ADDSLOTSRANGE', from, next - 1]);
        // Else two have the same one, and settle later which of them changes it.
        await node.ask(['CLUSTER', 'SET-CONFIG-EPOCH', index + 1]);
      }),
    );
    for (const { on, port } of others) await first.ask(['CLUSTER', 'MEET', on.address, port, port + 1]);
    const known = (node) => node.state().then((its) => its.cluster_known_nodes === String(it.nodes.length));
    for (const node of it.nodes) await until('all know all', () => known(node));
    for (const [index, node] of it.nodes.slice(masters).entries()) {
      await node.ask(['CLUSTER', 'REPLICATE', it.nodes[index % masters].id]);
    }
    return it.ready();
  }

  /** Waits until all agree that all is well, and each replica has what its master has. */
  async ready() {
    const isReady = async (node) => {
      const [state, view] = [await node.state(), await node.view()];
      return (
        state.cluster_state === 'ok' &&
        state.cluster_slots_ok === String(SLOTS) &&
        // A master that comes back takes itself for one still, until it hears of the other.
        view.filter((it) => it.isMaster).length === this.masters &&
        view.every((it) => !it.isLost) &&
        (await node.isInSync())
      );
    };
    for (const node of this.living) await until('the cluster is well', () => isReady(node));
    return this;
  }

  get url() {
    const [{ tls, credentials, host }, ...others] = this.nodes;
    const more = others.map((it) => `node=${it.host}`).join('&');
    return `${tls ? 'rediss' : 'redis'}-cluster://${credentials}${host}?${more}`;
  }

  #named(id) {
    return this.nodes.find((it) => it.id === id);
  }

  /** The slot of a key, as Redis itself says. */
  async slotOf(key) {
    return typeof key === 'number' ? key : this.living[0].ask(['CLUSTER', 'KEYSLOT', key]);
  }

  /** Who has it, as each of those that live sees it. */
  async mastersOf(key) {
    const slot = await this.slotOf(key);
    const views = await Promise.all(this.living.map((it) => it.view()));
    return views.map((view) => this.#named(view.find((it) => it.has(slot))?.id));
  }

  async masterOf(key) {
    return (await this.mastersOf(key))[0];
  }

  async replicasOf(key) {
    const [{ id }, view] = [await this.masterOf(key), await this.living[0].view()];
    return view.filter((it) => it.masterId === id).map((it) => this.#named(it.id));
  }

  /** Whether all that live say that all is well. */
  async takes() {
    const states = await Promise.all(this.living.map((it) => it.state()));
    return states.every((it) => it.cluster_state === 'ok');
  }

  /** Asks the one that has the key. */
  async ask(key, command) {
    return (await this.masterOf(key)).ask(command);
  }

  /** Watches what the one that has the key is asked. */
  async monitor(key) {
    return (await this.masterOf(key)).monitor();
  }

  /**
   * Moves a slot with its keys as an operator's tool does: the count of keys. `meanwhile` is waited for when the slot is on its way and
   * no key has moved.
   */
  async migrateSlot(key, from, to, { meanwhile } = {}) {
    const slot = await this.slotOf(key);
    const set = (node, ...words) => node.ask(['CLUSTER', 'SETSLOT', slot, ...words]);
    await set(to, 'IMPORTING', from.id);
    await set(from, 'MIGRATING', to.id);
    await meanwhile?.();
    const user = from.users ? ['AUTH2', KIT.name, KIT.password] : [];
    let moved = 0;
    for (;;) {
      const keys = await from.ask(['CLUSTER', 'GETKEYSINSLOT', slot, 100]);
      if (keys.length === 0) break;
      const where = [to.on.address, to.port, '', 0, ANSWER_MS_MAX];
      await from.ask(['MIGRATE', ...where, ...user, 'KEYS', ...keys]);
      moved += keys.length;
    }
    // The new one first: between the two, one of them has it.
    await set(to, 'NODE', to.id);
    await set(from, 'NODE', to.id);
    await until('all know who has the slot', async () =>
      (await this.mastersOf(slot)).every((it) => it === to),
    );
    return moved;
  }
}

/** What the sentinels call the master that they watch. */
const WATCHED = 'calls';

class SentinelNode extends Redis {
  constructor(port, { watched, ...options }) {
    super(port, { ...options, name: 'sentinel' });
    this.watched = watched;
  }

  get own() {
    const { users, tls, masteruser, masterauth, save, user, ...own } = super.own;
    const { on, port } = this.watched;
    return {
      ...own,
      'repl-diskless-sync-delay': [],
      sentinel: [
        `monitor ${WATCHED} ${on.address} ${port} 2`,
        `down-after-milliseconds ${WATCHED} 1000`,
        `failover-timeout ${WATCHED} 6000`,
        ...(this.watched.users
          ? [`auth-user ${WATCHED} ${KIT.name}`, `auth-pass ${WATCHED} ${KIT.password}`]
          : []),
      ],
    };
  }

  get arguments() {
    return ['--sentinel'];
  }

  /** The address of the master. */
  master() {
    return this.ask(['SENTINEL', 'GET-MASTER-ADDR-BY-NAME', WATCHED]);
  }

  async knows() {
    const flat = await this.ask(['SENTINEL', 'MASTER', WATCHED]);
    return Object.fromEntries(
      Array.from({ length: flat.length / 2 }, (_, index) => [flat[2 * index], flat[2 * index + 1]]),
    );
  }
}

/** A master, its replica, and three sentinels that choose between them. */
export class Sentinel extends Group {
  /** `settings`, `users`, `tls` and `on` as those of a single one; the sentinels themselves ask for no password. */
  static async start(options = {}) {
    const it = new Sentinel();
    const master = await Redis.start(options);
    const settings = { ...options.settings, replicaof: `${master.on.address} ${master.port}` };
    it.nodes = [master, await Redis.start({ ...options, settings })];
    await until('the replica has all', () => it.nodes[1].isInSync());
    const { tls, on } = options;
    it.sentinels = [];
    for (let count = 0; count < 3; count += 1) {
      it.sentinels.push(new SentinelNode(await freePort(), { watched: master, tls, on }));
    }
    await Promise.all(it.sentinels.map((sentinel) => sentinel.begin()));
    return it.ready();
  }

  get all() {
    return [...this.nodes, ...this.sentinels];
  }

  /** Waits until all sentinels know each other and the replica, and that one has what its master has. */
  async ready() {
    const isReady = async (sentinel) => {
      const knows = await sentinel.knows();
      return knows.flags === 'master' && knows['num-slaves'] === '1' && knows['num-other-sentinels'] === '2';
    };
    for (const it of this.sentinels) await until('the sentinels know all', () => isReady(it));
    for (const it of this.nodes) await until('the replica has all', () => it.isInSync());
    return this;
  }

  get url() {
    const [{ tls, host }, ...others] = this.sentinels;
    const more = [...others.map((it) => `node=${it.host}`), `sentinelServiceName=${WATCHED}`].join('&');
    return `${tls ? 'rediss' : 'redis'}-sentinel://${this.nodes[0].credentials}${host}?${more}`;
  }

  /** Who is the master, as each of the sentinels that live sees it. */
  async mastersOf() {
    const living = this.sentinels.filter((it) => it.isRunning && !it.frozen);
    const addresses = await Promise.all(living.map((it) => it.master()));
    return addresses.map(([, port]) => this.nodes.find((it) => String(it.port) === port));
  }

  async masterOf() {
    return (await this.mastersOf())[0];
  }

  async takes(_, master) {
    return (await master.info('replication')).role === 'master';
  }

  /** Asks the master. */
  async ask(command) {
    return (await this.masterOf()).ask(command);
  }

  async monitor() {
    return (await this.masterOf()).monitor();
  }
}
