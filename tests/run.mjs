// Runs every suite and adds up what they say. The last line is the sum: `N passed, N failed`. First those that need the machine for
// themselves, one after the other; then lanes beside each other, which show what a suite printed when it is over.
//   node tests/run.mjs [NAME ...]    only suites whose names contain one of the words
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join, relative } from 'node:path';
import { Coturn } from './support/coturn.mjs';
import { LiveKit } from './support/livekit.mjs';
import { freePort } from './support/servers.mjs';
import { OUTPUT, ROOT, startService } from './support/service.mjs';

const TARGET = process.env.CARGO_TARGET_DIR ?? join(ROOT, 'target');
/** How long one suite may take, milliseconds. A cold build comes before the suites. */
const SUITE_MS_MAX = 20 * 60_000;
/** How long one file of tests may take, milliseconds. */
const TEST_MS_MAX = 5 * 60_000;
/** How many lines of a failure are told again at the end. */
const FAILURE_LINES_MAX = 40;

const sum = (text, pattern) => [...text.matchAll(pattern)].reduce((all, [, count]) => all + Number(count), 0);
const counts = {
  cargo: (text) => ({
    passed: sum(text, /^test result: .* (\d+) passed;/gm),
    failed: sum(text, /^test result: .* passed; (\d+) failed;/gm),
  }),
  benches: (text) => ({ passed: [...text.matchAll(/^Success$/gm)].length, failed: 0 }),
  node: (text) => ({
    passed: sum(text, /^(?:#|ℹ) pass (\d+)/gm),
    failed: sum(text, /^(?:#|ℹ) fail (\d+)/gm) + sum(text, /^(?:#|ℹ) cancelled (\d+)/gm),
    skipped: sum(text, /^(?:#|ℹ) skipped (\d+)/gm),
  }),
  // The stock client's tests, and the conformance suite where it lies beside the project.
  socketio: (text) => ({
    passed: counts.node(text).passed + sum(text, /^beyond: (\d+) passed/gm),
    failed: counts.node(text).failed + sum(text, /^beyond: .* (\d+) failed/gm),
  }),
  vitest: (text) => ({
    passed: sum(text, /^ +Tests .*?(\d+) passed/gm),
    failed: sum(text, /^ +Tests .*?(\d+) failed/gm),
  }),
};

/** Tests of the page that take a media server, a TURN server, or neither. */
const IN_ROOMS = /livekit\.test\.mjs$/;
const THROUGH_TURN = /relay\.test\.mjs$/;
const PLAIN = /(?<!livekit|relay)\.test\.mjs$/;
/** Of the former, what has to hold where no webhook tells of it. */
const UNREPORTED = 'see and hear each other, and one|four people|removes somebody|with the page closed';

// The lanes: suites of one run one after the other, beside those of the other. A suite of none has the machine for itself.
/** Browsers that are busy: media of two suites at once is too much for two cores. */
const MEDIA = 'media';
/** Many nodes: these mostly wait, for timers and for each other, and leave room beside them. */
const NODES = 'nodes';
/** Services, and what they lose: their servers, and nodes that are killed time and again. These mostly wait, too. */
const LOSSES = 'losses';

const children = new Set();
process.on('exit', () => {
  for (const child of children) end(child);
});

/** Ends a suite with all that it has started: each has a process group of its own. */
function end(child) {
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch (error) {
    if (error.code !== 'ESRCH') throw error;
  }
}

/** Whether suites run beside each other: what each prints is then shown as a whole, once it is over. */
let together = false;

/** Runs a command, showing what it prints: its exit code and its output. */
async function run([command, ...args], options) {
  const title = `\n== ${command} ${args.join(' ')}`;
  if (!together) console.log(title);
  const result = await spawned([command, ...args], options);
  if (together) console.log(`${title}\n${result.text}`);
  return result;
}

function spawned([command, ...args], { cwd = ROOT, env = {} } = {}) {
  return new Promise((resolve) => {
    const plain = { NO_COLOR: '1', FORCE_COLOR: '0', OUTPUT, ...env };
    const child = spawn(command, args, {
      cwd,
      env: { ...process.env, ...plain },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    children.add(child);
    let text = '';
    const late = setTimeout(() => end(child), SUITE_MS_MAX);
    for (const [from, to] of [
      [child.stdout, process.stdout],
      [child.stderr, process.stderr],
    ]) {
      from.on('data', (it) => {
        text += it;
        if (!together) to.write(it);
      });
    }
    child.on('error', (error) => (text += error.message));
    child.on('close', (code) => {
      clearTimeout(late);
      children.delete(child);
      resolve({ code, text });
    });
  });
}

/** The console in a real browser, against a service of its own with these settings. */
async function browser(tests, { settings = {}, env = {}, only } = {}) {
  // Short enough to wait for a call that nobody takes, for somebody who is lost, and for a sample of the connection.
  const short = { RINGING_TIMEOUT: '6', RECONNECT_GRACE: '8', QUALITY_CHECK_INTERVAL: '2000' };
  const service = await startService({ env: { ...short, ...settings } });
  try {
    const some = only ? [`--test-name-pattern=${only}`] : [];
    const all = ['--test-concurrency=1', `--test-timeout=${TEST_MS_MAX}`, ...some, ...tests];
    return await run(['node', '--test', ...all], {
      cwd: join(ROOT, 'web'),
      env: { CALL_SERVICE_URL: service.url, ...env },
    });
  } finally {
    await service.stop();
  }
}

/** The same with media in the rooms of a real LiveKit. */
async function browserInRooms(tests, { webhooks = true, ...more } = {}) {
  const port = await freePort();
  const webhookUrls = webhooks ? [`http://127.0.0.1:${port}/api/v1/webhooks/livekit`] : [];
  const livekit = await LiveKit.start({ webhookUrls });
  try {
    const settings = { ...livekit.env, PORT: String(port), LIVEKIT_CHECK_INTERVAL: '1000' };
    return await browser(tests, { settings, env: { LIVEKIT: '1' }, ...more });
  } finally {
    await livekit.stop();
  }
}

/** Those of them that have to hold though LiveKit reports nothing. */
const browserInSilentRooms = (tests) => browserInRooms(tests, { webhooks: false, only: UNREPORTED });

/** The same with a real Coturn, whose credentials end soon enough to be renewed meanwhile: after half that time. */
async function browserThroughTurn(tests) {
  const coturn = await Coturn.start();
  try {
    const ttl = { TURN_TTL: '24' };
    return await browser(tests, { settings: { ...coturn.env, ...ttl }, env: { TURN: '1', ...ttl } });
  } finally {
    await coturn.stop();
  }
}

const files = (folder, which) =>
  existsSync(join(ROOT, folder))
    ? readdirSync(join(ROOT, folder))
        .filter((it) => it.endsWith('.test.mjs') && which.test(it))
        .sort()
        .map((it) => join(folder, it))
    : [];
const nodeTests = (folder, concurrency, lane, { name = folder, which = /./ } = {}) => ({
  name,
  lane,
  here: files(folder, which).length > 0,
  count: counts.node,
  run: () =>
    run([
      'node',
      '--test',
      `--test-concurrency=${concurrency}`,
      `--test-timeout=${TEST_MS_MAX}`,
      ...files(folder, which),
    ]),
});
const browserTests = (name, which, start, lane = MEDIA) => {
  const tests = files('web/tests', which);
  return {
    name,
    lane,
    here: tests.length > 0,
    // What is left out on purpose is no test that could not be run.
    count: (text) =>
      start === browserInSilentRooms ? { ...counts.node(text), skipped: 0 } : counts.node(text),
    run: () => start(tests.map((it) => relative('web', it))),
  };
};
const benches =
  existsSync(join(ROOT, 'benches')) && readdirSync(join(ROOT, 'benches')).some((it) => it.endsWith('.rs'));

const suites = [
  {
    name: 'cargo',
    here: true,
    count: counts.cargo,
    run: () => run(['cargo', 'test', '--locked', '--no-fail-fast']),
  },
  {
    name: 'benches',
    here: benches,
    count: counts.benches,
    // Each bench once, as a test.
    run: () => run(['cargo', 'test', '--locked', '--bench', '*']),
  },
  {
    name: 'tests/node',
    here: existsSync(join(ROOT, 'tests/node/run.mjs')),
    count: counts.socketio,
    run: () =>
      run(['node', 'tests/node/run.mjs'], {
        env: { HARNESS: join(TARGET, 'debug/examples/socketio_harness') },
      }),
  },
  // Most of these wait for timers, so more of them than cores run at once.
  nodeTests('tests/service', 4, LOSSES),
  // Outages under load: one at a time.
  nodeTests('tests/postgres', 1, LOSSES),
  // Browsers and outages that are timed: no other suite runs beside it, and of its files no more than cores.
  nodeTests('tests/livekit', 2),
  nodeTests('tests/coturn', 1, LOSSES),
  // A failover under load takes longer than it takes: one at a time.
  nodeTests('tests/redis', 1, LOSSES),
  // Several nodes, a Redis Cluster and Postgres: one at a time. What takes a quarter of that time goes beside the rest.
  nodeTests('tests/cluster', 1, NODES, { which: /^(?!kills\.)/ }),
  nodeTests('tests/cluster', 1, LOSSES, { name: 'tests/cluster, kills', which: /^kills\./ }),
  {
    name: 'web',
    here: existsSync(join(ROOT, 'web/package.json')),
    count: counts.vitest,
    run: () => run(['npm', 'test', '--silent'], { cwd: join(ROOT, 'web') }),
  },
  browserTests('browser', PLAIN, browser),
  browserTests('browser in rooms', IN_ROOMS, browserInRooms),
  browserTests('browser in silent rooms', IN_ROOMS, browserInSilentRooms),
  browserTests('browser through TURN', THROUGH_TURN, browserThroughTurn),
];

// Logs of the run before would be taken for those of this one.
for (const name of existsSync(OUTPUT) ? readdirSync(OUTPUT) : []) {
  if (
    /^(service|livekit|coturn|toxiproxy|redis|redis-node|sentinel|nginx|haproxy|network)-.*\.log$/.test(name)
  )
    rmSync(join(OUTPUT, name));
}
const asked = process.argv.slice(2);
const chosen = suites.filter((suite) => asked.length === 0 || asked.some((it) => suite.name.includes(it)));
const total = { passed: 0, failed: 0 };

/** Runs one suite and counts it; what it came to, in a line. */
async function outcome(suite) {
  if (!suite.here) return `${suite.name}: nothing to run here`;
  const begun = Date.now();
  const { code, text } = await suite.run().catch((error) => {
    console.log(`\n== ${suite.name} broke off\n${error.stack}`);
    return { code: 1, text: '' };
  });
  const result = suite.count(text);
  failed.push(...failures(text).map((it) => `${suite.name}: ${it.trimStart()}`));
  // A suite that could not even count has failed as one.
  if (code !== 0 && result.failed === 0) result.failed = 1;
  if (code === 0 && result.passed === 0) result.failed = 1;
  total.passed += result.passed;
  total.failed += result.failed;
  const took = Math.round((Date.now() - begun) / 1000);
  const skipped = result.skipped > 0 ? `, ${result.skipped} could not be run here` : '';
  return `${suite.name}: ${result.passed} passed, ${result.failed} failed${skipped}, ${took} s`;
}

/** What a suite of node's printed of each test that failed, shortened. */
const failures = (text) =>
  [...text.matchAll(/^( *)not ok .*\n(?:\1 .*\n)*/gm)].map(([all]) =>
    all.split('\n').slice(0, FAILURE_LINES_MAX).join('\n').trimEnd(),
  );

const lines = new Map();
/** What failed, told once more at the end, where it is found. */
const failed = [];

/** Runs the suites of one lane, or those of none. */
async function runAll(lane) {
  for (const suite of chosen.filter((it) => it.lane === lane)) lines.set(suite, await outcome(suite));
}

await runAll(undefined);
const lanes = [MEDIA, NODES, LOSSES].filter((lane) => chosen.some((it) => it.lane === lane));
together = lanes.length > 1;
await Promise.all(lanes.map(runAll));
for (const it of failed) console.log(`\n${it}`);
console.log(`\n${chosen.map((it) => `  ${lines.get(it)}`).join('\n')}\n`);
console.log(`${total.passed} passed, ${total.failed} failed`);
process.exitCode = total.failed === 0 && total.passed > 0 ? 0 : 1;
