// Redis is away, hangs, loses a master or moves what it has: calls go on where they are, and all is well again by itself.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pause } from '../support/chance.mjs';
import { alone, Cluster } from '../support/cluster.mjs';
import { inTime } from '../support/patience.mjs';
import { operators } from '../support/redis.mjs';
import { LIFE_ENV, Witness } from '../support/witness.mjs';
import { eventually } from '../support/world.mjs';

/** How long it is away, milliseconds: longer than a node believes that it is in the cluster. */
const AWAY_MS = Number(process.env.AWAY_MS ?? 6000);
/** How long a request that takes Redis may take to be refused: 1 s, and what busy cores add, milliseconds. */
const REFUSED_MS_MAX = 1300;
/** How long it may take until all is well, milliseconds. */
const HEALED_MS = 15_000;

const skip = alone;
/** Where slots move and masters change, the nodes' user has to be allowed more than elsewhere. */
const users = { calls: { password: 'p@ss', rules: operators().rules } };
const cluster = skip ? undefined : await Cluster.start({ env: LIFE_ENV, redisOptions: { users } });

const audio = (...others) => ({ type: 'audio', participantIds: others.map((it) => it.id) });

/** Refused in time, and told when to come back. */
async function away(ask) {
  const begun = performance.now();
  const { status, headers, body } = await ask();
  const tookMs = performance.now() - begun;
  assert.equal(status, 503, JSON.stringify(body));
  inTime(tookMs, REFUSED_MS_MAX, 'a refusal');
  assert.ok(Number(headers.get('retry-after')) >= 1, 'it says when to come back');
  return body.code;
}

/** The last that a device was told of somebody in a call: by a sync, or by an event since. */
function lastKnown(device, call, { id }) {
  const of = ({ event, data }) => {
    if (event === 'call:sync') {
      const synced = data.calls.find((it) => it.call.id === call.id);
      return synced?.participants.find((it) => it.userId === id);
    }
    return data?.callId === call.id && data.userId === id ? data.participant : undefined;
  };
  return device.log.map(of).filter(Boolean).at(-1);
}

/** Calls of which node 0 has each: one that goes on, with somebody at another node, and some that ring. */
async function scene() {
  const all = await cluster.connectedAt(0, 0, 1);
  const [[a], [b], [c]] = all;
  const call = await a.start([b, c]);
  await b.join(call);
  await c.join(call);
  const pairs = await Promise.all(
    [0, 1, 2].map(async () => {
      const [[from, fromDevice], [to, toDevice]] = await cluster.connectedAt(0, 0);
      const ringing = await from.start(to);
      await toDevice.until('call:incoming', { callId: ringing.id });
      return { from, fromDevice, to, toDevice, ringing };
    }),
  );
  return { call, all, pairs };
}

/** What has to work at a node without Redis, and what is refused. */
async function meanwhile({ call, all, pairs }) {
  const [[a, deviceA], [b, deviceB]] = all;
  const [declined, cancelled, waits] = pairs;
  const free = cluster.people(2);
  await Promise.all([
    ...[0, 1, 2].map((at) => away(() => free[0].at(at).rest('POST', '/start', audio(free[1])))),
    away(() => waits.to.at(1).rest('POST', `/${waits.ringing.id}/join`)),
  ]);
  await deviceA.do('call:toggle_audio', { callId: call.id, enabled: false });
  await deviceB.until('call:participant_updated', (it) => it.userId === a.id && !it.participant.audioEnabled);
  await a.want('PATCH', `/${call.id}/participant`, { screenShareEnabled: true });
  await declined.toDevice.do('call:decline', { callId: declined.ringing.id });
  await declined.fromDevice.until('call:ended', { callId: declined.ringing.id });
  await cancelled.from.end(cancelled.ringing);
  await cancelled.toDevice.until('call:ended', { callId: cancelled.ringing.id });
  await b.end(call);
  await deviceA.until('call:participant_left', { userId: b.id });
  assert.equal((await a.details(call)).call.endedAt, null);
  for (const node of cluster.nodes) assert.equal((await node.http('/health')).status, 200);
}

