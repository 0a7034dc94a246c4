// How long it takes until the calls of a node that is killed are others', and what live calls and connected users take meanwhile.
import assert from 'node:assert/strict';
import { pause } from '../../tests/support/chance.mjs';
import { tokenFor } from '../../tests/support/tokens.mjs';
import { Line, Socket, within } from './clients.mjs';
import { costing, heldBytes } from './cost.mjs';

/** How many do at once what has to be done for all. */
const AT_ONCE = 32;
/** How often it is looked how far they are, milliseconds. */
const LOOK_MS = 10;
/** How long all of it may take, milliseconds. */
const TAKEN_MS_MAX = 60_000;
/** How long what was asked for a moment ago may still be written, milliseconds. */
const SETTLE_MS = 500;
/** Calls, and people, that are looked at one by one. */
const LOOKED_AT = 20;

/** Does that for each of a list, some at once. */
async function forAll(list, work) {
  const left = list.entries();
  const one = async (worker) => {
    for (const [index, it] of left) await work(it, index, worker);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, (_, worker) => one(worker)));
}

/** People with a device each, at all nodes but the first where there are others. */
async function crowd(cluster, idle, count) {
  const others = cluster.nodes.length > 1 ? cluster.nodes.slice(1) : cluster.nodes;
  const people = Array.from({ length: count }, (_, index) => {
    const id = `crowd-${process.pid}-${cluster.nodes.length}-${index}`;
    return { id, token: tokenFor(id), node: others[index % others.length] };
  });
  const coming = await costing(cluster, idle, async () => {
    await forAll(people, async (it) => (it.socket = await Socket.open(it.node.url, it.token)));
    return { count };
  });
  return { people, coming, userBytes: await userBytes(cluster, people.slice(0, LOOKED_AT)) };
}

/** What Redis says that it holds of a user: too little to be seen in its memory as a whole. */
async function userBytes({ redis }, some) {
  const keys = some.map((it) => `calls:u:{${it.id}}`);
  const sizes = await Promise.all(keys.map((key) => redis.ask(key, ['MEMORY', 'USAGE', key])));
  return sizes.reduce((all, it) => all + it, 0) / some.length;
}

/** Calls of each two of them, which the first node has: their ids. */
async function callsOf(cluster, people) {
  const [node] = cluster.nodes;
  const lines = await Promise.all(Array.from({ length: AT_ONCE }, () => Line.open(node.url)));
  const pairs = Array.from({ length: people.length / 2 }, (_, at) => people.slice(2 * at, 2 * at + 2));
  const calls = [];
  await forAll(pairs, async ([a, b], index, worker) => {
    const body = { type: 'video', participantIds: [b.id] };
    const { call } = await lines[worker].want('POST', '/start', a.token, body);
    await lines[worker].want('POST', `/${call.id}/join`, b.token);
    calls.push({ id: call.id, epoch: call.epoch, token: a.token });
  });
  for (const it of lines) it.close();
  await pause(SETTLE_MS);
  return calls;
}

/** Asks Redis how many calls the node still has: a function, as the key's name and place are looked up before. */
async function remaining({ redis }, node) {
  const names = await redis.ask('calls:nodes', ['ZRANGE', 'calls:nodes', 0, -1]);
  const name = names.find((it) => it.startsWith(node.name));
  const key = `calls:n:{${name}}:calls`;
  const master = await redis.masterOf(key);
  return async () => Number(await master.ask(['SCARD', key]));
}

const live = async (cluster) =>
  (await Promise.all(cluster.living.map((it) => it.metric('calls_live')))).reduce((all, it) => all + it, 0);

/** When `look` first gives true. */
async function when(what, look) {
  const end = Date.now() + TAKEN_MS_MAX;
  while (!(await look())) {
    assert.ok(Date.now() < end, `not within ${TAKEN_MS_MAX} ms: ${what}`);
    await pause(LOOK_MS);
  }
  return Date.now();
}

/** When the first of the others said that the node is dead, by its log. */
function noticed(cluster) {
  const lines = cluster.living.flatMap((it) => it.service.lines);
  const said = lines.filter((it) => it.includes('a node is dead')).map((it) => JSON.parse(it).timestamp);
  return Math.min(...said.map((it) => Date.parse(it)));
}

/** When each of them has been told anew what is going on: the last one. */
async function allTold(people) {
  const told = people.map(({ socket }) => socket.next('call:sync', TAKEN_MS_MAX));
  await Promise.all(told);
  return Date.now();
}

/** All of them live, and are in a later ownership. */
async function check(cluster, calls) {
  const [node] = cluster.living;
  const line = await Line.open(node.url);
  for (const { id, epoch, token } of calls.slice(0, LOOKED_AT)) {
    const { call } = await line.want('GET', `/${id}`, token);
    assert.ok(call.epoch > epoch && call.endedAt === null, JSON.stringify(call));
  }
  line.close();
}

async function killed(cluster, people) {
  const left = await remaining(cluster, cluster.nodes[0]);
  const told = allTold(people);
  const since = Date.now();
  await cluster.kill(0);
  const taken = when('all are taken', async () => (await left()) === 0);
  const [takenAt, toldAt] = await within('all are told', Promise.all([taken, told]), TAKEN_MS_MAX);
  const noticedAt = noticed(cluster);
  return { noticedMs: noticedAt - since, takenMs: takenAt - noticedAt, toldMs: toldAt - since };
}

/** One that is started again at once has its calls again: when, and how many are at others, who took it for dead. */
async function restarted(cluster, { node, calls }, count) {
  const since = Date.now();
  await cluster.kill(node.index);
  await cluster.startAgain(node.index);
  const backAt = await when('all are back', async () => (await live(cluster)) >= count);
  return { backCalls: calls, backMs: backAt - since, strayed: calls - (await node.metric('calls_live')) };
}

/** Who has most of those calls; all of them are somewhere, and once. */
async function ownerOf(cluster, count) {
  const owned = await Promise.all(
    cluster.living.map(async (node) => ({ node, calls: await node.metric('calls_live') })),
  );
  const all = owned.reduce((sum, it) => sum + it.calls, 0);
  assert.equal(all, count, `calls at the nodes: ${owned.map((it) => it.calls)}`);
  return owned.sort((one, other) => other.calls - one.calls)[0];
}

/** Live calls of two at the first node, which is killed; then the one that has most of them is, and comes back. */
export async function taking(cluster, idle, { calls: count }) {
  const { people, coming, userBytes } = await crowd(cluster, idle, 2 * count);
  const before = await heldBytes(cluster);
  const calls = await callsOf(cluster, people);
  const callBytes = ((await heldBytes(cluster)) - before) / count;
  const others = cluster.nodes.length > 1;
  const taken = others && (await killed(cluster, people));
  const back = await restarted(cluster, await ownerOf(cluster, count), count);
  await check(cluster, calls);
  for (const it of people) it.socket.close();
  return { calls: count, ...taken, ...back, coming, userBytes, callBytes };
}
