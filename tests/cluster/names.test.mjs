// Whose a room is at LiveKit is said by a name that is the deployment's, not a node's: made once, known to all of its nodes, also while
// Postgres is away; a node that was alone brings its rooms along.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { alone, ClusterNode } from '../support/cluster.mjs';
import { openHall } from '../support/hall.mjs';
import { inTime } from '../support/patience.mjs';
import { door, onlyRoomsOf, roomOf, timed } from '../support/rooms.mjs';
import { runToEnd } from '../support/service.mjs';
import { freePort } from '../support/servers.mjs';
import { eventually, World } from '../support/world.mjs';

const CHECK_MS = 300;
/** How long a start waits for Postgres that it can't do without, milliseconds; and what the rest of a start may take. */
const DATABASE_WAIT_MS = 5000;
const START_MS_MAX = 3000;

const skip = alone;
const hall = skip
  ? {}
  : await openHall({
      nodes: 2,
      env: { LIVEKIT_CHECK_INTERVAL: String(CHECK_MS), CONNECTION_TIMEOUT: '300', RINGING_TIMEOUT: '300' },
    });
const { livekit, gate, cluster, watch } = hall;

const nameOf = (room) => JSON.parse(room.metadata).service;
const roomsOf = async (call) => (await livekit.api.rooms([roomOf(call)]))[0];
const known = () => cluster.postgres.one('SELECT id FROM instance');

/** A call that rings, from that node: its room. */
async function ringingAt(node) {
  // One that has only just started may not decide yet.
  const isReady = async () => (await cluster.node(node).http('/ready')).status === 200;
  await eventually('it is ready', isReady);
  const [a, b] = cluster.people(2);
  const call = await a.at(node).start(b);
  return { a, call, room: await watch.keep(call) };
}

async function over({ a, call }, node) {
  watch.release(call);
  await a.at(node).end(call);
  const gone = async () => (await roomsOf(call)) === undefined;
  await eventually('the room is gone', gone);
}

const takesPart = (node) =>
  eventually('it takes part', async () => (await node.http('/ready')).body.checks.bus === 'ok');

test('nodes that start at once give their rooms one name, that of all', { skip }, async () => {
  const all = [await ringingAt(0), await ringingAt(1)];
  assert.equal(await cluster.postgres.one('SELECT count(*) FROM instance'), '1');
  const name = await known();
  assert.match(name, /^[0-9a-f]{32}$/);
  assert.deepEqual(
    all.map((it) => nameOf(it.room)),
    [name, name],
  );
  await over(all[0], 1);
  await over(all[1], 0);
});

test('a node that was alone brings the rooms of its live calls along', { skip }, async () => {
  const node = new ClusterNode(cluster, 2);
  const single = await World.start(
    { ...gate.env, LIVEKIT_CHECK_INTERVAL: String(CHECK_MS), RINGING_TIMEOUT: '300' },
    { dataDir: node.dataDir },
  );
  const [a, b, c, d] = single.people(4);
  const call = await a.start(b);
  await b.join(call);
  const ended = await c.start(d);
  const room = await watch.keep(call);
  const name = await known();
  assert.notEqual(nameOf(room), name, 'a node alone has a name of its own');
  // It dies before it has closed the room of a call that is over.
  gate.rules.DeleteRoom = () => {
    throw new Error('lost');
  };
  await c.end(ended);
  await single.abandon();
  delete gate.rules.DeleteRoom;
  cluster.nodes.push(node);
  await node.start();
  await takesPart(node);
  const isAdopted = async () => nameOf(await roomsOf(call)) === name;
  await eventually('the room is adopted', isAdopted);
  await onlyRoomsOf(livekit, [call]);
  for (const it of [a, b]) it.world = cluster.node(0);
  const { token } = await b.want('POST', `/${call.id}/token`);
  assert.equal(await door(livekit, token.token), 200);
  watch.release(call);
  await a.end(call);
  await onlyRoomsOf(livekit, []);
});

test(
  'a node that knows the name starts without Postgres, one that never did is refused',
  { skip },
  async () => {
    const name = await known();
    await cluster.kill(1);
    await cluster.postgres.crash();
    const [took] = await timed(() => cluster.startAgain(1));
    inTime(took, START_MS_MAX);
    await takesPart(cluster.node(1));
    const ringing = await ringingAt(1);
    assert.equal(nameOf(ringing.room), name);

    const env = { ...(await cluster.env({})), PORT: String(await freePort()), NODE_NAME: 'stranger' };
    const [waited, { code, stderr }] = await timed(() => runToEnd({ env }));
    assert.equal(code, 1);
    const [line, ...more] = stderr.split('\n').filter((it) => it !== '' && !it.startsWith('{'));
    assert.deepEqual(more, []);
    assert.match(line, /^DATABASE_URL: the first start of a node with LIVEKIT_URL takes Postgres/);
    assert.ok(waited > DATABASE_WAIT_MS - 500, `${waited} ms`);
    inTime(waited, DATABASE_WAIT_MS + START_MS_MAX);

    // One that comes while it is looked for is waited for.
    const late = new ClusterNode(cluster, 3);
    const starting = late.start();
    await cluster.postgres.start();
    await starting;
    cluster.nodes.push(late);
    await takesPart(late);
    const another = await ringingAt(3);
    assert.equal(nameOf(another.room), name);
    await over(ringing, 3);
    await over(another, 1);
  },
);

test('no room of a live call was ever gone', { skip }, () => {
  assert.deepEqual(watch.faults, []);
  assert.ok(watch.looks > 50, `${watch.looks} looks`);
});
