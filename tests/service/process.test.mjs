// The program as its operator meets it: settings that are refused, help, and how it stops.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { inTime } from '../support/patience.mjs';
import { runToEnd, SECRET } from '../support/service.mjs';
import { eventually, World } from '../support/world.mjs';

const SEED = [
  'NODE_ENV PORT WS_PORT DATABASE_URL REDIS_URL JWT_SECRET LIVEKIT_URL LIVEKIT_API_KEY LIVEKIT_API_SECRET',
  'TURN_SERVER_URL TURN_USERNAME TURN_PASSWORD STUN_SERVER_URL MAX_CALL_PARTICIPANTS MAX_CALL_DURATION RINGING_TIMEOUT',
  'CONNECTION_TIMEOUT QUALITY_CHECK_INTERVAL METRICS_PORT LOG_LEVEL',
].flatMap((it) => it.split(' '));

test('--help lists every variable with its default, --version says which', async () => {
  const { code, stdout } = await runToEnd({ args: ['--help'] });
  assert.equal(code, 0);
  for (const name of [
    ...SEED,
    'DATA_DIR',
    'JOURNAL_SYNC',
    'RECONNECT_GRACE',
    'ALONE_TIMEOUT',
    'RATE_LIMIT_START',
  ]) {
    assert.match(stdout, new RegExp(`\\b${name}\\b`), name);
  }
  assert.match(stdout, /3003/);
  assert.match(stdout, /14400/);
  const version = await runToEnd({ args: ['--version'] });
  assert.match(version.stdout, /^call-service \d+\.\d+\.\d+/);
});

const production = { NODE_ENV: 'production' };
for (const [what, env, name, ...words] of [
  ['a port that is none', { PORT: 'http' }, 'PORT', 'http'],
  ['a port out of range', { PORT: '65536' }, 'PORT', '65536'],
  ['a host that is no address', { HOST: 'localhost.' }, 'HOST', 'localhost.'],
  ['no time to ring', { RINGING_TIMEOUT: '0' }, 'RINGING_TIMEOUT', '0'],
  ['a negative time', { RECONNECT_GRACE: '-1' }, 'RECONNECT_GRACE', '-1'],
  ['one participant', { MAX_CALL_PARTICIPANTS: '1' }, 'MAX_CALL_PARTICIPANTS', '1'],
  ['an unknown journal mode', { JOURNAL_SYNC: 'maybe' }, 'JOURNAL_SYNC', 'maybe', 'full'],
  ['an unknown log level', { LOG_LEVEL: 'loud' }, 'LOG_LEVEL', 'loud', 'debug'],
  ['a rate that is none', { RATE_LIMIT_START: 'often' }, 'RATE_LIMIT_START', 'often'],
  ['an origin with a path', { CORS_ORIGIN: 'https://a.example/x' }, 'CORS_ORIGIN', 'https://a.example/x'],
  ['a STUN address that is none', { STUN_SERVER_URL: 'http://x' }, 'STUN_SERVER_URL', 'http://x'],
  [
    'a certificate that is not there',
    { TLS_CERT: '/nowhere.pem', TLS_KEY: '/nowhere.key' },
    'TLS_CERT',
    '/nowhere.pem',
  ],
  ['a public key that is none', { JWT_PUBLIC_KEY: 'nonsense' }, 'JWT_PUBLIC_KEY'],
  ['Redis without Postgres', { REDIS_URL: 'redis://localhost' }, 'REDIS_URL', 'DATABASE_URL'],
  [
    'a database address that is none',
    { DATABASE_URL: 'mysql://localhost/x' },
    'DATABASE_URL',
    'postgresql://',
  ],
  [
    'no address of Redis',
    { REDIS_URL: 'http://h', DATABASE_URL: 'postgres://h/x' },
    'REDIS_URL',
    'redis-cluster',
  ],
  ['LiveKit, in this version', { LIVEKIT_URL: 'ws://localhost:7880' }, 'LIVEKIT_URL'],
  ['production without a secret', { ...production, JWT_SECRET: null }, 'JWT_SECRET'],
  ['production with a short secret', { ...production, JWT_SECRET: 'x'.repeat(31) }, 'JWT_SECRET'],
  ['production with a known TURN password', { ...production, TURN_PASSWORD: 'suppassword' }, 'TURN_PASSWORD'],
  ['production with known LiveKit keys', { ...production, LIVEKIT_API_KEY: 'devkey' }, 'LIVEKIT_API_KEY'],
]) {
  test(`${what}: one line that names the variable, what it holds and what is allowed`, async () => {
    const { code, stdout, stderr } = await runToEnd({ env: { ...env, LOG_LEVEL: env.LOG_LEVEL ?? 'off' } });
    assert.ok(code > 0, `exit code ${code}`);
    const lines = (stdout + stderr).trim().split('\n');
    assert.equal(lines.length, 1, lines.join('\n'));
    for (const word of [name, ...words]) assert.ok(lines[0].includes(word), `${lines[0]} lacks ${word}`);
    for (const secret of ['x'.repeat(31), 'suppassword']) assert.ok(!lines[0].includes(secret), lines[0]);
  });
}

