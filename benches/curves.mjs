// Costs that must not grow with what they do not touch: tokens, relay and whole calls among few and many live calls, and among few and many
// sockets; and how soon a service is there again that has many live calls in its journal. `make bench-curves`, or:
//   CALLS=10,1000,200000 SOCKETS=100,19000 SECONDS=3 TURNS=3 node benches/curves.mjs
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fastBinary, OUTPUT, startService } from '../tests/support/service.mjs';
import { circumstances, inLines } from './circumstances.mjs';
import { publish } from './readme.mjs';
import { call, LOAD, load, median, PRODUCTION, serverOf } from './load.mjs';

const list = (name, other) => (process.env[name] ?? other).split(',').map(Number);

const SECONDS = Number(process.env.SECONDS ?? 3);
const TURNS = Number(process.env.TURNS ?? 3);
/** Live calls beside those that are measured. */
const CALLS = list('CALLS', '10,1000,20000,200000');
/** Idle sockets beside those that are measured. */
const SOCKETS = list('SOCKETS', '100,1000,19000');
/** Live calls in the journal of a service that is started again. */
const RESTARTS = list('RESTARTS', '10,1000,50000');

const SETTINGS = { ...PRODUCTION, CALLS_MAX: '1000000', RINGING_TIMEOUT: '36000', ALONE_TIMEOUT: '36000' };

const note = (text) => process.stderr.write(`${text}\n`);

/** What is measured among all that is there. */
const PATHS = {
  'a token': async (on) => {
    const { id, people } = await call(on, 2);
    const requests = people.map((user) => ({ method: 'POST', path: `/api/v1/calls/${id}/token`, user }));
    return load(on, ['requests', '--seconds', SECONDS], requests);
  },
  'a life of a call': (on) => load(on, ['lives', '--seconds', SECONDS]),
  'a relayed candidate': (on) => load(on, ['relay', '--seconds', SECONDS]),
};

/** The middle of some turns for each path, microseconds. */
async function measured(on) {
  const found = {};
  for (const [name, measure] of Object.entries(PATHS)) {
    const turns = [];
    for (let turn = 0; turn < TURNS; turn += 1) turns.push((await measure(on)).cpuUs);
    found[name] = median(turns);
    note(`    ${name}: ${found[name].toFixed(1)} us`);
  }
  return found;
}

async function amongCalls(calls) {
  note(`  ${calls} live calls`);
  const service = await startService({ env: SETTINGS, program: fastBinary() });
  try {
    const on = serverOf(service);
    await load(on, ['fill', '--calls', calls]);
    return await measured(on);
  } finally {
    await service.stop();
  }
}

async function amongSockets(sockets) {
  note(`  ${sockets} idle sockets`);
  const service = await startService({ env: { ...SETTINGS, SOCKETS_MAX: '25000' }, program: fastBinary() });
  const on = serverOf(service);
  const args = ['idle', '--address', on.address, '--pid', on.pid, '--secret', on.secret];
  const idle = spawn(LOAD, [...args, '--sockets', sockets, '--stay'].map(String), {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  try {
    const [said] = await once(idle.stdout, 'data');
    const { kib } = JSON.parse(said);
    note(`    ${kib.toFixed(2)} KiB each`);
    return { ...(await measured(on)), kib };
  } finally {
    idle.kill();
    await service.stop();
  }
}

/** Seconds until a service that was killed takes requests again. */
async function restart(calls) {
  note(`  started again with ${calls} live calls`);
  const dataDir = mkdtempSync(join(tmpdir(), 'call-service-'));
  const start = () => startService({ env: SETTINGS, dataDir, program: fastBinary() });
  try {
    const before = await start();
    await load(serverOf(before), ['fill', '--calls', calls]);
    await before.crash();
    const took = [];
    for (let turn = 0; turn < TURNS; turn += 1) {
      const begun = performance.now();
      const again = await start();
      took.push((performance.now() - begun) / 1000);
      const known = await (await fetch(`${again.url}/monitoring/metrics`)).json();
      if (known.calls.active !== calls)
        throw new Error(`${known.calls.active} calls of ${calls} are there again`);
      await again.crash();
    }
    note(`    ${median(took).toFixed(2)} s`);
    return median(took);
  } finally {
    rmSync(dataDir, { recursive: true, force: true });
  }
}

async function series(counts, measure) {
  const found = [];
  for (const count of counts) found.push([count, await measure(count)]);
  return found;
}

/** One line for each path: its cost at each count, and how many times that at the least. */
function table(what, found) {
  const head = `| us of processor time, ${what} | ${found.map(([count]) => count.toLocaleString('en')).join(' | ')} |`;
  const rows = Object.keys(PATHS).map((path) => {
    const [[, least]] = found;
    const cells = found.map(([, it]) => `${it[path].toFixed(1)} (${(it[path] / least[path]).toFixed(2)})`);
    return `| ${path} | ${cells.join(' | ')} |`;
  });
  return [head, `| --- |${' --- |'.repeat(found.length)}`, ...rows].join('\n');
}

const where = circumstances({ SECONDS, TURNS });
const calls = await series(CALLS, amongCalls);
const sockets = await series(SOCKETS, amongSockets);
const restarts = await series(RESTARTS, restart);
// Of fewer it is less than what the process takes and gives back otherwise.
const many = sockets.filter(([count]) => count >= 1000);
const tables = [
  table('with so many live calls', calls),
  table('with so many idle sockets', sockets),
  `KiB of an idle socket: ${many.map(([count, { kib }]) => `${kib.toFixed(2)} of ${count.toLocaleString('en')}`).join(', ')}.`,
  `Seconds until a service that was killed takes requests again: ${restarts.map(([count, s]) => `${s.toFixed(2)} with ${count.toLocaleString('en')} live calls`).join(', ')}.`,
].join('\n\n');
console.log(`${inLines(where)}\n\n${tables}`);
// A part of it says nothing to who reads of the whole.
if (!['CALLS', 'SOCKETS', 'RESTARTS'].some((it) => process.env[it])) publish('bench-curves', where, [tables]);
mkdirSync(OUTPUT, { recursive: true });
writeFileSync(
  join(OUTPUT, 'bench-curves.json'),
  JSON.stringify({ ...where, calls, sockets, restarts }, null, 2),
);
