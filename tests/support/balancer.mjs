// Real load balancers before several nodes, with the settings that operators are given: only addresses are others.
import { readFileSync, readdirSync, readlinkSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { freePort, installed, Server } from './servers.mjs';
import { ROOT } from './service.mjs';

/** How long new settings may take until they hold, milliseconds. */
const RELOAD_MS_MAX = 10_000;
/** How long a request may take, milliseconds. */
const ANSWER_MS_MAX = 5000;
/** After how long without an effect it is told once more, milliseconds. */
const TELL_AGAIN_MS = 2000;
/** A node in either file: what stands before its address, and after it. */
const NODE = /^( +server )(?:node\d+ )?\d+(?:\.\d+){3}:\d+(.*)$/;

/** The processes that one has started, and that have not ended. */
function childrenOf(pid) {
  try {
    const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8');
    return text.split(' ').filter(Boolean).map(Number);
  } catch {
    // It has ended itself.
    return [];
  }
}

/** Whether a process takes connections at a port. */
function listens(pid, port) {
  const local = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  const lines = readFileSync('/proc/net/tcp', 'utf8').split('\n');
  const sockets = lines
    .map((it) => it.trim().split(/ +/))
    .filter(([, address, , state]) => state === '0A' && address.endsWith(local))
    .map((it) => `socket:[${it[9]}]`);
  try {
    const folder = `/proc/${pid}/fd`;
    return readdirSync(folder).some((it) => sockets.includes(readlinkSync(join(folder, it))));
  } catch {
    // It ends just now, or what it had open is closed.
    return false;
  }
}

function send(pid, signal) {
  try {
    process.kill(pid, signal);
  } catch (error) {
    // It has ended meanwhile.
    if (error.code !== 'ESRCH') throw error;
  }
}

/** What both have in common. */
class Balancer extends Server {
  /**
   * `addresses` are those of the nodes, `host:port` or `http://host:port`; without `sticky` each request of long polling may come to
   * another node, which the files do not allow.
   */
  constructor(name, port, { addresses, sticky = true }) {
    super(name);
    Object.assign(this, { port, addresses, sticky });
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  /** A node with its name where nodes have one. */
  node(address, _index) {
    return address;
  }

  /** The operators' file with other addresses. */
  config(file) {
    const lines = readFileSync(join(ROOT, 'tests/data', file), 'utf8').split('\n');
    const nodes = this.addresses.map((it) => it.replace(/^http:\/\//, ''));
    return lines
      .flatMap((line, index) => {
        const [, before, after] = NODE.exec(line) ?? [];
        if (before === undefined) return [line];
        // As many lines as there are nodes take the place of those that there are.
        if (NODE.test(lines[index - 1])) return [];
        return nodes.map((it, at) => `${before}${this.node(it, at)}${after}`);
      })
      .join('\n');
  }

  /** Its processes: the one that was started, and those that work. */
  get family() {
    return [this.pid, ...childrenOf(this.pid)];
  }

  /** Changes `{addresses, sticky}` while it runs: sockets that are open stay so, with the settings that they began with. */
  async reload(changes = {}) {
    Object.assign(this, changes);
    this.write();
    const before = childrenOf(this.pid);
    const isDone = () =>
      childrenOf(this.pid).some((it) => !before.includes(it) && listens(it, this.port)) &&
      !before.some((it) => listens(it, this.port));
    const end = Date.now() + RELOAD_MS_MAX;
    for (let told = 0; !isDone();) {
      if (Date.now() > end) throw new Error(`${this.name} keeps its settings: ${this.log.slice(-500)}`);
      // One that is still about to wait for signals misses them.
      if (Date.now() > told + TELL_AGAIN_MS) {
        told = Date.now();
        send(this.pid, this.renews);
      }
      await pause(25);
    }
  }

  /** Asks over a connection of its own, which no reload of before concerns: `{status, body}`. */
  ask(path = '/', { headers, within = ANSWER_MS_MAX } = {}) {
    return new Promise((resolve, reject) => {
      const options = { agent: false, headers, signal: AbortSignal.timeout(within) };
      get(`${this.url}${path}`, options, (answer) => {
        let body = '';
        answer.setEncoding('utf8').on('data', (it) => (body += it));
        answer.on('end', () => resolve({ status: answer.statusCode, body })).on('error', reject);
      }).on('error', reject);
    });
  }

  isReady() {
    // Whether or not a node answers behind it.
    return this.ask().then(
      () => true,
      () => false,
    );
  }

  freeze() {
    for (const pid of this.family) send(pid, 'SIGSTOP');
  }

  thaw() {
    for (const pid of this.family) send(pid, 'SIGCONT');
  }

  abandon() {
    // Those that work go on without the one that started them.
    if (this.isRunning) for (const pid of this.family) send(pid, 'SIGKILL');
    super.abandon();
  }

  async crash() {
    if (!this.isRunning) return;
    const [, ...others] = this.family;
    await super.crash();
    for (const pid of others) send(pid, 'SIGKILL');
  }
}

/** nginx with tests/data/nginx.conf in the place of a file in its conf.d. */
export class Nginx extends Balancer {
  /** The signal that has it read its file again. */
  renews = 'SIGHUP';

  static async start(options) {
    return new Nginx('nginx', await freePort(), options).begin();
  }

  write() {
    let text = this.config('nginx.conf').replace('listen 80;', `listen 127.0.0.1:${this.port};`);
    if (!this.sticky) text = text.replace('default call_nodes_sticky;', 'default call_nodes;');
    writeFileSync(join(this.folder, 'calls.conf'), text);
    const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
      (it) => `${it}_temp_path ${join(this.folder, it)};`,
    );
    const lines = [
      // Its folder is the tests' own, and nobody else's.
      ...(process.getuid() === 0 ? ['user root;'] : []),
      'daemon off;',
      'worker_processes 1;',
      `pid ${join(this.folder, 'pid')};`,
      'error_log stderr notice;',
      'events { worker_connections 4096; }',
      `http { access_log off; ${temporary.join(' ')} include ${join(this.folder, 'calls.conf')}; }`,
    ];
    writeFileSync(join(this.folder, 'nginx.conf'), `${lines.join('\n')}\n`);
  }

  /** Starts it, for the first time or again after `halt` or `crash`, on the same port. */
  begin() {
    this.write();
    const file = join(this.folder, 'nginx.conf');
    // What it says before it has read the file goes where the file says too.
    const args = ['-p', this.folder, '-e', 'stderr', '-c', file];
    return this.launch(installed('nginx', 'nginx'), args, () => this.isReady());
  }
}

/** HAProxy with tests/data/haproxy.cfg. */
export class HaProxy extends Balancer {
  /** The signal that has it read its file again. */
  renews = 'SIGUSR2';

  static async start(options) {
    return new HaProxy('haproxy', await freePort(), options).begin();
  }

  node(address, index) {
    return `node${index + 1} ${address}`;
  }

  write() {
    let text = this.config('haproxy.cfg').replace('bind :80', `bind 127.0.0.1:${this.port}`);
    if (!this.sticky) text = text.replace(/^ +stick (match|store-response) .*\n/gm, '');
    writeFileSync(join(this.folder, 'haproxy.cfg'), text);
  }

  /** Starts it, for the first time or again after `halt` or `crash`, on the same port. */
  begin() {
    this.write();
    const args = ['-W', '-db', '-f', join(this.folder, 'haproxy.cfg')];
    return this.launch(installed('haproxy', 'haproxy'), args, () => this.isReady());
  }
}
