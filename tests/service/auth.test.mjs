// Who is let in, by REST and by socket, and for how long.
import assert from 'node:assert/strict';
import { generateKeyPairSync, sign as signWith } from 'node:crypto';
import { test } from 'node:test';
import { SECRET } from '../support/service.mjs';
import { seconds, sign, tokenFor } from '../support/tokens.mjs';
import { eventually, World } from '../support/world.mjs';

const PREVIOUS = 'the secret before, which still counts for a while';
const world = await World.open({ JWT_SECRET_PREVIOUS: PREVIOUS });
const { publicKey, privateKey } = generateKeyPairSync('ed25519');
const pem = publicKey.export({ type: 'spki', format: 'pem' });
const keyed = await World.open({ JWT_PUBLIC_KEY: pem });

const later = () => seconds() + 3600;
const part = (it) => Buffer.from(JSON.stringify(it)).toString('base64url');
const edDsa = (claims) => {
  const signed = `${part({ alg: 'EdDSA', typ: 'JWT' })}.${part(claims)}`;
  return `${signed}.${signWith(null, Buffer.from(signed), privateKey).toString('base64url')}`;
};

const BAD = {
  'of an hour ago': () => tokenFor('u', { ttl: -3600 }),
  'that ended six seconds ago': () => tokenFor('u', { ttl: -6 }),
  'with alg none': () => sign({ userId: 'u', exp: later() }, { alg: 'none' }),
  'with alg None': () => sign({ userId: 'u', exp: later() }, { alg: 'None' }),
  'with HS384': () => tokenFor('u', { alg: 'HS384' }),
  'with HS512': () => tokenFor('u', { alg: 'HS512' }),
  'with RS256 in its header': () => sign({ userId: 'u', exp: later() }, { header: { alg: 'RS256' } }),
  'of another key': () => tokenFor('u', { secret: 'some other secret of some other service' }),
  'of an empty key': () => tokenFor('u', { secret: '' }),
  'without exp': () => sign({ userId: 'u' }),
  'with a text for exp': () => sign({ userId: 'u', exp: String(later()) }),
  'without a user': () => sign({ exp: later() }),
  'with a number for a user': () => sign({ userId: 7, exp: later() }),
  'with a user id that breaks the rules': () => tokenFor('a b'),
  'with an empty user id': () => tokenFor(''),
  'with a user id of 65 characters': () => tokenFor('x'.repeat(65)),
  'that is not in force yet': () => sign({ userId: 'u', exp: later(), nbf: seconds() + 600 }),
  'of more than 4 KiB': () => sign({ userId: 'u', exp: later(), filler: 'x'.repeat(4096) }),
  'with a changed claim': () => {
    const [head, , signature] = tokenFor('u').split('.');
    return `${head}.${part({ userId: 'v', exp: later() })}.${signature}`;
  },
  'without its signature': () => tokenFor('u').split('.').slice(0, 2).join('.'),
  'that is none': () => 'nonsense',
};
for (const [what, make] of Object.entries(BAD)) {
  test(`a token ${what} is refused, by REST and by socket`, async () => {
    const person = world.person();
    person.token = make();
    const { error } = await person.refused(401, 'unauthorized', 'GET', '/active');
    assert.ok(!error.includes(person.token));
    await assert.rejects(person.connect(), (refused) => {
      assert.equal(refused.data.code, 'unauthorized');
      assert.equal(refused.message, error);
      return true;
    });
  });
}

const GOOD = {
  'with userId': () => tokenFor('good-1'),
  'with sub alone': () => sign({ sub: 'good-2', exp: later() }),
  'that ended three seconds ago: within the leeway': () => tokenFor('good-3', { ttl: -3 }),
  'of the previous secret': () => tokenFor('good-4', { secret: PREVIOUS }),
  'with every character an id may have': () => tokenFor('AZaz09_.:@=-'),
  'with a user id of 64 characters': () => tokenFor('x'.repeat(64)),
  'with unknown claims': () => sign({ userId: 'good-5', exp: later(), email: 'a@b.c', aud: 'x', roles: [] }),
};
for (const [what, make] of Object.entries(GOOD)) {
  test(`a token ${what} is good, by REST and by socket`, async () => {
    const person = world.person();
    person.token = make();
    await person.want('GET', '/active');
    (await person.connect()).close();
  });
}

