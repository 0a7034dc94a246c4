// The load generator of `examples/load`, and the service as the benches ask it.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { ROOT, SECRET } from '../tests/support/service.mjs';
import { tokenFor } from '../tests/support/tokens.mjs';

export const TARGET = process.env.CARGO_TARGET_DIR ?? join(ROOT, 'target');
export const LOAD = join(TARGET, 'release/examples/load');

/** As in production, but for rates, as all clients are at one address, and calls last though nobody is in their rooms. */
export const PRODUCTION = {
  LOG_LEVEL: 'info',
  METRICS_PORT: '0',
  RATE_LIMITS: 'off',
  RECONNECT_GRACE: '3600',
  CONNECTION_TIMEOUT: '3600',
  STUN_SERVER_URL: 'stun:stun.example:3478',
};

export const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];

/** A running service as the load generator has to know it. */
export const serverOf = (service) => ({
  address: service.addresses.PORT,
  pid: service.pid,
  secret: SECRET,
  url: service.url,
});

/** Runs a command of `load` on a server: its figures. */
export function load({ address, pid, secret }, [command, ...args], input) {
  return figured([command, '--address', address, '--pid', pid, '--secret', secret, ...args], input);
}

/** Runs any command of `load`: its figures. */
export async function figured(words, input) {
  const child = spawn(LOAD, words.map(String), { stdio: ['pipe', 'pipe', 'pipe'] });
  const said = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr']) child[name].on('data', (it) => (said[name] += it));
  child.stdin.end(input?.map((it) => JSON.stringify(it)).join('\n'));
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`load ${words[0]}: ${said.stderr}`);
  return JSON.parse(said.stdout);
}

/** Asks the service as `user`. */
export async function ask({ url }, user, method, path, body) {
  const answer = await fetch(`${url}/api/v1/calls${path}`, {
    method,
    headers: { authorization: `Bearer ${tokenFor(user)}`, 'content-type': 'application/json' },
    body: body && JSON.stringify(body),
  });
  const { success, data, error } = await answer.json();
  if (!success) throw new Error(`${method} ${path}: ${error}`);
  return data;
}

let calls = 0;

/** A live call of so many, all of them in it: its id and theirs. */
export async function call(on, people) {
  calls += 1;
  const [caller, ...others] = Array.from({ length: people }, (_, index) => `path-${calls}-${index}`);
  const { call: made } = await ask(on, caller, 'POST', '/start', { type: 'audio', participantIds: others });
  for (const it of others) await ask(on, it, 'POST', `/${made.id}/join`);
  return { id: made.id, people: [caller, ...others] };
}
