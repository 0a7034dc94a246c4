// Whether the servers of these tests do what is said of them: what is held against the service with them is worth no more than that.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { after, test } from 'node:test';
import { io } from 'socket.io-client';
import { WebSocket } from 'ws';
import { HaProxy, Nginx } from '../support/balancer.mjs';
import { Network, noNetworks } from '../support/netns.mjs';
import { inTime } from '../support/patience.mjs';
import { Redis, RedisCluster, Sentinel } from '../support/redis.mjs';
import { startService } from '../support/service.mjs';
import { tokenFor } from '../support/tokens.mjs';
import { eventually, http } from '../support/world.mjs';

/** A cluster with a node timeout of 2 s has to have another master by then, milliseconds. */
const FAILOVER_MS_MAX = 8000;
/** How long one that is held is given to answer, milliseconds. */
const HELD_MS = 400;

const [cluster, ...nodes] = await Promise.all([
  RedisCluster.start(),
  startService({ env: { METRICS_PORT: '0' } }),
  startService({ env: { METRICS_PORT: '0' } }),
]);
after(() => Promise.all([cluster.stop(), ...nodes.map((it) => it.stop())]));

/** Whether a server gives no answer though its connections stay. */
const hangs = (server) =>
  server.ask(['PING'], { within: HELD_MS }).then(
    () => false,
    (error) => /no answer/.test(error.message),
  );

test('a single Redis is restored to what was written down, and what came later is lost', async () => {
  const redis = await Redis.start();
  await redis.ask(['SET', 'a', 'early']);
  await redis.save();
  await redis.ask(['SET', 'a', 'late']);
  await redis.rollback();
  assert.equal(await redis.ask(['GET', 'a']), 'early');
  redis.freeze();
  assert.equal(await hangs(redis), true);
  redis.thaw();
  assert.equal(await redis.ask(['PING']), 'PONG');
  await redis.stop();
});

test('a Redis with users and TLS lets nobody else in, and each do no more than its rules', async () => {
  const rules = '~c:* &* +@all -@dangerous';
  const redis = await Redis.start({ tls: true, users: { calls: { password: 'p@ss', rules } } });
  assert.equal(redis.url, `rediss://calls:p%40ss@127.0.0.1:${redis.port}`);
  const its = await redis.connect({ user: { name: 'calls', password: 'p@ss' } });
  assert.equal(await its.ask(['SET', 'c:1', 'x']), 'OK');
  await assert.rejects(its.ask(['SET', 'other', 'x']), /NOPERM/);
  await assert.rejects(its.ask(['FLUSHALL']), /NOPERM/);
  its.close();
  const nobody = await redis.connect({ user: undefined });
  await assert.rejects(nobody.ask(['PING']), /NOAUTH/);
  nobody.close();
  await assert.rejects(redis.connect({ tls: false, user: { name: 'calls', password: 'p@ss' } }));
  await assert.rejects(redis.connect({ user: { name: 'calls', password: 'guessed' } }), /WRONGPASS/);
  await redis.stop();
});

test('a cluster forms: three masters have all slots, and each has a replica with what it holds', async () => {
  assert.match(cluster.url, /^redis-cluster:\/\/127\.0\.0\.1:\d+\?(node=127\.0\.0\.1:\d+&?){5}$/);
  const masters = new Set();
  for (const slot of [0, 8000, 16_383]) masters.add(await cluster.masterOf(slot));
  assert.equal(masters.size, 3);
  const watch = await cluster.monitor('c:{one}');
  await cluster.ask('c:{one}', ['SET', 'c:{one}', 'x']);
  await eventually('the command is seen', () =>
    watch.commands().some((it) => it.join(' ') === 'SET c:{one} x'),
  );
  watch.close();
  const [replica] = await cluster.replicasOf('c:{one}');
  const slot = await cluster.slotOf('c:{one}');
  const keys = () => replica.ask(['CLUSTER', 'COUNTKEYSINSLOT', slot]);
  await eventually('the replica has it', async () => (await keys()) === 1);
});

