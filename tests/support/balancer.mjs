// Real load balancers before several nodes, with the settings that operators are given: only addresses are others.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort, installed, Server } from './servers.mjs';
import { ROOT } from './service.mjs';

/** How long new settings may take until they hold, milliseconds. */
const RELOAD_MS_MAX = 10_000;
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

  /** Changes `{addresses, sticky}` while it runs: sockets that are open stay so. */
  async reload(changes = {}) {
    Object.assign(this, changes);
    this.write();
    const isDone = this.reloading();
    const end = Date.now() + RELOAD_MS_MAX;
    while (!isDone()) {
      if (Date.now() > end) throw new Error(`${this.name} keeps its settings: ${this.log.slice(-500)}`);
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
  }

  isReady() {
    // Whether or not a node answers behind it.
    return fetch(this.url, { signal: AbortSignal.timeout(1000) }).then(
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

  reloading() {
    const before = childrenOf(this.pid);
    send(this.pid, 'SIGHUP');
    const takesMore = (pid) => {
      try {
        const title = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
        return title !== '' && !title.includes('shutting down');
      } catch {
        return false;
      }
    };
    return () =>
      childrenOf(this.pid).some((it) => !before.includes(it)) && !before.some((it) => takesMore(it));
  }
}

/** HAProxy with tests/data/haproxy.cfg. */
export class HaProxy extends Balancer {
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

  reloading() {
    const loads = () => this.log.split('Loading success').length;
    const before = loads();
    send(this.pid, 'SIGUSR2');
    return () => loads() > before;
  }
}
