// HTTP itself: methods, bodies, origins, ids, and what every answer carries.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { World } from '../support/world.mjs';

const world = await World.open();
const listed = await World.open({ CORS_ORIGIN: 'https://chat.example, https://app.example:8443' });
const id = '0190aaaa-bbbb-7ccc-8ddd-eeeeffff0000';

const PATHS = {
  '/health': 'GET, HEAD, OPTIONS',
  '/ready': 'GET, HEAD, OPTIONS',
  '/monitoring/metrics': 'GET, HEAD, OPTIONS',
  '/monitoring/health': 'GET, HEAD, OPTIONS',
  '/openapi.json': 'GET, HEAD, OPTIONS',
  '/dev/token': 'POST, OPTIONS',
  '/dev/users': 'GET, HEAD, OPTIONS',
  '/api/v1/calls/start': 'POST, OPTIONS',
  '/api/v1/calls/history': 'GET, HEAD, OPTIONS',
  '/api/v1/calls/active': 'GET, HEAD, OPTIONS',
  '/api/v1/calls/stats': 'GET, HEAD, OPTIONS',
  [`/api/v1/calls/${id}`]: 'GET, HEAD, OPTIONS',
  [`/api/v1/calls/${id}/join`]: 'POST, OPTIONS',
  [`/api/v1/calls/${id}/end`]: 'POST, OPTIONS',
  [`/api/v1/calls/${id}/token`]: 'POST, OPTIONS',
  [`/api/v1/calls/${id}/participant`]: 'PATCH, OPTIONS',
  [`/api/v1/calls/${id}/recording/start`]: 'POST, OPTIONS',
  [`/api/v1/calls/${id}/recording/stop`]: 'POST, OPTIONS',
  [`/api/v1/calls/${id}/recordings`]: 'GET, HEAD, OPTIONS',
  [`/api/v1/calls/${id}/quality`]: 'GET, HEAD, OPTIONS',
  '/api/v1/webhooks/livekit': 'POST, OPTIONS',
};

for (const [path, allow] of Object.entries(PATHS)) {
  test(`${path.replace(id, ':id')} allows ${allow}`, async () => {
    for (const method of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE']) {
      if (allow.includes(method)) continue;
      const answer = await world.http(path, { method });
      assert.deepEqual([answer.status, answer.body.code], [405, 'method_not_allowed'], method);
      assert.equal(answer.headers.get('allow'), allow, method);
    }
    const options = await world.http(path, { method: 'OPTIONS' });
    assert.deepEqual([options.status, options.headers.get('allow'), options.body], [204, allow, '']);
    if (!allow.includes('HEAD')) return;
    const person = world.person();
    const headers = { authorization: `Bearer ${person.token}`, 'accept-encoding': 'identity' };
    const [get, head] = [
      await world.http(path, { headers }),
      await world.http(path, { method: 'HEAD', headers }),
    ];
    assert.deepEqual([head.status, head.body], [get.status, '']);
    assert.equal(head.headers.get('content-type'), get.headers.get('content-type'));
    assert.equal(head.headers.get('content-length'), get.headers.get('content-length'));
  });
}

test('unknown paths are 404 with the envelope', async () => {
  for (const path of [
    '/nothing',
    '/api/v1/calls',
    '/api/v1/calls/',
    '/api/v2/calls/start',
    `/api/v1/calls/${id}/nothing`,
    '/HEALTH',
  ]) {
    const { status, body } = await world.http(path);
    assert.deepEqual([status, body.success, body.code], [404, false, 'not_found'], path);
  }
});

