// The credentials that calls are given, held against a real Coturn with the settings that operators are given.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Coturn, credential, noNamespaces } from '../support/coturn.mjs';
import { freePort } from '../support/servers.mjs';
import { ROOT } from '../support/service.mjs';
import { seconds } from '../support/tokens.mjs';
import { World } from '../support/world.mjs';

/** Short, and long enough for every test here. */
const TTL = 60;

const local = await Coturn.start();
const world = await World.open({ ...local.env, TURN_TTL: String(TTL) });
const skip = noNamespaces();
const shipped = skip ? undefined : await Coturn.startAsShipped();
after(() => Promise.all([local.stop(), shipped?.stop()]));

/** The TURN server that somebody who starts a call is told. */
async function turnOf(world) {
  const [a, b] = world.people(2);
  const { call, iceServers } = await a.want('POST', '/start', { type: 'audio', participantIds: [b.id] });
  await a.end(call);
  const turn = iceServers.find((it) => it.urls.some((url) => url.startsWith('turn:')));
  return { user: a.id, ...turn };
}

test('what a call is given lets its user relay, and media comes through', async () => {
  const given = await turnOf(world);
  assert.deepEqual(given.urls, [local.url]);
  const [expires, user] = given.username.split(/:(.*)/);
  assert.equal(user, given.user);
  const left = Number(expires) - seconds();
  assert.ok(left > TTL - 10 && left <= TTL, `${left} s`);
  assert.deepEqual(await local.allocates({ ...given, carries: true }), {
    accepted: true,
    why: '2 of 2 came back',
  });
  assert.deepEqual(await local.allocates({ ...given, tcp: true }), { accepted: true, why: 'connected' });
});

test('what has expired, or was not made by the service, is refused', async () => {
  const given = await turnOf(world);
  const longer = `${seconds() + 86_400}:${given.user}`;
  const refused = {
    expired: credential(given.user, { expires: seconds() - 60 }),
    'of another secret': credential(given.user, { secret: 'guessed' }),
    'with another time': { username: longer, credential: given.credential },
    'of another user': {
      username: given.username.replace(given.user, 'mallory'),
      credential: given.credential,
    },
    'without a time': { username: given.user, credential: given.credential },
  };
  for (const [name, pair] of Object.entries(refused)) {
    const { accepted, why } = await local.allocates(pair);
    assert.deepEqual([accepted, why], [false, 'Cannot complete Allocation'], name);
  }
  // The same, made right, is not: it was not Coturn that failed.
  assert.equal((await local.allocates(credential(given.user))).accepted, true);
});

test('a fixed name and password are accepted as they are', async () => {
  const coturn = await Coturn.start({ users: { caller: 'known to all clients' } });
  after(() => coturn.stop());
  const fixed = await World.open({
    TURN_SERVER_URL: coturn.url,
    TURN_USERNAME: 'caller',
    TURN_PASSWORD: 'known to all clients',
  });
  const given = await turnOf(fixed);
  assert.deepEqual([given.username, given.credential], ['caller', 'known to all clients']);
  assert.equal((await coturn.allocates(given)).accepted, true);
  assert.equal((await coturn.allocates({ ...given, credential: 'guessed' })).accepted, false);
});

test('over TLS, where nothing else comes through', async () => {
  const tls = await freePort();
  const cert = join(ROOT, 'tests/data/localhost.pem');
  const coturn = await Coturn.start({
    changes: { 'tls-listening-port': tls, cert, pkey: cert.replace('.pem', '.key') },
  });
  after(() => coturn.stop());
  const urls = [coturn.url, `turns:localhost:${tls}?transport=tcp`];
  const there = await World.open({ ...coturn.env, TURN_SERVER_URL: urls.join() });
  const given = await turnOf(there);
  assert.deepEqual(given.urls, urls);
  assert.deepEqual(await coturn.allocates({ ...given, tls, carries: true }), {
    accepted: true,
    why: '2 of 2 came back',
  });
  const forged = await coturn.allocates({ ...given, credential: 'guessed', tls });
  assert.deepEqual(forged, { accepted: false, why: 'Cannot complete Allocation' });
});

test('as shipped it lets users reach each other, and nothing that is not public', { skip }, async () => {
  const there = await World.open({ ...shipped.env, TURN_TTL: String(TTL) });
  const given = await turnOf(there);
  assert.deepEqual(given.urls, [shipped.url]);
  assert.deepEqual(await shipped.allocates({ ...given, carries: true }), {
    accepted: true,
    why: '2 of 2 came back',
  });
  const open = ['203.0.113.1', '198.51.100.7', '9.255.255.255', '11.0.0.0', '172.15.255.255', '172.32.0.0'];
  const denied = [
    ...['0.0.0.1', '10.0.0.1', '10.255.255.254', '100.64.0.1', '127.0.0.1', '127.255.255.254'],
    ...['169.254.169.254', '172.16.0.1', '172.31.255.254', '192.0.0.8', '192.168.1.1', '198.19.255.254'],
    ...['224.0.0.1', '239.255.255.250', '240.0.0.1', '255.255.255.255'],
  ];
  // Each as somebody else: what a killed client leaves behind counts against its user for a while.
  const asks = (peer, options) => shipped.allocates({ ...credential(`to-${peer}`), peer, ...options });
  for (const peer of open) assert.deepEqual(await asks(peer), { accepted: true, why: 'connected' }, peer);
  for (const peer of denied) {
    assert.deepEqual(await asks(peer), { accepted: false, why: 'error 403 (Forbidden IP)' }, peer);
  }
});

const skipIpv6 = skip || (!shipped.hasIpv6 && 'not run: there is no IPv6 here');
test('nor by way of IPv6, in whose clothes IPv4 may come', { skip: skipIpv6 }, async () => {
  const asks = (peer) => shipped.allocates({ ...credential(`to-${peer}`), peer, ipv6: true });
  assert.deepEqual(await asks('2001:db8::1'), { accepted: true, why: 'connected' });
  const denied = ['::1', '::ffff:127.0.0.1', '::ffff:169.254.169.254', '64:ff9b::7f00:1', 'fc00::1'];
  for (const peer of [...denied, 'fdff::1', 'fe80::1', 'febf::1']) {
    assert.deepEqual(await asks(peer), { accepted: false, why: 'error 403 (Forbidden IP)' }, peer);
  }
});

test('nobody relays over TCP, and nobody takes more than a share', { skip }, async () => {
  const { accepted, why } = await shipped.allocates({ ...credential('streamer'), tcpRelay: true });
  assert.deepEqual([accepted, why.slice(0, 9)], [false, 'error 442']);
  const greedy = await shipped.allocates({ ...credential('greedy'), clients: 14 });
  assert.deepEqual(greedy, { accepted: false, why: 'error 486 (Allocation Quota Reached)' });
  // A new name for the same user is the same user.
  const again = await shipped.allocates(credential('greedy', { expires: seconds() + 700 }));
  assert.deepEqual(again, greedy);
  assert.equal((await shipped.allocates(credential('modest'))).accepted, true);
});
