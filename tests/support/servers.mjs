// What the real servers that tests start have in common: each gets free ports of this machine and a folder of its own, logs to
// `OUTPUT`, and is stopped by its own pid.
import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { OUTPUT, ROOT } from './service.mjs';

/** How long a server may take to start, milliseconds. */
const START_MS_MAX = 20_000;
/** How long it may take to stop before it is killed, milliseconds. */
const STOP_MS_MAX = 10_000;
/** Below the ports that connections get: what a stopped server gave back is not taken before it starts again. */
const PORTS = { from: 20_000, to: 32_000 };

const running = new Set();
process.on('exit', () => {
  for (const server of running) server.abandon();
});

let started = 0;

/** A program that `make setup` built from its source: which version it is stands in the Makefile. */
export function built(name) {
  const path = join(ROOT, '.cache', name, 'server');
  if (!existsSync(path)) throw new Error(`${name} is missing: make ${name}`);
  return path;
}

/** A program of this machine; `target` installs it. */
export function installed(name, target) {
  const found = (process.env.PATH ?? '')
    .split(delimiter)
    .map((it) => join(it, name))
    .find(existsSync);
  if (!found) throw new Error(`${name} is missing: make ${target}`);
  return found;
}

const taken = new Set();

function isFree(port) {
  const listens = (server, begin) =>
    new Promise((resolve) => {
      server.once('error', () => resolve(false));
      begin(() => server.close(() => resolve(true)));
    });
  const tcp = createServer();
  const udp = createSocket('udp4');
  return Promise.all([
    listens(tcp, (then) => tcp.listen(port, then)),
    listens(udp, (then) => udp.bind(port, then)),
  ]).then((all) => all.every(Boolean));
}

/** A port that is free for TCP and UDP, `count` of them in a row: the first. */
export async function freePort(count = 1) {
  for (;;) {
    const first = PORTS.from + Math.floor(Math.random() * (PORTS.to - PORTS.from - count));
    const all = Array.from({ length: count }, (_, index) => first + index);
    if (all.some((it) => taken.has(it))) continue;
    const free = await Promise.all(all.map(isFree));
    if (!free.every(Boolean)) continue;
    for (const port of all) taken.add(port);
    return first;
  }
}

/** One server: what it is started with is up to those who extend this. */
export class Server {
  #child;
  #ended;
  #begins = 0;

  /** The signals that ask it to end. */
  endings = ['SIGTERM'];

  /** `name` is for its folder and its log. */
  constructor(name) {
    started += 1;
    this.name = name;
    this.folder = mkdtempSync(join(tmpdir(), `call-${name}-`));
    mkdirSync(OUTPUT, { recursive: true });
    this.logFile = join(OUTPUT, `${name}-${process.pid}-${started}.log`);
  }

  get pid() {
    return this.#child.pid;
  }

  /** What it has logged since it was last started. */
  get log() {
    return readFileSync(this.logFile).subarray(this.#begins).toString();
  }

  /** Runs it, and waits until `isReady` gives true. */
  async launch(command, args, isReady) {
    const log = openSync(this.logFile, 'a');
    this.#begins = statSync(this.logFile).size;
    const child = spawn(command, args, {
      cwd: this.folder,
      env: { PATH: process.env.PATH, HOME: this.folder },
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    this.#child = child;
    running.add(this);
    // A test that failed before it stopped its server must not wait for it: the server is killed at the exit.
    child.unref();
    this.#ended = new Promise((resolve) => {
      child.once('error', (error) => resolve(error.message));
      child.once('close', (code, signal) => resolve(signal ?? code));
    });
    let end;
    this.#ended.then((how) => {
      end = `ended (${how})`;
      running.delete(this);
    });
    const until = Date.now() + START_MS_MAX;
    while (!(await isReady())) {
      if (Date.now() > until) end ??= 'does not start';
      if (end) {
        this.abandon();
        throw new Error(`${this.name} ${end}: ${this.log.split('\n').slice(-6).join('\n')}`);
      }
      await pause(25);
    }
    return this;
  }

  get isRunning() {
    return running.has(this);
  }

  /** Ends it without waiting for that. */
  abandon() {
    this.#child.kill('SIGKILL');
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Holds it: connections stay open and nothing answers. */
  freeze() {
    this.#child.kill('SIGSTOP');
  }

  thaw() {
    this.#child.kill('SIGCONT');
  }

  /** Ends it at once, as a power failure would. */
  async crash() {
    if (!this.isRunning) return;
    this.#child.ref();
    this.#child.kill('SIGKILL');
    await this.#ended;
  }

  /** Asks it to end, and waits until it has: only then are its ports free. */
  async halt() {
    if (!this.isRunning) return;
    this.#child.ref();
    for (const signal of this.endings) this.#child.kill(signal);
    // A held one hears of the end only when it goes on.
    this.thaw();
    const late = setTimeout(() => this.#child.kill('SIGKILL'), STOP_MS_MAX);
    await this.#ended;
    clearTimeout(late);
  }

  /** Ends it for good, and removes its folder. */
  async stop() {
    await this.halt();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