test('bodies that are no JSON, of another type, too deep or too large', async () => {
  const person = world.person();
  const send = (body, type = 'application/json') =>
    world.http('/api/v1/calls/start', {
      method: 'POST',
      body,
      headers: { authorization: `Bearer ${person.token}`, ...(type && { 'content-type': type }) },
    });
  const good = JSON.stringify({ type: 'audio', participantIds: ['x'] });
  for (const [body, type, status, code] of [
    ['{"type":', 'application/json', 400, 'invalid_request'],
    ['[]', 'application/json', 400, 'invalid_request'],
    ['null', 'application/json', 400, 'invalid_request'],
    ['', 'application/json', 400, 'invalid_request'],
    ['{"a":'.repeat(40) + '1' + '}'.repeat(40), 'application/json', 400, 'invalid_request'],
    ['\u0000', 'application/json', 400, 'invalid_request'],
    [good, 'text/plain', 415, 'unsupported_media_type'],
    [good, 'application/x-www-form-urlencoded', 415, 'unsupported_media_type'],
    [good, 'application/json; charset=utf-16', 415, 'unsupported_media_type'],
    [`{"x":"${'x'.repeat(65_536)}"}`, 'application/json', 413, 'payload_too_large'],
  ]) {
    const answer = await send(body, type);
    assert.deepEqual([answer.status, answer.body.code], [status, code], body.slice(0, 40));
    assert.equal(typeof answer.body.error, 'string');
  }
  const fine = await send(
    `{"type":"audio","participantIds":["x"],"fill":"${'x'.repeat(65_000)}"}`,
    'application/json; charset=UTF-8',
  );
  assert.equal(fine.status, 201);
});

/** Writes bytes as they are and gives all that comes back. */
function raw(bytes, { ms = 3000 } = {}) {
  const { hostname, port } = new URL(world.url);
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), hostname, () => socket.write(bytes));
    let text = '';
    const late = setTimeout(() => socket.destroy(), ms);
    socket.on('data', (it) => (text += it));
    socket.on('error', reject);
    socket.on('close', () => {
      clearTimeout(late);
      resolve(text);
    });
  });
}