test('a slot moves with its keys, and who listens to a channel in it is put out', async () => {
  const names = Array.from({ length: 250 }, (_, index) => `{moved}:${index}`);
  for (const name of names) await cluster.ask('{moved}', ['SET', name, 'x']);
  const from = await cluster.masterOf('{moved}');
  const masters = await Promise.all([0, 8000, 16_383].map((slot) => cluster.masterOf(slot)));
  const to = masters.find((it) => it !== from);
  const listener = await from.connect();
  const heard = await listener.listen('n:{moved}');
  assert.equal(await from.ask(['SPUBLISH', 'n:{moved}', 'before']), 1);
  const meanwhile = async () => {
    // What is not here yet is asked of the new one, by those who are told so.
    await assert.rejects(from.ask(['GET', '{moved}:none']), /^Error: ASK |ASK \d+ /);
    assert.equal(await from.ask(['GET', '{moved}:1']), 'x');
  };
  assert.equal(await cluster.migrateSlot('{moved}', from, to, { meanwhile }), names.length);
  assert.equal((await cluster.masterOf('{moved}')).port, to.port);
  assert.equal(await to.ask(['GET', '{moved}:249']), 'x');
  await assert.rejects(from.ask(['GET', '{moved}:249']), /MOVED/);
  await eventually('the listener is put out', () => heard.isPutOut);
  assert.deepEqual(heard.messages, ['before']);
  listener.close();
});

test('a held cluster answers nothing, and goes on', async () => {
  cluster.freezeAll();
  assert.deepEqual(await Promise.all(cluster.nodes.map(hangs)), Array(6).fill(true));
  cluster.thawAll();
  await cluster.ready();
  assert.equal(await cluster.ask('k', ['SET', 'k', 'x']), 'OK');
});

test('a master that crashes has a successor with what it held, and comes back as its replica', async () => {
  await cluster.ask('k', ['SET', 'k', 'kept']);
  const [heir] = await cluster.replicasOf('k');
  await eventually('the replica has it', () => heir.isInSync());
  const { crashed, master, tookMs } = await cluster.crashMaster('k');
  assert.equal(master.port, heir.port);
  inTime(tookMs, FAILOVER_MS_MAX);
  assert.equal(await cluster.ask('k', ['GET', 'k']), 'kept');
  await cluster.startAll();
  const replicas = await cluster.replicasOf('k');
  assert.deepEqual(
    replicas.map((it) => it.port),
    [crashed.port],
  );
});

test('a cluster that is put back to an older file has lost what was written later, on masters and replicas', async () => {
  await cluster.ask('k', ['SET', 'k', 'early']);
  await cluster.saveAll();
  await cluster.ask('k', ['SET', 'k', 'late']);
  await cluster.rollback();
  assert.equal(await cluster.ask('k', ['GET', 'k']), 'early');
  const [replica] = await cluster.replicasOf('k');
  const connection = await replica.connect();
  await connection.ask(['READONLY']);
  assert.equal(await connection.ask(['GET', 'k']), 'early');
  connection.close();
});

test('sentinels choose the replica when the master crashes', async () => {
  const sentinel = await Sentinel.start({ users: { calls: 'pass' } });
  assert.match(
    sentinel.url,
    /^redis-sentinel:\/\/calls:pass@[^?]+\?(node=[^&]+&){2}sentinelServiceName=calls$/,
  );
  await sentinel.ask(['SET', 'k', 'kept']);
  await eventually('the replica has it', async () => (await sentinel.nodes[1].ask(['GET', 'k'])) === 'kept');
  const { crashed, master, tookMs } = await sentinel.crashMaster();
  assert.deepEqual(
    [crashed, master].map((it) => it.port),
    sentinel.nodes.map((it) => it.port),
  );
  inTime(tookMs, FAILOVER_MS_MAX);
  assert.equal(await sentinel.ask(['GET', 'k']), 'kept');
  await sentinel.stop();
});

