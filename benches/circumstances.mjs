// Where, when and of what figures are.
import { execFileSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { fastBinary, ROOT } from '../tests/support/service.mjs';

const said = (command, ...args) => {
  try {
    return execFileSync(command, args, {
      cwd: ROOT,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
  } catch {
    return 'unknown';
  }
};

/** Where, when and of what this is. */
export function circumstances(settings) {
  const program = fastBinary();
  const [first, ...others] = cpus();
  const kind = /\/(debug|release)\//.exec(program)?.[1] ?? program;
  return {
    date: new Date().toISOString(),
    machine: `${others.length + 1} x ${first.model.trim()}, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()}`,
    load: loadavg()
      .map((it) => it.toFixed(2))
      .join(' '),
    build: `${kind}, built ${statSync(program).mtime.toISOString()}`,
    source: said('git', 'describe', '--always', '--dirty'),
    settings,
  };
}

export const redisVersion = () => said('redis-server', '--version').replace(/ sha=.*/, '');

/** The same for whoever reads it: a line each. */
export const inLines = (where) =>
  Object.entries(where)
    .map(([name, it]) => `${name}: ${typeof it === 'string' ? it : JSON.stringify(it)}`)
    .join('\n');