test('the answer to an upgrade and the open packet come in one piece', async () => {
  const { hostname, port, host } = new URL(world.url);
  const socket = connect(Number(port), hostname);
  const key = Buffer.alloc(16, 'k').toString('base64');
  socket.write(
    `GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nhost: ${host}\r\nconnection: upgrade\r\n` +
      `upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: ${key}\r\n\r\n`,
  );
  const [first] = await once(socket, 'data');
  socket.destroy();
  const [head, frame] = first.toString('latin1').split('\r\n\r\n');
  assert.match(head, /^HTTP\/1\.1 101 /);
  assert.match(frame ?? '', /^..0\{"sid":"[^"]+",/s);
});

test('a body that claims to be too large is refused before it comes', async () => {
  const { token } = world.person();
  const head = `POST /api/v1/calls/start HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${token}\r\ncontent-type: application/json\r\n`;
  assert.match(await raw(`${head}content-length: 1000000000\r\n\r\n`), /^HTTP\/1\.1 413 /);
});

test('requests that could be read in two ways are refused and the connection closed', async () => {
  const line = 'POST /api/v1/calls/start HTTP/1.1\r\nhost: x\r\n';
  for (const rest of [
    'content-length: 5\r\ncontent-length: 6\r\n\r\nhello!',
    'transfer-encoding: xchunked\r\n\r\n0\r\n\r\n',
    'content-length: -1\r\n\r\n',
  ]) {
    assert.match(await raw(line + rest), /^HTTP\/1\.1 400 /, rest);
  }
});

test('every answer has a request id, the client’s where it is sane', async () => {
  const given = await world.http('/health', { headers: { 'x-request-id': 'trace-1.2:3' } });
  assert.equal(given.headers.get('x-request-id'), 'trace-1.2:3');
  const made = await world.http('/health', { headers: { 'x-request-id': 'no spaces, please' } });
  assert.match(made.headers.get('x-request-id'), /^[\w.:-]+$/);
  const other = await world.http('/health');
  assert.notEqual(other.headers.get('x-request-id'), made.headers.get('x-request-id'));
});

test('every answer is guarded and kept by no cache', async () => {
  for (const path of ['/health', '/nothing', '/api/v1/calls/active']) {
    const { headers } = await world.http(path);
    assert.equal(headers.get('x-content-type-options'), 'nosniff');
    assert.equal(headers.get('cache-control'), 'no-store');
    assert.equal(headers.get('x-frame-options'), 'DENY');
  }
});

test('any origin may call where CORS_ORIGIN is *, without credentials', async () => {
  const { headers } = await world.http('/health', { headers: { origin: 'https://anywhere.example' } });
  assert.equal(headers.get('access-control-allow-origin'), '*');
  assert.equal(headers.get('access-control-allow-credentials'), null);
});

test('only listed origins may call where there is a list, preflights and errors included', async () => {
  const path = '/api/v1/calls/start';
  const preflight = (origin) =>
    listed.http(path, {
      method: 'OPTIONS',
      headers: {
        origin,
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'authorization',
      },
    });
  const allowed = await preflight('https://chat.example');
  assert.deepEqual(
    [allowed.status, allowed.headers.get('access-control-allow-origin')],
    [204, 'https://chat.example'],
  );
  assert.match(allowed.headers.get('access-control-allow-methods'), /POST/);
  for (const name of ['authorization', 'content-type', 'idempotency-key', 'x-device-id']) {
    assert.ok(allowed.headers.get('access-control-allow-headers').includes(name), name);
  }
  for (const origin of [
    'https://evil.example',
    'https://chat.example.evil.example',
    'http://chat.example',
    'null',
  ]) {
    assert.equal((await preflight(origin)).headers.get('access-control-allow-origin'), null, origin);
  }
  const refused = await listed.http(path, {
    method: 'POST',
    headers: { origin: 'https://app.example:8443' },
  });
  assert.deepEqual(
    [refused.status, refused.headers.get('access-control-allow-origin')],
    [401, 'https://app.example:8443'],
  );
  assert.match(refused.headers.get('vary'), /origin/i);
});

test('sockets too are for listed origins, and for those that name none', async () => {
  const options = (origin) => ({ transports: ['polling'], extraHeaders: origin ? { origin } : {} });
  await (await listed.person().connect(options('https://chat.example'))).settled();
  await (await listed.person().connect(options())).settled();
  await assert.rejects(listed.person().connect(options('https://evil.example')));
  await assert.rejects(
    listed.person().connect({ ...options('https://evil.example'), transports: ['websocket'] }),
  );
});

test('long answers are packed where the client can unpack them', async () => {
  const [a, b] = world.people(2);
  for (let count = 0; count < 5; count += 1) await a.end(await a.start(b));
  const path = `${world.url}/api/v1/calls/history`;
  const headers = { authorization: `Bearer ${a.token}` };
  const { request } = await import('node:http');
  const bytes = await new Promise((resolve) =>
    request(path, { headers: { ...headers, 'accept-encoding': 'gzip' } }, (answer) => {
      assert.equal(answer.headers['content-encoding'], 'gzip');
      const chunks = [];
      answer.on('data', (it) => chunks.push(it)).on('end', () => resolve(Buffer.concat(chunks)));
    }).end(),
  );
  assert.equal(JSON.parse(gunzipSync(bytes)).data.pagination.total, 5);
});

test('the probes say how it is', async () => {
  const { body: health } = await world.http('/health');
  const { timestamp, ...rest } = health;
  assert.deepEqual(rest, { status: 'ok', service: 'call-service' });
  assert.match(timestamp, /Z$/);
  assert.equal((await world.http('/ready')).status, 200);
  const monitoring = await world.http('/monitoring/health');
  assert.deepEqual(Object.keys(monitoring.body).sort(), ['checks', 'service', 'status', 'timestamp']);
  assert.equal(monitoring.body.status, 'healthy');
  const { body: metrics } = await world.http('/monitoring/metrics');
  assert.deepEqual(Object.keys(metrics).sort(), ['calls', 'livekit', 'performance', 'timestamp']);
  assert.deepEqual(Object.keys(metrics.calls).sort(), ['active', 'completed', 'failed', 'total']);
  assert.match(metrics.performance.successRate, /^\d+\.\d\d%$/);
});

test('the console is served at /, and paths cannot leave its folder', async () => {
  const page = await world.http('/');
  assert.equal(page.status, 200);
  assert.match(page.headers.get('content-type'), /^text\/html/);
  assert.match(page.headers.get('content-security-policy'), /default-src 'self'/);
  for (const path of ['/assets/../../Cargo.toml', '/..%2fCargo.toml', '/assets/%2e%2e/Cargo.toml']) {
    assert.match(
      await raw(`GET ${path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`),
      /^HTTP\/1\.1 40[04] /,
      path,
    );
  }
});