test(
  'a node is cut off from the others, and reached from here meanwhile',
  { skip: noNetworks() },
  async () => {
    const network = await Network.open();
    const [there, here] = [await network.node(), await network.node()];
    const redis = await Redis.start({ on: there });
    const program = await startService({ inside: here.inside, env: { HOST: here.front } });
    // Node itself, as no other program is sure to be there.
    const look = `require('net').connect(${redis.port}, '${there.address}').once('connect', () => process.exit(0))
    .once('error', () => process.exit(1)); setTimeout(() => process.exit(1), ${HELD_MS})`;
    const reaches = () =>
      here.run(process.execPath, '-e', look).then(
        () => true,
        () => false,
      );
    const answers = async () => [(await http(`${program.url}/health`)).status, await redis.ask(['PING'])];
    assert.equal(await reaches(), true);
    here.cut();
    assert.equal(await reaches(), false);
    assert.deepEqual(await answers(), [200, 'PONG']);
    here.heal();
    await eventually('it is joined again', reaches);
    const port = Number(new URL(nodes[0].url).port);
    const forwarded = await here.forward(port);
    const ask = `fetch('http://${forwarded}/health').then((it) => console.log(it.status))`;
    assert.equal((await here.run(process.execPath, '-e', ask)).trim(), '200');
    await program.stop();
    await redis.stop();
    await network.close();
  },
);

/** How many sockets each of the nodes has. */
const sockets = () =>
  Promise.all(
    nodes.map(async (it) => {
      const { body } = await http(`${it.urlOf('METRICS_PORT')}/metrics`);
      return Number(/^sockets_connected (\d+)/m.exec(body)?.[1]);
    }),
  );

/** A stock client that is let in, or why it is not. */
function client(url, transports) {
  const auth = { token: tokenFor(`user-${Math.random()}`) };
  const socket = io(url, { forceNew: true, reconnection: false, transports, auth });
  return new Promise((resolve, reject) => {
    socket.once('connect', () => resolve(socket));
    socket.once('connect_error', (error) => reject(new Error(error.context?.responseText ?? error.message)));
  });
}

/** A server that says what it is asked, is `ready` for more or not, and `refuses` what it is asked or not. */
async function echo(name) {
  const its = { ready: true, refuses: false, asked: 0 };
  const server = createServer((request, answer) => {
    if (request.url === '/ready') return answer.writeHead(its.ready ? 200 : 503).end();
    its.asked += 1;
    return answer.writeHead(its.refuses ? 503 : 200).end(JSON.stringify({ name, headers: request.headers }));
  });
  server.unref().listen(0, '127.0.0.1');
  await once(server, 'listening');
  after(() => server.close(server.closeAllConnections()));
  return Object.assign(its, { address: `127.0.0.1:${server.address().port}` });
}