/** All nodes work together again, and those who were elsewhere know what they missed. */
async function healed({ call, all, pairs }) {
  const [[a, deviceA], [b], [c, deviceC]] = all;
  await eventually(
    'calls across nodes begin at every node',
    async () => {
      for (const at of [0, 1, 2]) {
        const [x, y] = cluster.people(2);
        const { status, body } = await x
          .at(at)
          .rest('POST', '/start', audio(y))
          .catch(() => ({}));
        if (status !== 201) return false;
        await y.insist('POST', `/${body.data.call.id}/join`);
        await x.insist('POST', `/${body.data.call.id}/end`);
      }
      return true;
    },
    { within: HEALED_MS, every: 250 },
  );
  const truth = await cluster.oneTruth(a, call, { within: HEALED_MS });
  const standing = (of) => truth.participants.find((it) => it.userId === of.id);
  assert.deepEqual([standing(a).audioEnabled, standing(a).screenShareEnabled], [false, true]);
  assert.equal(standing(b).connectionState, 'left');
  await eventually('who is elsewhere knows', () => lastKnown(deviceC, call, a)?.screenShareEnabled === true, {
    within: HEALED_MS,
  });
  for (const { from, to, ringing } of pairs.slice(0, 2)) {
    assert.notEqual((await cluster.oneTruth(to, ringing)).call.endedAt, null);
    await to.at(2).end(await to.at(2).start(from));
  }
  const [, , waits] = pairs;
  await waits.to.at(1).join(waits.ringing);
  await waits.fromDevice.until('call:state_changed', { callId: waits.ringing.id, state: 'connected' });
  await waits.to.at(2).end(waits.ringing);
  await deviceC.do('call:toggle_video', { callId: call.id, enabled: false });
  await deviceA.until('call:participant_updated', (it) => it.userId === c.id && !it.participant.videoEnabled);
  await a.at(2).end(call);
  for (const device of [deviceA, deviceC]) await device.until('call:ended', { callId: call.id });
  await cluster.idle();
  await cluster.flushed();
  cluster.check();
}

for (const [what, leave, come] of [
  ['hangs', (redis) => redis.freezeAll(), (redis) => (redis.thawAll(), redis.ready())],
  ['crashes, and comes back with nothing', (redis) => redis.crashAll(), (redis) => redis.startAll()],
]) {
  test(
    `all of Redis ${what}: calls go on where they are, and what takes others is refused`,
    { skip },
    async () => {
      const its = await scene();
      await leave(cluster.redis);
      const begun = Date.now();
      // From the first moment on, and when it is known to be away.
      const seen = await meanwhile(its).catch((error) => error);
      await pause(Math.max(0, AWAY_MS - (Date.now() - begun)));
      const free = cluster.people(2);
      const later = await away(() => free[0].at(1).rest('POST', '/start', audio(free[1]))).catch(
        (error) => error,
      );
      await come(cluster.redis);
      for (const it of [seen, later]) if (it instanceof Error) throw it;
      await healed(its);
    },
  );
}

/** The masters with a node's mailbox: where there is none by that name, any. */
async function mailboxOf(node) {
  for (const redis of cluster.redis.living) {
    const channels = await redis.ask(['PUBSUB', 'SHARDCHANNELS']);
    const its = channels.find((it) => it.includes(node.name));
    if (its) return its;
  }
  return undefined;
}

