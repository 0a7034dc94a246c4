// What a letter to another node and one back cost without anything of calls, by `examples/bus_trips.rs`.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fastBinary } from '../../tests/support/service.mjs';
import { costing, processorUs } from './cost.mjs';

/** How long it may take to begin and to end beside what is measured, milliseconds. */
const EXTRA_MS_MAX = 10_000;

/** Beside the program itself, where it has been built. */
function program() {
  const found = process.env.BUS_TRIPS_BIN ?? join(dirname(fastBinary()), 'examples/bus_trips');
  return existsSync(found) ? found : undefined;
}

/** So many on their way at once: what it says of that, and what both of its nodes have spent on each. */
async function trips(url, window, seconds) {
  const args = ['--url', url, '--window', `${window}`, '--seconds', `${seconds}`];
  const child = spawn(program(), args, {
    stdio: ['pipe', 'pipe', 'inherit'],
    timeout: seconds * 1000 + EXTRA_MS_MAX,
    killSignal: 'SIGKILL',
  });
  const end = () => child.kill('SIGKILL');
  process.once('exit', end);
  const said = [];
  for await (const line of createInterface({ input: child.stdout })) {
    // It waits for its input to end, so that it can be asked what it has spent.
    said.push({ ...JSON.parse(line), us: processorUs([child.pid]) });
    if (said.length === 2) child.stdin.end();
  }
  process.off('exit', end);
  const [before, after] = said;
  if (!after || after.lost > 0 || !before.isWell) throw new Error(`the bus: ${JSON.stringify(said)}`);
  const { count, p50, p99, us } = after;
  return { count, p50: p50 / 1000, p99: p99 / 1000, bothUs: (us - before.us) / count };
}

/** Where that program was built. */
export async function bus(cluster, idle, { window, seconds }) {
  if (!program()) return undefined;
  const { url } = cluster.redis;
  const cost = async (size) => {
    const it = await costing(cluster, idle, () => trips(url, size, seconds));
    return { ...it, rate: it.count / seconds };
  };
  return { alone: await cost(1), many: await cost(window) };
}