test('no token, and another scheme, are 401 with WWW-Authenticate', async () => {
  for (const headers of [
    {},
    { authorization: 'Basic dTpw' },
    { authorization: 'Bearer' },
    { authorization: 'Bearer ' },
  ]) {
    const answer = await world.http('/api/v1/calls/active', { headers });
    assert.deepEqual([answer.status, answer.body.code], [401, 'unauthorized'], JSON.stringify(headers));
    assert.equal(answer.headers.get('www-authenticate'), 'Bearer');
  }
  await assert.rejects(world.person().connect({ token: '' }), (it) => it.data.code === 'unauthorized');
});

test('every path of the calls needs a token', async () => {
  const id = '0190aaaa-bbbb-7ccc-8ddd-eeeeffff0000';
  for (const [method, path] of [
    ['POST', '/start'],
    ['GET', '/history'],
    ['GET', '/active'],
    ['GET', '/stats'],
    ['GET', `/${id}`],
    ['POST', `/${id}/join`],
    ['POST', `/${id}/end`],
    ['POST', `/${id}/token`],
    ['PATCH', `/${id}/participant`],
    ['POST', `/${id}/recording/start`],
    ['POST', `/${id}/recording/stop`],
    ['GET', `/${id}/recordings`],
    ['GET', `/${id}/quality`],
  ]) {
    const { status } = await world.http(`/api/v1/calls${path}`, { method });
    assert.equal(status, 401, `${method} ${path}`);
  }
});

test('a token may stand in the query of a socket', async () => {
  const person = world.person();
  const device = await person.connect({ token: null, query: { token: person.token } });
  assert.deepEqual(device.sync.calls, []);
});

test('a public key checks its own algorithm, and no secret signed with its text does', async () => {
  const person = keyed.person();
  person.token = edDsa({ userId: 'ed', exp: later() });
  await person.want('GET', '/active');
  await (await person.connect()).settled();
  for (const token of [tokenFor('ed', { secret: pem }), edDsa({ userId: 'ed', exp: seconds() - 60 })]) {
    person.token = token;
    await person.refused(401, 'unauthorized', 'GET', '/active');
  }
  person.token = tokenFor('ed', { secret: SECRET });
  await person.want('GET', '/active');
});

test('a device id that is none is refused', async () => {
  await assert.rejects(world.person().connect({ deviceId: 'a b' }), (it) => {
    assert.equal(it.data.code, 'invalid_request');
    return /^auth\.deviceId: /.test(it.message);
  });
});

test('an eleventh socket of a user is refused; one that goes makes room', async () => {
  const person = world.person();
  const devices = [];
  for (let count = 0; count < 10; count += 1) devices.push(await person.connect());
  await assert.rejects(person.connect(), (it) => it.data.code === 'too_many_sockets');
  await world.person().connect();
  devices[0].close();
  await eventually('a place is free', async () => {
    const { body } = await world.http('/dev/users');
    return body.data.users.find((it) => it.userId === person.id).sockets === 9;
  });
  await person.connect();
});

test('a namespace that there is not is refused', async () => {
  const person = world.person();
  const { io } = await import('socket.io-client');
  const socket = io(`${world.url}/admin`, {
    auth: { token: person.token },
    forceNew: true,
    reconnection: false,
  });
  const refused = await new Promise((resolve) => socket.once('connect_error', resolve));
  assert.equal(refused.message, 'Invalid namespace');
  socket.disconnect();
});

test('a socket outlives its token by 25 seconds, and by more if the client refreshes it', async () => {
  // Ended four seconds ago, within the leeway: 21 seconds remain.
  const [short, refreshed, other] = world.people(3);
  for (const one of [short, refreshed]) one.token = tokenFor(one.id, { ttl: -4 });
  const begun = Date.now();
  const [left, kept] = [await short.connect(), await refreshed.connect()];
  const foreign = await kept.ask('auth:refresh', { token: other.token });
  assert.deepEqual([foreign.success, foreign.code], [false, 'unauthorized']);
  const expired = await kept.ask('auth:refresh', { token: tokenFor(refreshed.id, { ttl: -60 }) });
  assert.equal(expired.code, 'unauthorized');
  const nothing = await kept.ask('auth:refresh', {});
  assert.equal(nothing.error, 'token: expected a JWT, found nothing');
  await kept.do('auth:refresh', { token: tokenFor(refreshed.id) });
  await left.until('disconnect', (reason) => reason === 'io server disconnect', { within: 25_000 });
  const lived = Date.now() - begun;
  assert.ok(lived > 19_000 && lived < 30_000, `lived ${lived} ms`);
  await kept.settled();
  assert.equal(kept.socket.connected, true);
});
