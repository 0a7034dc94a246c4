// A real Coturn with the settings that operators are given: on this machine's own address with a few of them changed, or unchanged in
// a network of its own.
import { execFileSync, spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { freePort, installed, Server } from './servers.mjs';
import { ROOT } from './service.mjs';
import { seconds } from './tokens.mjs';

/** The file that operators are given. */
export const CONFIG = join(ROOT, 'tests/data/turnserver.conf');

const SECRET = 'a secret that only this Coturn and its tests know';
/** The address in that file: it looks public, and belongs to nobody. */
const PUBLIC = { address: '203.0.113.1', address6: '2001:db8::1', port: 3478 };
const RELAY_PORTS = 40;
/** How long Coturn may take to let somebody in or not, milliseconds. */
const ANSWER_MS_MAX = 8000;
/** How long until media has gone to and fro, milliseconds: the client takes its time. */
const CARRY_MS_MAX = 20_000;

/** Why there can be no network of one's own here, for a test's `skip`; false where there can. */
export function noNamespaces() {
  try {
    execFileSync('unshare', ['--net', 'true'], { stdio: 'ignore' });
    return false;
  } catch {
    return 'not run: `unshare --net` is not allowed here, and this needs a network of its own';
  }
}

/** A name and password as the service makes them. */
export function credential(userId, { secret = SECRET, expires = seconds() + 600 } = {}) {
  const username = `${expires}:${userId}`;
  return { username, credential: createHmac('sha1', secret).update(username).digest('base64') };
}

/** The operators' file with some of its options changed: a value or several instead of what is there, `null` for none. */
function changed(changes) {
  const nameOf = (line) => line.split('=')[0];
  const kept = readFileSync(CONFIG, 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#') && !(nameOf(line) in changes));
  const added = Object.entries(changes).flatMap(([name, values]) =>
    values === null ? [] : [values].flat().map((it) => (it === true ? name : `${name}=${it}`)),
  );
  return `${[...kept, ...added].join('\n')}\n`;
}

/** A TURN server. */
export class Coturn extends Server {
  secret = SECRET;

  constructor({ address, port, file, before = [], args = [], inside = () => [] }) {
    super('coturn');
    Object.assign(this, { address, port, file, before, args, inside });
  }

  /**
   * Starts one on 127.0.0.1, which may be relayed to. `users` are fixed pairs, `{name: password}`, instead of the secret; `changes` are
   * options of the file that are to be others.
   */
  static async start({ users, changes = {} } = {}) {
    const first = await freePort(RELAY_PORTS + 1);
    const pairs = users && {
      'use-auth-secret': null,
      'lt-cred-mech': true,
      user: Object.entries(users).map((it) => it.join(':')),
    };
    const it = new Coturn({ address: '127.0.0.1', port: first });
    it.file = join(it.folder, 'turnserver.conf');
    const text = changed({
      'listening-ip': it.address,
      'relay-ip': it.address,
      'listening-port': it.port,
      'min-port': first + 1,
      'max-port': first + RELAY_PORTS,
      'allow-loopback-peers': true,
      // Among the denied ones it is still, and what is allowed counts more.
      'allowed-peer-ip': it.address,
      ...(pairs ?? { 'static-auth-secret': it.secret }),
      ...changes,
    });
    writeFileSync(it.file, text);
    return it.begin();
  }

  /** Starts one with the operators' file as it is, in a network of its own that has nothing but the addresses in it. */
  static async startAsShipped() {
    const { address, address6, port } = PUBLIC;
    // A relay that has an IPv6 address too, where the machine has any.
    const network = `
      ip link set lo up
      ip addr add ${address}/32 dev lo
      if ip addr add ${address6}/128 dev lo 2>/dev/null; then set -- "$@" --relay-ip=${address6}; fi
      exec "$@"`;
    const it = new Coturn({
      address,
      port,
      file: CONFIG,
      before: ['unshare', '--net', 'sh', '-ec', network, 'sh'],
      inside: (pid) => ['nsenter', `--net=/proc/${pid}/ns/net`],
    });
    it.args = [`--static-auth-secret=${it.secret}`];
    await it.begin();
    it.hasIpv6 = readFileSync(`/proc/${it.pid}/net/if_inet6`, 'utf8').includes('20010db8');
    return it;
  }

  /** What the service is given as TURN_SERVER_URL. */
  get url() {
    return `turn:${this.address}:${this.port}?transport=udp`;
  }

  /** The service's settings for it. */
  get env() {
    return { TURN_SERVER_URL: this.url, TURN_SECRET: this.secret };
  }

  /** Starts it, for the first time or again after `halt` or `crash`, on the same ports. */
  begin() {
    const own = [`--pidfile=${join(this.folder, 'pid')}`, `--userdb=${join(this.folder, 'turndb')}`];
    const [command, ...args] = [
      ...this.before,
      installed('turnserver', 'coturn'),
      ...['-c', this.file],
      ...own,
      ...this.args,
    ];
    // It says so in no log, and where its network is another one only the kernel can tell.
    const bound = new RegExp(`:${this.port.toString(16).toUpperCase().padStart(4, '0')} `);
    return this.launch(command, args, () => bound.test(this.#sockets()));
  }

  #sockets() {
    try {
      return readFileSync(`/proc/${this.pid}/net/udp`, 'utf8');
    } catch {
      // It has not begun, or has ended.
      return '';
    }
  }

  /**
   * Asks for a relay as a browser does, and for a way from there to `peer`, else to another relay: `{accepted, why}`. With `clients` as
   * many at once, `tcp` over TCP, `tls` over TLS on that port instead, `tcpRelay` a relay that speaks TCP itself, `ipv6` one with such an address, and with `carries` media has
   * to come through as well.
   */
  async allocates(options) {
    let verdict;
    // By chance it may have the port of one before, whose relay is still there.
    for (let tries = 0; tries < 5 && (verdict?.why ?? 'error 437').startsWith('error 437'); tries += 1) {
      verdict = await this.#allocates(options);
    }
    return verdict;
  }

  async #allocates({ username, credential, peer, clients = 1, tcp, tls, tcpRelay, ipv6, carries }) {
    const flags = [
      ...(peer ? ['-e', peer] : ['-y']),
      ...(tcp ? ['-t'] : []),
      ...(tls ? ['-t', '-S'] : []),
      ...(tcpRelay ? ['-T'] : []),
      ...(ipv6 ? ['-x'] : []),
      ...['-v', '-c', '-n', '1', '-m', String(clients), '-p', String(tls ?? this.port)],
      ...['-u', username, '-w', credential, this.address],
    ];
    const client = installed('turnutils_uclient', 'coturn');
    const [command, ...args] = [...this.inside(this.pid), client, ...flags];
    const child = spawn(command, args, { cwd: this.folder, stdio: ['ignore', 'pipe', 'pipe'] });
    const lines = [];
    let verdict;
    const settle = (accepted, why) => {
      verdict ??= { accepted, why };
      child.kill('SIGKILL');
    };
    const late = setTimeout(() => settle(false, 'no answer'), carries ? CARRY_MS_MAX : ANSWER_MS_MAX);
    const read = (line) => {
      lines.push(line);
      const refusal = /error \d+ \(.*\)|Cannot complete Allocation|Connection refused/.exec(line);
      if (refusal) settle(false, refusal[0]);
      else if (!carries && line.includes('Total connect time')) settle(true, 'connected');
      const [, sent, back] = /tot_send_msgs=(\d+), tot_recv_msgs=(\d+)$/.exec(line) ?? [];
      if (carries && sent) settle(sent === back, `${back} of ${sent} came back`);
    };
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on('line', read);
    }
    await new Promise((resolve) => child.once('close', resolve).once('error', resolve));
    clearTimeout(late);
    return verdict ?? { accepted: false, why: lines.slice(-3).join(' ') };
  }
}
