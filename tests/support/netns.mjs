// Machines in one: each node has a network of its own, joined to the others by a switch, so that one can be cut off from them while those
// who ask it from here still reach it.
import { execFile, execFileSync } from 'node:child_process';
import { readlinkSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { promisify } from 'node:util';
import { Server } from './servers.mjs';

/** Addresses that are set apart for trials between networks: they are nobody's. */
const SWITCHED = '198.18.0';
const FRONT = '198.19';
const NODES_MAX = 60;

const quiet = { stdio: ['ignore', 'ignore', 'pipe'] };
const ip = (...words) => execFileSync('ip', words, quiet);

/** Why there can be no such networks here, for a test's `skip`; false where there can. */
export function noNetworks() {
  const trial = `
    ip link add calls0 type bridge
    ip link add calls1 type veth peer name calls2`;
  try {
    execFileSync('unshare', ['--net', 'sh', '-ec', trial], { stdio: 'ignore' });
    // Here too there has to be one end of a line to each node.
    const [one, other] = [`ct${process.pid}a`, `ct${process.pid}b`];
    ip('link', 'add', one, 'type', 'veth', 'peer', 'name', other);
    ip('link', 'del', one);
    return false;
  } catch {
    return 'not run: networks can be neither made nor joined here (`unshare --net`, `ip link add type veth`), and this needs several';
  }
}

/** What keeps a network there: it ends with this. */
class Holder extends Server {
  constructor() {
    super('network');
  }

  begin() {
    const own = readlinkSync('/proc/self/ns/net');
    const isReady = () => {
      try {
        return readlinkSync(`/proc/${this.pid}/ns/net`) !== own;
      } catch {
        // It has not begun.
        return false;
      }
    };
    return this.launch('unshare', ['--net', 'sleep', 'infinity'], isReady);
  }

  /** The words before a command that has to run in there. */
  get inside() {
    return ['nsenter', `--net=/proc/${this.pid}/ns/net`];
  }

  run(...words) {
    const [command, ...args] = [...this.inside, ...words];
    return execFileSync(command, args, quiet);
  }
}

/** One node's network. */
export class NetworkNode {
  #holder;
  #switch;
  #port;
  #forwards = [];

  constructor(holder, its, { index, lines }) {
    this.#holder = holder;
    this.#switch = its;
    this.#port = `port${index}`;
    /** Where the other nodes reach it, unless it is cut off. */
    this.address = `${SWITCHED}.${index}`;
    /** Where it is reached from here at all times: what it listens on for these tests. */
    this.front = `${FRONT}.${lines}.${index * 4 + 2}`;
    /** Where it reaches this machine at all times; see `forward`. */
    this.here = `${FRONT}.${lines}.${index * 4 + 1}`;
    const line = `cl${process.pid}-${index}`;
    // The ends in the holders' networks go with them, and take the other ends along.
    ip('link', 'add', line, 'type', 'veth', 'peer', 'name', 'front', 'netns', String(holder.pid));
    ip('addr', 'add', `${this.here}/30`, 'dev', line);
    ip('link', 'set', line, 'up');
    its.run(
      'ip',
      'link',
      'add',
      this.#port,
      'type',
      'veth',
      'peer',
      'name',
      'back',
      'netns',
      String(holder.pid),
    );
    its.run('ip', 'link', 'set', this.#port, 'master', 'switch', 'up');
    for (const words of [
      ['link', 'set', 'lo', 'up'],
      ['addr', 'add', `${this.front}/30`, 'dev', 'front'],
      ['link', 'set', 'front', 'up'],
      ['addr', 'add', `${this.address}/24`, 'dev', 'back'],
      ['link', 'set', 'back', 'up'],
    ]) {
      holder.run('ip', ...words);
    }
  }

  /** The words before a command that has to run in there. */
  get inside() {
    return this.#holder.inside;
  }

  /** Runs a command in there to its end: what it prints. What it reaches by `forward` is answered here meanwhile. */
  async run(...words) {
    const [command, ...args] = [...this.inside, ...words];
    return (await promisify(execFile)(command, args)).stdout;
  }

  /** Cuts it off from the other nodes: nothing comes through, and nobody is told. */
  cut() {
    this.#switch.run('ip', 'link', 'set', this.#port, 'down');
  }

  heal() {
    this.#switch.run('ip', 'link', 'set', this.#port, 'up');
  }

  /** Lets it reach a port of this machine's own 127.0.0.1, whether it is cut off or not: the address for it, `host:port`. */
  async forward(port) {
    const pairs = new Set();
    const server = createServer((client) => {
      const pair = [client, connect(port, '127.0.0.1')];
      pairs.add(pair);
      const end = () => {
        for (const side of pair) side.destroy();
        pairs.delete(pair);
      };
      for (const side of pair) side.on('error', end).on('close', end).unref();
      pair[0].pipe(pair[1]).pipe(pair[0]);
    });
    server.unref();
    await new Promise((resolve, reject) => server.once('error', reject).listen(0, this.here, resolve));
    this.#forwards.push({ server, pairs });
    return `${this.here}:${server.address().port}`;
  }

  async stop() {
    for (const { server, pairs } of this.#forwards) {
      server.close();
      for (const pair of pairs) for (const side of pair) side.destroy();
    }
    await this.#holder.stop();
  }
}

/** The switch, and the nodes at it. */
export class Network {
  nodes = [];
  #switch = new Holder();
  // Two runs at once must not give the same address to both.
  #lines = Math.floor(Math.random() * 255);

  static async open() {
    const it = new Network();
    await it.#switch.begin();
    for (const words of [
      ['link', 'add', 'switch', 'type', 'bridge'],
      ['link', 'set', 'switch', 'up'],
    ]) {
      it.#switch.run('ip', ...words);
    }
    return it;
  }

  /** Another node: what runs there is started with its `inside`, and with its addresses to listen on. */
  async node() {
    const index = this.nodes.length + 1;
    if (index > NODES_MAX) throw new Error(`more than ${NODES_MAX} nodes`);
    const holder = await new Holder().begin();
    const it = new NetworkNode(holder, this.#switch, { index, lines: this.#lines });
    this.nodes.push(it);
    return it;
  }

  /** Ends all of it; what runs there has been stopped before. */
  async close() {
    await Promise.all(this.nodes.map((it) => it.stop()));
    await this.#switch.stop();
  }
}