/** A call of which node 0 has the one end and node 1 the other, and whether each hears the other within that time. */
async function line() {
  const [[a, deviceA], [b, deviceB]] = await cluster.connectedAt(0, 1);
  // A node may only just be back.
  const begun = () => a.start(b).catch(() => undefined);
  const call = await eventually('the node starts calls', begun, { within: HEALED_MS, every: 250 });
  await b.insist('POST', `/${call.id}/join`);
  await deviceA.until('call:state_changed', { callId: call.id, state: 'connected' });
  let screenShareEnabled = false;
  const known = () =>
    [deviceA, deviceB].every((it) => lastKnown(it, call, b)?.screenShareEnabled === screenShareEnabled);
  /** A switch is turned at the one end until both know of it. */
  const turned = async () => {
    screenShareEnabled = !screenShareEnabled;
    await b.insist('PATCH', `/${call.id}/participant`, { screenShareEnabled });
    return eventually('it is known', known, { within: 3000 }).then(
      () => true,
      () => false,
    );
  };
  const works = (within) => eventually('it works from end to end', turned, { within });
  return { a, b, deviceA, deviceB, call, works };
}

test(
  'the master of a mailbox crashes: its replica takes over, and nothing is lost',
  { skip },
  async (context) => {
    const { a, b, call, works, deviceB } = await line();
    const channel = (await mailboxOf(cluster.node(1))) ?? 'nodes';
    // Also where something is wrong: what comes after wants all of Redis.
    context.after(() => cluster.redis.startAll());
    const begun = Date.now();
    const crashing = cluster.redis.crashMaster(channel);
    // One that is asked at the call's own node does not wait for it.
    await a.want('PATCH', `/${call.id}/participant`, { videoEnabled: false });
    const { tookMs } = await crashing;
    await works(HEALED_MS);
    context.diagnostic(`${channel}: failover ${tookMs} ms, all well after ${Date.now() - begun} ms`);
    await eventually(
      'it is known at the other node',
      () => lastKnown(deviceB, call, a)?.videoEnabled === false,
    );
    // The third node may be later than those two.
    const { call: still } = await cluster.oneTruth(a, call, { within: HEALED_MS });
    assert.deepEqual([still.state, still.endedAt], ['connected', null]);
    await cluster.redis.startAll();
    await b.at(2).end(call);
    await cluster.oneTruth(a, call);
  },
);

test("the slots of all mailboxes move: nobody's calls stop", { skip }, async (context) => {
  const { a, b, call, works } = await line();
  for (const node of cluster.nodes) {
    const channel = await mailboxOf(node);
    if (!channel) return context.skip(`no shard channel is named after ${node.name}`);
    const from = await cluster.redis.masterOf(channel);
    const masters = await Promise.all([0, 8000, 16_383].map((slot) => cluster.redis.masterOf(slot)));
    const begun = Date.now();
    await cluster.redis.migrateSlot(
      channel,
      from,
      masters.find((it) => it !== from),
    );
    await works(HEALED_MS);
    context.diagnostic(`${channel}: all well ${Date.now() - begun} ms after its slot began to move`);
  }
  // The last subscription may only be lost after that: then it is asked for again.
  await b.at(1).insist('POST', `/${call.id}/end`);
  await cluster.oneTruth(a, call);
});

test(
  'all of Redis goes back to what it was a while ago: nothing that was acknowledged since is undone',
  { skip },
  async () => {
    const witness = await Witness.open(cluster, { people: 18, clients: 6 });
    const life = witness.begin();
    await pause(1000);
    await cluster.redis.saveAll();
    await pause(2000);
    await cluster.redis.rollback();
    await pause(2000);
    await life.stop();
    await witness.finish();
  },
);

test('a life of calls goes on over a failover and a crash of all of Redis', { skip }, async (context) => {
  const witness = await Witness.open(cluster, { people: 18, clients: 6 });
  const life = witness.begin();
  await pause(1000);
  await cluster.redis.crashMaster('nodes');
  await pause(2000);
  await cluster.redis.crashAll();
  await pause(2000);
  await cluster.redis.startAll();
  await pause(2000);
  await life.stop();
  await witness.finish();
  context.diagnostic(`${witness.calls.length} calls, ${witness.acknowledged} acknowledgements`);
});
