// Instructions that an operation takes in the whole program, counted by callgrind: they repeat, whatever else the machine does, so that
// a change which makes a hot path dearer is seen in CI. `make instructions`; after a change that is worth its price:
//   node benches/instructions.mjs --keep     what is counted becomes the budget
// What the kernel does for the program is not in them.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LiveKit } from '../tests/support/livekit.mjs';
import { fastBinary, ROOT, startService } from '../tests/support/service.mjs';
import { connected, request, user, within } from './cluster/clients.mjs';
import { median, PRODUCTION } from './load.mjs';

/** What an operation may take, by its name. */
const BUDGET = join(ROOT, 'benches/instructions.json');
/** The share by which a count may be above its budget. */
const MORE_MAX = 0.05;
/** Operations of one count: what goes on anyway is a thousandth of them. */
const OPERATIONS = 2000;
/** Counts of each: the middle one is told. */
const TURNS = 3;
/** How long so many may take under callgrind, milliseconds. */
const TURN_MS_MAX = 120_000;

/** Pipes to a program in callgrind are named by the host and the user of its environment, and it has no user. */
const ADDRESSED = { PATH: process.env.PATH, HOST: '127.0.0.1' };

/** One after the other, as what waits together is done together: `step` so often. */
async function often(step) {
  for (let done = 0; done < OPERATIONS; done += 1) await step();
}

function asked(line, bytes) {
  return () => often(() => line.ask(bytes));
}

/** A message from `a` to `b`, and its arrival. */
function relayed({ a, b, id }, bytes) {
  const text = (filled) =>
    JSON.stringify([
      'webrtc:ice_candidate',
      {
        callId: id,
        targetUserId: b.id,
        candidate: { candidate: `candidate:1 1 udp 1 ${filled}`, sdpMid: '0', sdpMLineIndex: 0 },
      },
    ]);
  const message = text('x'.repeat(bytes - text('').length));
  let arrived;
  b.socket.hear = (event) => event.startsWith('["webrtc:') && arrived();
  return () =>
    often(() => {
      const heard = new Promise((resolve) => (arrived = resolve));
      a.socket.tell(message);
      return heard;
    });
}

/** What is counted, each on two people in a call of theirs. */
const PATHS = {
  'a token': ({ a, id }) => asked(a.line, request('POST', `/${id}/token`, a.token)),
  'a look at a call': ({ a, id }) => asked(a.line, request('GET', `/${id}`, a.token)),
  'a toggle': ({ a, id }) => {
    const on = request('PATCH', `/${id}/participant`, a.token, { audioEnabled: true });
    const off = request('PATCH', `/${id}/participant`, a.token, { audioEnabled: false });
    let turn = 0;
    return () => often(() => a.line.ask((turn += 1) % 2 ? on : off));
  },
  'a relayed candidate (330 B)': (pair) => relayed(pair, 330),
  'a relayed offer (4 KB)': (pair) => relayed(pair, 4096),
};

/** A service in callgrind, which says what it has executed. */
class Counted {
  #dumps = 0;

  static async start(env) {
    const it = new Counted();
    it.folder = mkdtempSync(join(tmpdir(), 'instructions-'));
    const callgrind = ['--tool=callgrind', `--callgrind-out-file=${join(it.folder, 'out')}`];
    it.service = await startService({
      env: { ...PRODUCTION, ...env },
      program: fastBinary(),
      inside: ['valgrind', '-q', ...callgrind],
    });
    return it;
  }

  #control(what) {
    execFileSync('vgdb', [`--pid=${this.service.pid}`, what], { stdio: 'ignore', env: ADDRESSED });
  }

  /** Instructions of all threads while `work` is done. */
  async during(work) {
    this.#control('zero');
    await within('what is counted', work(), TURN_MS_MAX);
    this.#control('dump');
    this.#dumps += 1;
    const file = join(this.folder, `out.${this.#dumps}`);
    const [, total] = /^totals: (\d+)/m.exec(readFileSync(file, 'latin1'));
    return Number(total);
  }

  async stop() {
    await this.service.stop();
    rmSync(this.folder, { recursive: true });
  }
}

async function counted(livekit) {
  const on = await Counted.start(livekit.env);
  const counts = {};
  try {
    for (const [name, path] of Object.entries(PATHS)) {
      const [a, b] = await Promise.all([1, 2].map(() => user(on.service, { listens: true })));
      const work = path({ a, b, id: await connected(a, b) });
      await work();
      const turns = [];
      for (let turn = 0; turn < TURNS; turn += 1) turns.push((await on.during(work)) / OPERATIONS);
      counts[name] = Math.round(median(turns));
      process.stderr.write(`  ${name}: ${turns.map(Math.round).join(', ')}\n`);
      for (const it of [a, b]) it.close();
    }
  } finally {
    await on.stop();
  }
  return counts;
}

const livekit = await LiveKit.start();
const counts = await counted(livekit).finally(() => livekit.stop());
if (process.argv.includes('--keep')) {
  writeFileSync(BUDGET, `${JSON.stringify(counts, null, 2)}\n`);
} else {
  const budgets = JSON.parse(readFileSync(BUDGET, 'utf8'));
  const rows = Object.entries(counts).map(([name, count]) => ({
    name,
    count,
    budget: budgets[name],
    share: count / budgets[name] - 1,
  }));
  for (const { name, count, budget, share } of rows) {
    const percent = `${share < 0 ? '' : '+'}${(100 * share).toFixed(1)} %`;
    console.log(`${name}: ${count} instructions, ${percent} of ${budget}`);
  }
  const dear = rows.filter(({ share }) => !(share <= MORE_MAX));
  for (const { name } of dear) console.error(`${name} takes more than it may: see ${BUDGET}`);
  process.exitCode = dear.length > 0 ? 1 : 0;
}
