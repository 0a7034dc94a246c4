// A real Postgres of one's own: made with initdb in a temporary folder, on a free port of this machine, stopped by its own pid.
import { execFile, execFileSync, spawn } from 'node:child_process';
import { chownSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { freePort } from './servers.mjs';
import { eventually } from './world.mjs';

const run = promisify(execFile);
const DEBIAN = '/usr/lib/postgresql';
/** How long a server may take to start, milliseconds. */
const START_MS_MAX = 20_000;
/** How long a statement may take unless it is said, milliseconds. */
const STATEMENT_MS_MAX = 10_000;
/** The most that a statement may answer: some 100,000 rows. */
const ANSWER_BYTES_MAX = 16 * 1024 * 1024;

/** Waits until the service has removed calls that are over from its local file, as they are in Postgres. */
export const trimmed = (world) =>
  eventually('the local file is trimmed', () =>
    world.service.lines.some((it) => it.includes('have left the local file')),
  );

/** Where Postgres' own programs are: Debian keeps them out of the way. */
function programs() {
  const versions = existsSync(DEBIAN) ? readdirSync(DEBIAN).sort((a, b) => Number(b) - Number(a)) : [];
  const found = versions.map((it) => join(DEBIAN, it, 'bin')).find((it) => existsSync(join(it, 'initdb')));
  return found ? (name) => join(found, name) : (name) => name;
}

const program = programs();
/** Postgres refuses to run as root: then it runs as the user that its package made. */
const user = process.getuid() === 0 ? 'postgres' : undefined;
const asUser = (command, args) =>
  user
    ? ['setpriv', ['--reuid', user, '--regid', user, '--clear-groups', command, ...args]]
    : [command, args];

const running = new Set();
process.on('exit', () => {
  for (const child of running) {
    // One that was stopped with SIGSTOP does not hear of anything else first.
    child.kill('SIGKILL');
  }
});

/** A folder for a server's data, its user's own. */
function ownFolder() {
  const folder = mkdtempSync(join(tmpdir(), 'call-postgres-'));
  if (user) {
    const id = (flag) => Number(execFileSync('id', [flag, user]));
    chownSync(folder, id('-u'), id('-g'));
  }
  return folder;
}

/** A server with one empty database, `calls`. */
export class Postgres {
  #child;

  constructor(folder, port, settings) {
    this.folder = folder;
    this.port = port;
    this.settings = settings;
  }

  static async create(settings = {}) {
    const it = new Postgres(ownFolder(), await freePort(), settings);
    const init = [
      '-D',
      join(it.folder, 'data'),
      '-U',
      'calls',
      '-A',
      'trust',
      '-E',
      'UTF8',
      '--no-sync',
      '--no-instructions',
    ];
    await run(...asUser(program('initdb'), init), { cwd: it.folder });
    await it.start();
    await it.sql('CREATE DATABASE calls', 'postgres');
    return it;
  }

  /** A standby of this one, by streaming replication: what is here is there a moment later. */
  async standby() {
    const it = new Postgres(ownFolder(), await freePort(), this.settings);
    const from = ['-h', '127.0.0.1', '-p', `${this.port}`, '-U', 'calls'];
    const copy = ['-D', join(it.folder, 'data'), '-R', '-X', 'stream', '-c', 'fast', '--no-sync'];
    await run(...asUser(program('pg_basebackup'), [...from, ...copy]), { cwd: it.folder });
    await it.start();
    return it;
  }

  /** Whether this standby has all that `primary` has committed. */
  async hasAllOf(primary, database) {
    const at = await primary.one('SELECT pg_current_wal_lsn()', database);
    return (await this.one(`SELECT pg_last_wal_replay_lsn() >= '${at}'`, database)) === 't';
  }

  get url() {
    return this.urlOf('calls');
  }

  urlOf(database, query = '') {
    return `postgresql://calls@127.0.0.1:${this.port}/${database}${query}`;
  }

  /** Another database, empty: its name. */
  async database(name) {
    await this.sql(`CREATE DATABASE ${name}`, 'postgres');
    return name;
  }

  async start() {
    const set = {
      listen_addresses: '127.0.0.1',
      port: this.port,
      unix_socket_directories: this.folder,
      ...this.settings,
    };
    const args = Object.entries(set).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
    this.#child = spawn(...asUser(program('postgres'), ['-D', join(this.folder, 'data'), ...args]), {
      cwd: this.folder,
      stdio: 'ignore',
    });
    const child = this.#child;
    running.add(child);
    child.once('close', () => running.delete(child));
    child.unref();
    const until = Date.now() + START_MS_MAX;
    while (!(await this.sql('SELECT 1', 'postgres').catch(() => undefined))) {
      if (Date.now() > until) throw new Error('Postgres does not start');
      await pause(50);
    }
  }

  /** Its whole family: a stopped postmaster alone leaves the sessions at work. */
  pids() {
    const all = readdirSync('/proc').filter((it) => /^\d+$/.test(it));
    const parent = (pid) => {
      try {
        return Number(/^PPid:\t(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
      } catch {
        return 0;
      }
    };
    return [this.#child.pid, ...all.map(Number).filter((it) => parent(it) === this.#child.pid)];
  }

  /** Holds it: connections stay open and nothing answers. */
  hang() {
    this.hung = this.pids();
    for (const pid of this.hung) process.kill(pid, 'SIGSTOP');
  }

  resume() {
    for (const pid of this.hung) {
      try {
        process.kill(pid, 'SIGCONT');
      } catch {
        // A session that has ended meanwhile.
      }
    }
  }

  /** Stops it as a crash would (`immediate`): what was committed is found in its log. */
  async crash() {
    this.#child.ref();
    const gone = once(this.#child, 'close');
    this.#child.kill('SIGQUIT');
    await gone;
  }

  async stop() {
    if (running.has(this.#child)) await this.crash();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Runs one statement: its rows, each an array of texts. */
  async sql(statement, database = 'calls', { within = STATEMENT_MS_MAX } = {}) {
    const args = [
      '-X',
      '-q',
      '-A',
      '-t',
      '-F',
      '\t',
      '-v',
      'ON_ERROR_STOP=1',
      '-U',
      'calls',
      '-h',
      '127.0.0.1',
      '-p',
      `${this.port}`,
    ];
    const { stdout } = await run(program('psql'), [...args, '-d', database, '-c', statement], {
      timeout: within,
      maxBuffer: ANSWER_BYTES_MAX,
    });
    return stdout
      .split('\n')
      .filter((it) => it !== '')
      .map((it) => it.split('\t'));
  }

  /** The one value of the one row of a statement. */
  async one(statement, database) {
    return (await this.sql(statement, database))[0]?.[0];
  }
}

/** A relay before a server that can lose what the server answers, and with it whether a COMMIT was carried out. */
export class Relay {
  #server;

  #pairs = new Set();

  /** Called with each chunk on its way to the server; where it gives true, the answer is lost and the connection cut. */
  cut = () => false;

  static async to(port) {
    const it = new Relay();
    it.#server = createServer((client) => it.#join(client, connect(port, '127.0.0.1')));
    await new Promise((resolve) => it.#server.listen(0, '127.0.0.1', resolve));
    it.port = it.#server.address().port;
    return it;
  }

  get url() {
    return `postgresql://calls@127.0.0.1:${this.port}/calls?sslmode=disable`;
  }

  #join(client, server) {
    let lost = false;
    const pair = [client, server];
    this.#pairs.add(pair);
    const end = () => {
      for (const side of pair) side.destroy();
      this.#pairs.delete(pair);
    };
    for (const side of pair) side.on('error', end).on('close', end);
    client.on('data', (data) => {
      lost ||= this.cut(data);
      server.write(data);
    });
    server.on('data', (data) => (lost ? client.destroy() : client.write(data)));
  }

  close() {
    for (const pair of this.#pairs) for (const side of pair) side.destroy();
    return new Promise((resolve) => this.#server.close(resolve));
  }
}
