// Draws where the service's processor time goes on a hot path: perf's samples of the whole process under load, as an SVG. Needs perf
// (Debian: linux-perf). `make flamegraphs`, or:
//   CALL_SERVICE_BIN=... NAME=-before node flamegraphs/make.mjs token look     only these paths, with that at the end of the files' names
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { call, load, PRODUCTION, serverOf } from '../benches/load.mjs';
import { LiveKit } from '../tests/support/livekit.mjs';
import { fastBinary, ROOT, startService } from '../tests/support/service.mjs';

/** How long samples are taken, and how many a second: stacks of the whole are large, and a few thousand show all that matters. */
const SECONDS = 4;
const HERTZ = 499;
const STACK_BYTES = 16384;
const WARM_UP_MS = 1500;
/** Sockets that come in, one after the other: more than come while samples are taken. */
const WAYS_IN = 18_000;

const asked = async (on, people, method, end) => {
  const { id, people: users } = await call(on, people);
  const requests = users.map((user) => ({ method, path: `/api/v1/calls/${id}${end}`, user }));
  return load(on, ['requests', '--seconds', SECONDS + 2], requests);
};

const PATHS = {
  token: (on) => asked(on, 2, 'POST', '/token'),
  look: (on) => asked(on, 8, 'GET', ''),
  life: (on) => load(on, ['lives', '--seconds', SECONDS + 2]),
  relay: (on) => load(on, ['relay', '--seconds', SECONDS + 2]),
  way: (on) => load(on, ['idle', '--sockets', WAYS_IN]),
};

const inferno = (name) => join(ROOT, '.cache/inferno/bin', name);
const run = (command, args, options) =>
  execFileSync(command, args, { maxBuffer: 2 ** 31, stdio: ['pipe', 'pipe', 'ignore'], ...options });

async function draw(name, on) {
  const folder = mkdtempSync(join(tmpdir(), 'flamegraph-'));
  try {
    const data = join(folder, 'perf.data');
    const loaded = PATHS[name](on);
    await new Promise((resolve) => setTimeout(resolve, WARM_UP_MS));
    run(
      'perf',
      [
        'record',
        '-q',
        '-F',
        HERTZ,
        '-p',
        on.pid,
        '--call-graph',
        `dwarf,${STACK_BYTES}`,
        '-o',
        data,
        '--',
        'sleep',
        SECONDS,
      ].map(String),
    );
    const { cpuUs } = await loaded;
    const stacks = run('perf', ['script', '-i', data, '--no-inline']);
    const folded = run(inferno('inferno-collapse-perf'), ['--all'], { input: stacks });
    const title = `${name}: ${cpuUs.toFixed(1)} us of processor time each`;
    const drawn = run(inferno('inferno-flamegraph'), ['--title', title, '--minwidth', '0.2', '--hash'], {
      input: folded,
    });
    // inferno's script, which zooms and searches, is left out: what is kept here is a picture, with the names of all frames in it.
    const svg = `${drawn}`.replace(/<script[^]*?<\/script>/g, '').replace(' onload="init(evt)"', '');
    const file = join(ROOT, 'flamegraphs', `${name}${process.env.NAME ?? ''}.svg`);
    writeFileSync(file, svg);
    console.log(`${file}: ${title}, ${Math.round(readFileSync(file).length / 1024)} KiB`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const names = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(PATHS);
const livekit = names.includes('token') ? await LiveKit.start() : undefined;
try {
  for (const name of names) {
    const media = name === 'token' ? livekit.env : {};
    const service = await startService({ env: { ...PRODUCTION, ...media }, program: fastBinary() });
    try {
      await draw(name, serverOf(service));
    } finally {
      await service.stop();
    }
  }
} finally {
  await livekit?.stop();
}
