// What an operator does beside serving: check, migrate, erase, scrape, and read the API's description.
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { ROOT, runToEnd } from '../support/service.mjs';
import { http, World } from '../support/world.mjs';

/** A data folder that goes after the tests. */
function folder() {
  const dataDir = mkdtempSync(join(tmpdir(), 'call-service-'));
  after(() => rmSync(dataDir, { recursive: true, force: true }));
  return dataDir;
}

test('check says of each thing whether it is fine, and by its exit code of all', async () => {
  const fine = await runToEnd({ args: ['check'] });
  assert.equal(fine.code, 0, fine.stdout + fine.stderr);
  for (const name of ['JWT_SECRET', 'DATA_DIR', 'PORT']) assert.match(fine.stdout, new RegExp(name));
  const world = await World.open();
  const port = world.service.addresses.PORT.split(':')[1];
  const taken = await runToEnd({ args: ['check'], env: { PORT: port } });
  assert.ok(taken.code > 0);
  const used = await runToEnd({ args: ['check'], dataDir: world.service.dataDir });
  assert.ok(used.code > 0);
});

test('with MIGRATE=off the tables are changed by migrate only', async () => {
  const dataDir = folder();
  const refused = await runToEnd({ dataDir, env: { MIGRATE: 'off' } });
  assert.ok(refused.code > 0, 'it started on a folder without tables');
  const migrated = await runToEnd({ args: ['migrate'], dataDir });
  assert.equal(migrated.code, 0, migrated.stdout + migrated.stderr);
  assert.ok(readdirSync(dataDir).length > 0);
  const world = await World.open({ MIGRATE: 'off' }, { dataDir });
  const { a, call } = await world.callOfTwo({ connect: false });
  await a.end(call);
});

test('erase removes the traces of one user, and leaves the others theirs', async () => {
  const dataDir = folder();
  const before = await World.start({}, { dataDir });
  const { a, b, call } = await before.callOfTwo({ connect: false });
  await a.end(call);
  await before.close();
  const erased = await runToEnd({ args: ['erase', '--user', a.id], dataDir });
  assert.equal(erased.code, 0, erased.stdout + erased.stderr);
  const nobody = await runToEnd({ args: ['erase', '--user', 'a b'], dataDir });
  assert.ok(nobody.code > 0);
  const again = await World.open({}, { dataDir });
  for (const person of [a, b]) person.world = again;
  assert.equal((await a.want('GET', '/history')).pagination.total, 0);
  const history = await b.want('GET', '/history');
  assert.equal(history.pagination.total, 1);
  assert.ok(!JSON.stringify(history).includes(a.id), 'the id is still there');
});

test('Prometheus scrapes METRICS_PORT, and no label names a user or a call', async () => {
  const world = await World.open({ METRICS_PORT: '0' });
  const { a, call } = await world.callOfTwo();
  const figures = await http(`${world.service.urlOf('METRICS_PORT')}/metrics`);
  assert.match(figures.headers.get('content-type'), /^text\/plain; version=0\.0\.4/);
  assert.match(figures.body, /^calls_live 1$/m);
  assert.match(figures.body, /^sockets_connected 2$/m);
  assert.match(figures.body, /^journal_unflushed_rows \d+$/m);
  assert.match(figures.body, /^panics_total 0$/m);
  assert.ok(!figures.body.includes(a.id) && !figures.body.includes(call.id));
  assert.equal((await http(`${world.service.urlOf('METRICS_PORT')}/other`)).status, 404);
  assert.equal((await world.http('/metrics')).status, 404);
});

test('the description of the API is OpenAPI 3.1 and knows every path', async () => {
  const world = await World.open();
  const { status, body } = await world.http('/openapi.json');
  assert.equal(status, 200);
  assert.match(body.openapi, /^3\.1\./);
  const calls = ['start', 'history', 'active', 'stats'].map((it) => `/api/v1/calls/${it}`);
  const ofCall = [
    '',
    '/join',
    '/end',
    '/token',
    '/participant',
    '/recording/start',
    '/recording/stop',
    '/recordings',
    '/quality',
  ];
  for (const path of [
    ...calls,
    ...ofCall.map((it) => `/api/v1/calls/{id}${it}`),
    '/health',
    '/ready',
    '/monitoring/metrics',
  ]) {
    assert.ok(body.paths[path], `${path} is not described`);
    const [method] = Object.keys(body.paths[path]).filter((it) => it !== 'parameters');
    const concrete = path.replace('{id}', '0190aaaa-bbbb-7ccc-8ddd-eeeeffff0000');
    const answer = await world.http(concrete, { method: method.toUpperCase() });
    assert.ok(
      ![404, 405].includes(answer.status),
      `${method} ${path} is described and answers ${answer.status}`,
    );
  }
});

test('the README shows the files that operators are given as they are', () => {
  const text = (...path) => readFileSync(join(ROOT, ...path), 'utf8');
  const readme = text('README.md');
  for (const file of ['turnserver.conf', 'redis.conf', 'nginx.conf', 'haproxy.cfg']) {
    // What a file says first, of itself, the README has in words of its own.
    const shown = text('tests/data', file).replace(/^(#.*\n)+\n*/, '');
    assert.ok(readme.includes(`\n${shown}\`\`\`\n`), file);
  }
});