for (const Balancer of [Nginx, HaProxy]) {
  test(`${Balancer.name} gives new websockets to all nodes in turn, and keeps them over a reload`, async () => {
    const balancer = await Balancer.start({ addresses: nodes.map((it) => it.url) });
    const all = await Promise.all([1, 2, 3, 4].map(() => client(balancer.url, ['websocket'])));
    await eventually('each has half of them', async () => (await sockets()).join() === '2,2');
    const plain = new WebSocket(`${balancer.url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket`);
    const [opened] = await once(plain, 'message');
    assert.equal(JSON.parse(String(opened).slice(1)).pingInterval, 25_000);
    await balancer.reload();
    assert.equal(plain.readyState, WebSocket.OPEN);
    for (const it of all) {
      // Answered, though nobody knows the event: the way there and back is open.
      assert.ok(await it.timeout(2000).emitWithAck('test:fence', {}));
    }
    plain.close();
    for (const it of all) it.disconnect();
    await eventually('all are gone', async () => (await sockets()).join() === '0,0');
    await balancer.stop();
  });

  test(`${Balancer.name} keeps long polling with its session, and an upgrade too`, async () => {
    const balancer = await Balancer.start({ addresses: nodes.map((it) => it.url) });
    const all = await Promise.all([1, 2, 3, 4].map(() => client(balancer.url, ['polling'])));
    for (const it of all) assert.ok(await it.timeout(2000).emitWithAck('test:fence', {}));
    // All clients here have one address, by which nginx chooses; HAProxy knows the sessions.
    const counts = (await sockets()).sort().join();
    assert.equal(counts, Balancer === Nginx ? '0,4' : '2,2');
    const upgraded = await client(balancer.url, ['polling', 'websocket']);
    await eventually('it is upgraded', () => upgraded.io.engine.transport.name === 'websocket');
    for (const it of [...all, upgraded]) it.disconnect();
    await eventually('all are gone', async () => (await sockets()).join() === '0,0');
    await balancer.stop();
  });

  test(`${Balancer.name} without stickiness: polling is told that its session is unknown`, async () => {
    const balancer = await Balancer.start({ addresses: nodes.map((it) => it.url), sticky: false });
    const poll = `${balancer.url}/socket.io/?EIO=4&transport=polling`;
    const { body } = await http(poll);
    const { sid } = JSON.parse(body.slice(1));
    const answers = [await http(`${poll}&sid=${sid}`, { method: 'POST', body: '40{}' }), await http(poll)];
    const unknown = await http(`${poll}&sid=nobody`);
    assert.deepEqual([unknown.status, unknown.body], [400, { code: 1, message: 'Session ID unknown' }]);
    assert.deepEqual([answers[0].status, answers[0].body], [400, unknown.body]);
    await assert.rejects(client(balancer.url, ['polling']), /Session ID unknown/);
    const socket = await client(balancer.url, ['websocket']);
    assert.ok(await socket.timeout(2000).emitWithAck('test:fence', {}));
    socket.disconnect();
    await balancer.stop();
  });

  test(`${Balancer.name} tells who asks, and goes round a node that does not answer`, async () => {
    const [one, two] = [await echo('one'), await echo('two')];
    const balancer = await Balancer.start({ addresses: nodes.map((it) => it.url) });
    await balancer.reload({ addresses: [one.address, two.address] });
    const ask = async () => (await balancer.ask('/', { headers: { 'x-forwarded-for': '1.2.3.4' } })).body;
    const first = JSON.parse(await ask());
    assert.match(first.headers['x-forwarded-for'], /^1\.2\.3\.4, ?127\.0\.0\.1$/);
    assert.notEqual(JSON.parse(await ask()).name, first.name);
    two.refuses = true;
    for (const transport of ['websocket', 'polling']) {
      for (let count = 0; count < 4; count += 1) {
        const { body } = await balancer.ask(`/socket.io/?EIO=4&transport=${transport}`);
        assert.equal(JSON.parse(body).name, 'one', transport);
      }
    }
    assert.ok(two.asked > 1, 'it was not asked');
    two.refuses = false;
    if (Balancer === HaProxy) {
      // The one of the two that asks by itself.
      two.ready = false;
      await eventually('it is left out', async () => {
        const before = two.asked;
        for (let count = 0; count < 4; count += 1) await ask();
        return two.asked === before;
      });
    }
    await balancer.reload({ addresses: [one.address, '127.0.0.1:1'] });
    for (let count = 0; count < 4; count += 1) assert.equal(JSON.parse(await ask()).name, 'one');
    balancer.freeze();
    await assert.rejects(balancer.ask('/', { within: HELD_MS }), /abort|timeout/i);
    balancer.thaw();
    await balancer.crash();
    await assert.rejects(balancer.ask());
    await balancer.begin();
    assert.equal(JSON.parse(await ask()).name, 'one');
    await balancer.stop();
  });
}
