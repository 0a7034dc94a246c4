// Runs the k6 scripts against services of its own, the smallest deployment and a whole one, and prints a table. `make loadtest`, or:
//   node loadtest/run.mjs [SCRIPT ...]     only scripts whose names contain one of the words; SECONDS, RATE, SOAK as the scripts say
//   BASE_URL=https://calls.example JWT_SECRET=... k6 run loadtest/life.js     against a service of one's own
// Everything runs on one machine, k6 too, which takes more of it than the service does: what a service can do shows in `make bench`.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { circumstances, inLines } from '../benches/circumstances.mjs';
import { Cluster } from '../tests/support/cluster.mjs';
import { LiveKit } from '../tests/support/livekit.mjs';
import { fastBinary, OUTPUT, ROOT, SECRET, startService } from '../tests/support/service.mjs';

const K6 = process.env.K6 ?? 'k6';
const SETTINGS = {
  LOG_LEVEL: 'info',
  METRICS_PORT: '0',
  // All clients are at one address.
  RATE_LIMITS: 'off',
  STUN_SERVER_URL: 'stun:stun.example:3478',
};

/** Each script: what it counts as one operation, and the time that matters most in it. */
const SCRIPTS = [
  { name: 'smoke', of: 'iterations' },
  { name: 'token', of: 'iterations', time: 'http_req_duration{name:token}' },
  { name: 'life', of: 'iterations', time: 'rings_ms' },
  { name: 'relay', of: 'messages', time: 'relayed_ms' },
  { name: 'reconnect', of: 'back_ms', time: 'back_ms' },
  { name: 'soak', of: 'rings_ms', time: 'rings_ms' },
  { name: 'spike', of: 'iterations', time: 'http_req_duration{name:start}' },
];

const note = (text) => process.stderr.write(`${text}\n`);

/** The embedded default: one process and its file. */
async function embedded() {
  const service = await startService({ env: SETTINGS, program: fastBinary() });
  return { service, close: () => service.stop() };
}

/** One node with Postgres, Redis Cluster and LiveKit. */
async function whole() {
  const livekit = await LiveKit.start();
  try {
    const cluster = await Cluster.open({ nodes: 1, env: { ...SETTINGS, ...livekit.env } });
    const close = async () => {
      await cluster.close();
      await livekit.stop();
    };
    return { service: cluster.nodes[0].service, close };
  } catch (error) {
    await livekit.stop();
    throw error;
  }
}

const DEPLOYMENTS = [
  ['SQLite alone', embedded],
  ['Postgres, Redis Cluster, LiveKit', whole],
];

const TICK_US = 10_000;

/** Processor time that the service has taken, microseconds, and its memory, MiB. */
function taken(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ');
  const kib = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1];
  return { us: (Number(fields[11]) + Number(fields[12])) * TICK_US, mib: Number(kib) / 1024 };
}

/** Runs one script: k6's figures, and what the service took meanwhile. */
async function run({ name }, { url, pid }) {
  const summary = join(OUTPUT, `k6-${name}.json`);
  rmSync(summary, { force: true });
  const env = { BASE_URL: url, JWT_SECRET: SECRET, SUMMARY: summary };
  const set = Object.entries(env).flatMap(([key, value]) => ['-e', `${key}=${value}`]);
  const before = taken(pid);
  const begun = Date.now();
  const args = [
    'run',
    '--quiet',
    '--no-color',
    '--no-usage-report',
    ...set,
    join(ROOT, `loadtest/${name}.js`),
  ];
  const child = spawn(K6, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.on('data', (it) => (said += it));
  const [code] = await once(child, 'close');
  const after = taken(pid);
  // 99: a threshold does not hold, which the table says.
  if (code !== 0 && code !== 99) throw new Error(`${name}: k6 ended with ${code}\n${said.slice(-4000)}`);
  if (code === 99) note(said.slice(-2000));
  const metrics = JSON.parse(readFileSync(summary, 'utf8'));
  return {
    metrics,
    seconds: (Date.now() - begun) / 1000,
    us: after.us - before.us,
    mib: [before.mib, after.mib],
  };
}

const round = (number) => Math.round(number).toLocaleString('en');

/** What does not hold of a script's thresholds. */
const broken = ({ metrics }) =>
  Object.entries(metrics).flatMap(([name, { limits }]) =>
    limits.filter((it) => !it.ok).map(({ limit }) => `${name} ${limit}`),
  );

function row({ name, of, time }, found) {
  const { metrics, seconds, us, mib } = found;
  const count = metrics[of].values.count;
  const times = metrics[time]?.values;
  const shown = times ? ['med', 'p(95)', 'p(99)'].map((it) => times[it].toFixed(1)).join(' / ') : '';
  const verdict = broken(found).join(', ') || 'all hold';
  return `| ${name} | ${round(count)} | ${round(count / seconds)} | ${shown} | ${round(us / count)} | ${mib.map(round).join(', ')} | ${verdict} |`;
}

const asked = process.argv.slice(2);
const chosen = SCRIPTS.filter(({ name }) => asked.length === 0 || asked.some((it) => name.includes(it)));
mkdirSync(OUTPUT, { recursive: true });
const where = circumstances({});
const lines = [inLines(where)];
const figures = {};
let failed = 0;
for (const [deployment, begin] of DEPLOYMENTS) {
  const { service, close } = await begin();
  lines.push('', deployment, '');
  lines.push(
    '| script | operations | a second | p50 / p95 / p99, ms | us of processor time each | MiB before, after | thresholds |',
  );
  lines.push('| --- | --- | --- | --- | --- | --- | --- |');
  try {
    for (const script of chosen) {
      note(`${deployment}: ${script.name}`);
      const found = await run(script, service);
      failed += broken(found).length;
      (figures[deployment] ??= {})[script.name] = found;
      lines.push(row(script, found));
    }
  } finally {
    await close();
  }
}
console.log(lines.join('\n'));
writeFileSync(join(OUTPUT, 'loadtest.json'), JSON.stringify({ ...where, figures }, null, 2));
process.exitCode = failed === 0 ? 0 : 1;
