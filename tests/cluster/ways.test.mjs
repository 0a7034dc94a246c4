// Ways to the nodes, by load balancers, and ways to Redis.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { io } from 'socket.io-client';
import { Nginx } from '../support/balancer.mjs';
import { Cluster } from '../support/cluster.mjs';
import { operators } from '../support/redis.mjs';
import { ROOT } from '../support/service.mjs';

const USERS = { calls: { password: 'p@ss', rules: operators().rules } };
const cluster = await Cluster.start({ redis: 'single' });

/** Through the balancer, as a browser does: its socket, or why it has none. */
function client(url, person, transports) {
  const socket = io(url, { forceNew: true, reconnection: false, transports, auth: { token: person.token } });
  return new Promise((resolve, reject) => {
    socket.once('connect', () => resolve(socket));
    socket.once('connect_error', (error) => reject(new Error(error.context?.responseText ?? error.message)));
  });
}

/** What the next event of that name says. */
const next = (socket, event) =>
  new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`no ${event}`)), 5000);
    socket.once(event, (data) => resolve(data, clearTimeout(late)));
  });

/** A call between two who know the balancer alone. */
async function across(balancer, transports) {
  const people = cluster.people(2);
  const [a, b] = people.map((it) => Object.assign(Object.create(it), { world: balancer }));
  const [deviceA, deviceB] = await Promise.all(people.map((it) => client(balancer.url, it, transports)));
  const rung = next(deviceB, 'call:incoming');
  const call = await a.start(b);
  assert.equal((await rung).callId, call.id);
  const answered = next(deviceA, 'call:accepted');
  const { success } = await deviceB.timeout(5000).emitWithAck('call:accept', { callId: call.id });
  assert.ok(success);
  assert.equal((await answered).userId, b.id);
  const over = next(deviceB, 'call:ended');
  await a.end(call);
  assert.equal((await over).reason, 'normal');
  for (const it of [deviceA, deviceB]) it.disconnect();
}

test('long polling needs a balancer that keeps it with its node; websockets do not', async () => {
  const balancer = await Nginx.start({ addresses: cluster.nodes.map((it) => it.url), sticky: false });
  await across(balancer, ['websocket']);
  if (cluster.nodes.length > 1) {
    const polls = Array.from({ length: 4 }, () => client(balancer.url, cluster.person(), ['polling']));
    const answers = await Promise.allSettled(polls);
    for (const { value } of answers) value?.disconnect();
    const reasons = answers.filter((it) => it.reason).map((it) => it.reason.message);
    assert.ok(reasons.length > 0, 'polling got through');
    for (const it of reasons) assert.match(it, /"code":1,"message":"Session ID unknown"/);
  }
  await balancer.reload({ sticky: true });
  await across(balancer, ['polling']);
  await across(balancer, ['polling', 'websocket']);
  await balancer.stop();
});

/** A call from one node to the other. */
async function callAcross(its) {
  const [[a, deviceA], [b, deviceB]] = await its.connectedAt(0, 1);
  const call = await a.start(b);
  await deviceB.until('call:incoming', { callId: call.id });
  await deviceB.do('call:accept', { callId: call.id });
  await deviceA.until('call:accepted', { callId: call.id });
  await b.end(call);
  await deviceA.until('call:ended', { callId: call.id });
  await its.oneTruth(a, call);
}

test('a single Redis is enough', () => callAcross(cluster));

for (const redis of ['single', 'cluster'])
  test(`Redis with TLS, and a user of its own: ${redis}`, async () => {
    const its = await Cluster.start({
      nodes: 2,
      redis,
      redisOptions: { tls: true, users: USERS },
      env: { REDIS_TLS_CA: join(ROOT, 'tests/data/localhost.pem') },
    });
    await callAcross(its);
    await its.close();
  });

test('Redis with sentinels, before and after another master was chosen', async () => {
  const its = await Cluster.start({ nodes: 2, redis: 'sentinel', redisOptions: { users: USERS } });
  await callAcross(its);
  if (its.redis) {
    await its.redis.crashMaster();
    const [a, b] = its.people(2);
    const { status } = await a.insist('POST', '/start', { type: 'audio', participantIds: [b.id] });
    assert.equal(status, 201);
    await a.insist('POST', '/start', { type: 'audio', participantIds: [b.id] });
    const { calls } = await a.want('GET', '/active');
    await a.end(calls[0]);
    await callAcross(its);
  }
  await its.close();
});
