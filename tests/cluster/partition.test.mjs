// One node can't reach Redis while its clients reach it, or is held for a while: others take its calls over, and when it is back there is one
// truth.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pause } from '../support/chance.mjs';
import { alone, Cluster } from '../support/cluster.mjs';
import { noNetworks } from '../support/netns.mjs';
import { inTime } from '../support/patience.mjs';
import { eventually } from '../support/world.mjs';

/** How long others wait for its beat, and what busy cores add, milliseconds. */
const TAKEN_OVER_MS = 8000;
/** After how long it believes no more that it is in the cluster, milliseconds. */
const FENCED_MS = 4500;
const REFUSED_MS_MAX = 1300;
const HEALED_MS = 15_000;
/** Within how long all have heard a node's beat, milliseconds. */
const HEARD_MS = 1200;
/** How long a call that comes back would need to be seen, milliseconds. */
const FORGOTTEN_MS = 1500;

const skip = alone || noNetworks();
const cluster = skip ? undefined : await Cluster.start({ redis: 'single', network: true });

test(
  'a node is cut off from Redis: it gives way, and what ended on either side has ended',
  { skip },
  async () => {
    const [cut] = cluster.nodes;
    const [[a, deviceA], [b, deviceB], [c, deviceC]] = await cluster.connectedAt(0, 0, 1);
    const lives = await a.start([b, c]);
    await b.join(lives);
    await c.join(lives);
    const [[d], [e, deviceE]] = await cluster.connectedAt(0, 1);
    const endsHere = await d.start(e);
    await e.join(endsHere);
    const [[f, deviceF], [g]] = await cluster.connectedAt(0, 2);
    const endsThere = await f.start(g);
    await g.join(endsThere);

    const since = Date.now();
    cut.place.cut();
    // Nothing is known of it yet: those at the node go on.
    await deviceA.do('call:toggle_audio', { callId: lives.id, enabled: false });
    await deviceB.until('call:participant_updated', { userId: a.id });
    await new Promise((resolve) => setTimeout(resolve, FENCED_MS));
    for (const [person, path, body] of [
      [cluster.person('x', { at: 0 }), '/start', { type: 'audio', participantIds: ['somebody'] }],
      [a, `/${lives.id}/token`],
    ]) {
      const begun = performance.now();
      const { status, headers } = await person.rest('POST', path, body);
      assert.equal(status, 503, path);
      inTime(performance.now() - begun, REFUSED_MS_MAX, path);
      assert.ok(headers.get('retry-after') >= 1, path);
    }
    // Ends are kept wherever they are told.
    await b.at(0).end(lives);
    await d.at(0).end(endsHere);

    const others = cluster.nodes.slice(1);
    const views = (person, call) => Promise.all(others.map((it) => person.at(it).details(call)));
    await eventually(
      'the others have its calls',
      async () => {
        const all = await Promise.all([views(c, lives), views(g, endsThere)]).catch(() => []);
        return all.length > 0 && all.flat().every(({ call }) => call.epoch > lives.epoch);
      },
      { within: TAKEN_OVER_MS },
    );
    await deviceC.synced({ since, within: TAKEN_OVER_MS });
    await c.want('PATCH', `/${lives.id}/participant`, { videoEnabled: false });
    await g.end(endsThere);
    assert.equal((await g.details(endsThere)).call.state, 'ended');
    assert.equal((await cut.http('/health')).status, 200);

    cut.place.heal();
    const back = Date.now();
    const truth = await cluster.oneTruth(a, lives, { within: HEALED_MS });
    await eventually(
      'the leaving has come through',
      async () => (await b.at(2).standing(lives)).connectionState === 'left',
      { within: HEALED_MS },
    );
    assert.ok(truth.call.epoch > lives.epoch);
    assert.equal((await c.standing(lives)).videoEnabled, false);
    await deviceA.synced({ since: back, within: HEALED_MS });
    for (const [person, call] of [
      [d, endsHere],
      [f, endsThere],
    ]) {
      let said;
      const over = async () => {
        said = (await cluster.oneTruth(person, call, { within: HEALED_MS })).call;
        return said.endedAt !== null;
      };
      await eventually('it is over on both sides', over, { within: HEALED_MS }).catch((error) => {
        throw new Error(`${error.message}: ${JSON.stringify(said)} where ${JSON.stringify(call)} ended`);
      });
      assert.deepEqual([said.state, said.endReason], ['ended', 'normal']);
    }
    // By the event; or where whoever took over found it ended already, as Postgres knew, by a state without it.
    const knows = (device, { id }) =>
      device.heard(id).includes('call:ended') ||
      device
        .all('call:sync')
        .at(-1)
        .calls.every((it) => it.call.id !== id);
    await eventually('who was elsewhere knows of the end', () => knows(deviceE, endsHere));
    await eventually('who was cut off with it knows of the end', () => knows(deviceF, endsThere));
    await c.at(0).end(lives);
    await a.at(1).end(lives);
    await cluster.idle({ within: HEALED_MS });
    await cluster.flushed();
    for (const { id } of [lives, endsHere, endsThere]) {
      // Each side tells its own people of the end; numbers jump by a million when a call comes to another owner.
      const ends = `SELECT max(ends) FROM (SELECT count(*) AS ends FROM call_events
        WHERE call_id = '${id}' AND name = 'call:ended' GROUP BY seq / 1000000) AS owners`;
      assert.equal(await cluster.postgres.one(ends), '1', `${id} is told to end once by each owner`);
      assert.equal(await cluster.postgres.one(`SELECT state FROM calls WHERE id = '${id}'`), 'ended');
    }
  },
);