test('production runs with a strong secret, without console and dev endpoints', async () => {
  const strict = await World.open({ ...production });
  for (const path of ['/', '/dev/users', '/dev/token']) {
    const method = path.endsWith('token') ? 'POST' : 'GET';
    const { status } = await strict.http(path, {
      method,
      ...(method === 'POST' && { body: { userId: 'u' } }),
    });
    assert.equal(status, 404, path);
  }
  await strict.person().want('GET', '/active');
});

test('production with CONSOLE=on serves the page, still without dev endpoints', async () => {
  const shown = await World.open({ ...production, CONSOLE: 'on' });
  assert.equal((await shown.http('/')).status, 200);
  assert.equal((await shown.http('/dev/users')).status, 404);
  assert.equal((await shown.http('/dev/token', { method: 'POST', body: { userId: 'u' } })).status, 404);
});

test('without a secret, development makes one up at each start', async () => {
  const loose = await World.open({ JWT_SECRET: null });
  const person = loose.person();
  await person.refused(401, 'unauthorized', 'GET', '/active');
  const issued = await loose.http('/dev/token', { method: 'POST', body: { userId: person.id } });
  person.token = issued.body.data.token;
  await person.want('GET', '/active');
});

test('Socket.IO is served on WS_PORT too', async () => {
  const two = await World.open({ WS_PORT: '0' });
  assert.ok(two.service.addresses.WS_PORT);
  two.socketUrl = two.service.urlOf('WS_PORT');
  const { a, call, deviceB } = await two.callOfTwo();
  await deviceB.until('call:state_changed', { state: 'connected' });
  await a.end(call);
});

test('a port that is taken, and a folder that is in use, are told in one line', async () => {
  const first = await World.open();
  const port = first.service.addresses.PORT.split(':')[1];
  const taken = await runToEnd({ env: { PORT: port, LOG_LEVEL: 'off' } });
  assert.ok(taken.code > 0);
  assert.match((taken.stdout + taken.stderr).trim(), new RegExp(`^.*PORT: .*${port}.*$`));
  const shared = await runToEnd({ dataDir: first.service.dataDir, env: { LOG_LEVEL: 'off' } });
  assert.ok(shared.code > 0);
  assert.match(shared.stdout + shared.stderr, /DATA_DIR/);
});

test('SIGTERM: not ready at once, no new calls, sockets told, exit 0, and everything is kept', async () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'call-service-'));
  after(() => rmSync(dataDir, { recursive: true, force: true }));
  const world = await World.start({}, { dataDir });
  const { a, b, call, deviceA } = await world.callOfTwo();
  const begun = Date.now();
  world.service.signal('SIGTERM');
  await deviceA.until('disconnect', () => true, { within: 10_000 });
  const { code } = await world.service.ended();
  assert.equal(code, 0);
  inTime(Date.now() - begun, 10_000, 'the stop');
  const again = await World.start({}, { dataDir });
  for (const person of [a, b]) person.world = again;
  const { call: kept } = await a.details(call);
  // Whose sockets are gone is expected back.
  assert.ok(['connected', 'reconnecting'].includes(kept.state), kept.state);
  await a.end(call);
  assert.equal((await b.details(call)).call.state, 'ended');
  await again.close();
});

test('while it drains: /ready and starts are 503 draining, live calls can be ended', async () => {
  const world = await World.start();
  const [a, b, c] = world.people(3);
  const call = await a.start(b);
  // Clients that are told one after the other to go, and connections that are open when the drain begins.
  await world.connectedPeople(20);
  await Promise.all([a, b, c].map((it) => it.want('GET', '/active')));
  world.service.signal('SIGTERM');
  const ready = await eventually('it says that it drains', async () => {
    const answer = await world.http('/ready');
    return answer.status === 503 && answer;
  });
  assert.equal(ready.body.status, 'draining');
  const refused = await c.rest('POST', '/start', { type: 'audio', participantIds: [b.id] });
  assert.deepEqual([refused.status, refused.body.code], [503, 'draining']);
  assert.ok(Number(refused.headers.get('retry-after')) >= 1);
  assert.equal((await a.rest('POST', `/${call.id}/end`)).status, 200);
  assert.deepEqual(await world.service.ended(), { code: 0, signal: null });
});

test('logs are JSON lines without tokens, names or session descriptions', async () => {
  const world = await World.open({ LOG_LEVEL: 'trace' });
  const { a, b, call, deviceA, deviceB } = await world.callOfTwo();
  deviceA.tell('webrtc:offer', { callId: call.id, targetUserId: b.id, offer: { sdp: 'v=0 secret-sdp' } });
  await deviceB.until('webrtc:offer');
  const named = world.person('somebody', { name: 'A Very Private Name' });
  await named.connect();
  await named.start(b).catch(() => undefined);
  await a.end(call);
  await a.refused(401, 'unauthorized', 'GET', '/active', undefined, { authorization: `Bearer ${a.token}x` });
  const log = world.service.lines.join('\n');
  for (const line of world.service.lines) assert.doesNotThrow(() => JSON.parse(line), line);
  for (const secret of [a.token, a.token.split('.')[2], 'secret-sdp', 'A Very Private Name', SECRET]) {
    assert.ok(!log.includes(secret), `the log holds ${secret.slice(0, 20)}`);
  }
});
