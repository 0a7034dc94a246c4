// Starts the real program on free ports of this machine, with a data folder of its own, and stops it by its own pid.
// Needs nothing but Node, so that the browser tests can start the program too.
import { spawn } from 'node:child_process';
import { createWriteStream, existsSync, mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** Where logs of the program and other output of tests go. */
export const OUTPUT = process.env.OUTPUT ?? join(ROOT, 'tests/output');

/** The secret that checks the tests' tokens. */
export const SECRET = 'a secret that only the tests of this service know';

/** How long the program may take to start, milliseconds: a cold disk and two busy cores. */
const START_MS_MAX = 20_000;
/** How long it may take to stop before it is killed, milliseconds. */
const STOP_MS_MAX = 30_000;

const DEFAULTS = {
  HOST: '127.0.0.1',
  PORT: '0',
  METRICS_PORT: 'off',
  JWT_SECRET: SECRET,
  RATE_LIMITS: 'off',
  LOG_LEVEL: 'debug',
};

const build = (kind) => join(process.env.CARGO_TARGET_DIR ?? join(ROOT, 'target'), kind, 'call-service');

/** The program that is tested: `CALL_SERVICE_BIN`, else the first of these builds that is there. */
export function binary(kinds = ['debug', 'release']) {
  const found = [process.env.CALL_SERVICE_BIN, ...kinds.map(build)].find((it) => it && existsSync(it));
  if (!found) throw new Error(`no program to test: build it first (cargo build), or set CALL_SERVICE_BIN`);
  return found;
}

const running = new Set();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});
// Told to stop, it goes by that same door.
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));

let started = 0;

/** The environment of a program that is tested: nothing of ours leaks into it. A value of `null` unsets a default. */
function environment(env) {
  const all = { PATH: process.env.PATH, ...DEFAULTS, ...env };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== null && value !== undefined));
}

/** Runs the program to its end: for start-up errors, `--help` and the like. */
export async function runToEnd({ args = [], env = {}, dataDir } = {}) {
  const folder = dataDir ?? mkdtempSync(join(tmpdir(), 'call-service-'));
  const child = spawn(binary(), args, {
    env: environment({ DATA_DIR: folder, ...env }),
    cwd: folder,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.add(child);
  const out = { stdout: '', stderr: '' };
  child.stdout.on('data', (it) => (out.stdout += it));
  child.stderr.on('data', (it) => (out.stderr += it));
  const late = setTimeout(() => child.kill('SIGKILL'), START_MS_MAX);
  const [code, signal] = await once(child, 'close');
  clearTimeout(late);
  running.delete(child);
  if (!dataDir) rmSync(folder, { recursive: true, force: true });
  return { code, signal, ...out };
}

/** One running program. */
export class Service {
  /** Variables by the address they made it listen on: `{PORT: '127.0.0.1:41234'}`. */
  addresses = {};
  /** The program's log lines, the last thousand. */
  lines = [];
  #child;
  #ended;
  #ownsData;

  /** Use `startService`. */
  constructor(child, dataDir, ownsData) {
    this.#child = child;
    this.dataDir = dataDir;
    this.#ownsData = ownsData;
    this.#ended = once(child, 'close').then(([code, signal]) => {
      running.delete(child);
      return { code, signal };
    });
  }

  get pid() {
    return this.#child.pid;
  }

  /** The address of REST, console and Socket.IO. */
  get url() {
    return `http://${this.addresses.PORT}`;
  }

  /** The address that another setting opened, such as WS_PORT or METRICS_PORT. */
  urlOf(variable) {
    return `http://${this.addresses[variable]}`;
  }

  /** Reads the log, and has it heard line by line; settles once what these settings ask for is listened on. */
  listen(log, hear, settings) {
    const others = ['WS_PORT', 'METRICS_PORT'].filter((it) => settings[it] && settings[it] !== 'off');
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error('the program did not start in time')), START_MS_MAX);
      createInterface({ input: this.#child.stderr }).on('line', (line) => {
        log.write(`${line}\n`);
        hear?.(line);
        this.lines.push(line);
        if (this.lines.length > 1000) this.lines.shift();
        if (!line.includes('"listening"')) return;
        const said = JSON.parse(line);
        this.addresses[said.variable] = said.address;
        if (['PORT', ...others].every((it) => it in this.addresses)) resolve(clearTimeout(late));
      });
      this.#ended.then(({ code, signal }) => {
        clearTimeout(late);
        reject(new Error(`the program ended (${signal ?? code}): ${this.lines.slice(-3).join('\n')}`));
      });
    });
  }

  /** Settles when the program has ended, by whatever and however late, with its exit code or signal. */
  get gone() {
    return this.#ended;
  }

  /** Settles when the program has ended, with its exit code or signal; one that was told to and does not is killed. */
  async ended() {
    const late = setTimeout(() => this.#child.kill('SIGKILL'), STOP_MS_MAX);
    const how = await this.#ended;
    clearTimeout(late);
    return how;
  }

  /** Sends a signal, without waiting for what comes of it. */
  signal(name) {
    this.#child.kill(name);
  }

  /** Ends it at once, as a power failure would; the data stays. */
  async crash() {
    this.#child.kill('SIGKILL');
    return this.ended();
  }

  /** Asks it to stop, kills it where it does not; removes the data folder where it is the program's own. */
  async stop() {
    this.#child.kill('SIGTERM');
    const how = await this.ended();
    if (this.#ownsData) rmSync(this.dataDir, { recursive: true, force: true });
    return how;
  }
}

async function healthy(url) {
  const until = Date.now() + START_MS_MAX;
  for (;;) {
    const answer = await fetch(`${url}/health`).catch(() => undefined);
    if (answer?.ok) return;
    if (Date.now() > until) throw new Error(`${url}/health does not answer`);
    await pause(20);
  }
}

/** The fast build, for tests under load, unless the other one is newer. */
export function fastBinary() {
  const age = (kind) => statSync(build(kind), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  return binary(age('release') >= age('debug') ? ['release', 'debug'] : ['debug', 'release']);
}

/**
 * Starts the program and waits until it answers. `env` are settings beyond the tests' own, `dataDir` a folder that outlives
 * it, `args` the command line, `inside` the words before it that put it into another network. Its log is kept under `OUTPUT`; `hear`
 * is given each line.
 */
export async function startService({
  env = {},
  dataDir,
  args = [],
  inside = [],
  program = binary(),
  hear,
} = {}) {
  const folder = dataDir ?? mkdtempSync(join(tmpdir(), 'call-service-'));
  mkdirSync(OUTPUT, { recursive: true });
  started += 1;
  const log = createWriteStream(join(OUTPUT, `service-${process.pid}-${started}.log`));
  const [command, ...words] = [...inside, program, ...args];
  const settings = environment({ DATA_DIR: folder, ...env });
  const child = spawn(command, words, {
    env: settings,
    cwd: folder,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  running.add(child);
  // A test that failed before it stopped its program must not wait for it: the program is killed at the exit.
  child.unref();
  child.stderr.unref();
  const service = new Service(child, folder, dataDir === undefined);
  await service.listen(log, hear, settings);
  await healthy(service.url);
  return service;
}