/**
 * A call that the caller's node has and keeps. That node may only just be back: what it begins before all have heard that it lives is taken
 * from it.
 */
function begun(caller, others) {
  const begin = async () => {
    const body = { type: 'video', participantIds: others.map((it) => it.id) };
    const { status, body: said } = await caller.rest('POST', '/start', body);
    if (status !== 201) {
      if (said.data?.callId) await caller.at(1).end(said.data.callId);
      return undefined;
    }
    await pause(HEARD_MS);
    const { call } = await caller.at(1).details(said.data.call);
    if (call.epoch === said.data.call.epoch) return call;
    await caller.at(1).end(call);
    return undefined;
  };
  return eventually('the node starts calls', begin, { within: HEALED_MS, every: 250 });
}

test('a node that was held too long gives way: what was done meanwhile holds', { skip }, async () => {
  const [[a, deviceA], [b, deviceB], [c, deviceC]] = await cluster.connectedAt(0, 1, 2);
  const call = await begun(a, [b, c]);
  await b.join(call);
  await c.join(call);
  const since = Date.now();
  const node = cluster.node(0);
  node.freeze();
  for (const device of [deviceB, deviceC]) await device.synced({ since, within: TAKEN_OVER_MS });
  await deviceB.do('call:toggle_audio', { callId: call.id, enabled: false });
  await deviceC.until('call:participant_updated', (it) => it.userId === b.id && !it.participant.audioEnabled);
  await c.end(call);
  const back = Date.now();
  node.thaw();
  const { call: now, participants } = await cluster.oneTruth(b, call, { within: HEALED_MS });
  assert.ok(now.epoch > call.epoch);
  assert.equal(participants.find((it) => it.userId === c.id).connectionState, 'left');
  const { calls } = await deviceA.synced({ since: back });
  assert.ok(calls.find((it) => it.call.id === call.id).call.epoch > call.epoch);
  await a.at(0).end(call);
  await deviceB.until('call:ended', { callId: call.id });
  assert.equal((await cluster.oneTruth(b, call)).call.state, 'ended');
  await cluster.idle();
});

test('a node that was held until Redis had forgotten a call does not bring it back', { skip }, async () => {
  const [[a, deviceA], [b, deviceB], [c]] = await cluster.connectedAt(0, 1, 2);
  const call = await begun(a, [b, c]);
  await b.join(call);
  const node = cluster.node(0);
  node.freeze();
  const isTaken = async () => {
    const { status, body } = await b.at(1).rest('GET', `/${call.id}`);
    return status === 200 && body.data.call.epoch > call.epoch;
  };
  await eventually('another has it', isTaken, { within: TAKEN_OVER_MS, every: 250 });
  await a.at(1).end(call);
  await b.at(1).end(call);
  await deviceB.until('call:ended', { callId: call.id });
  const stored = `SELECT state FROM calls WHERE id = '${call.id}'`;
  await eventually('Postgres has its end', async () => (await cluster.postgres.one(stored)) === 'ended');
  // As ten minutes later.
  const key = `calls:c:{${call.id}}`;
  await cluster.redis.ask(['DEL', key]);
  const back = Date.now();
  node.thaw();
  const { calls } = await deviceA.synced({ since: back });
  assert.deepEqual(calls, []);
  await pause(FORGOTTEN_MS);
  assert.equal(await cluster.redis.ask(['EXISTS', key]), 0);
  for (const [person, at] of [
    [a, 0],
    [b, 1],
  ])
    assert.deepEqual((await person.at(at).want('GET', '/active')).calls, []);
  assert.equal(await node.metric('calls_live'), 0);
  await a.at(0).end(await a.at(0).start(b));
  await cluster.idle();
});
