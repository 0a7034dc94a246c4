// Recordings where there are many nodes: whichever node is asked to begin or end one, or told what became of it, the node that has the call
// does it and knows it, also the next one that has it; and where the file is gets into Postgres whoever hears of it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { alone } from '../support/cluster.mjs';
import { openHall } from '../support/hall.mjs';
import { webhooks, send } from '../support/webhooks.mjs';
import { eventually } from '../support/world.mjs';

/** How long a death may go unnoticed and unmended, milliseconds. */
const TAKEN_OVER_MS = 7000;
/** How long egress may take to begin: longer than one answer of a node to another may. */
const SLOW_MS = 1400;
const FOLDER = '/var/recordings';
const PUBLIC = 'https://files.example/of/calls';

const skip = alone;
const { gate, cluster } = skip
  ? {}
  : await openHall({
      env: {
        CONNECTION_TIMEOUT: '300',
        LIVEKIT_CHECK_INTERVAL: '500',
        RECORDING_DIR: FOLDER,
        RECORDING_PREFIX: 'calls/',
        RECORDING_PUBLIC_URL: PUBLIC,
      },
    });

const begin = (person, call) => person.want('POST', `/${call.id}/recording/start`);
const stop = (person, call) => person.want('POST', `/${call.id}/recording/stop`);
const listed = async (person, call) => (await person.want('GET', `/${call.id}/recordings`)).recordings;

/** A call of two at these nodes, the first of which has it. */
async function callAt(...nodes) {
  const [a, b] = nodes.map((at) => cluster.person('user', { at }));
  const call = await a.start(b);
  await b.join(call);
  return { a, b, call };
}

/** Begins a recording at that node: the recording as it is shown, with `egressId`. */
async function recorded(person, node, call) {
  const known = new Set(gate.of(call.roomId));
  const { recording } = await begin(person.at(node), call);
  const [{ egressId }] = gate.of(call.roomId).filter((it) => !known.has(it));
  return { ...recording, egressId };
}

/** LiveKit tells that node that the file of a recording is there. */
async function tellFile(node, call, { egressId, s3Key }) {
  const startedMs = Date.now() - 7000;
  const ended = webhooks.egressEnded({
    egressId,
    room: call.roomId,
    startedMs,
    endedMs: startedMs + 7000,
    file: { filename: `${FOLDER}/${s3Key}`, size: '123456' },
  });
  const { status, text } = await send(cluster.node(node), ended);
  assert.equal(status, 200, text);
}

const urlOf = ({ s3Key }) => `${PUBLIC}/${s3Key}`;
const row = async ({ id }) => cluster.postgres.one(`SELECT recording_url FROM calls WHERE id = '${id}'`);

/** Every node that lives shows that the file is there, and Postgres has it. */
async function hasFile(person, call, recording) {
  let all;
  const everywhere = async () => {
    all = await cluster.everywhere(async (node) => {
      const found = (await listed(person.at(node), call)).find((it) => it.id === recording.id);
      const { call: now } = await person.at(node).details(call);
      return [found?.status, found?.url, now.recordingUrl];
    });
    return all.every((it) => it.join() === ['completed', urlOf(recording), urlOf(recording)].join());
  };
  await eventually('all nodes show the file', everywhere, { every: 100 }).catch((error) => {
    throw new Error(`${error.message}: ${JSON.stringify(all)}`);
  });
  await eventually('Postgres has it', async () => (await row(call)) === urlOf(recording));
}

const takenOver = (person, { id, epoch }) =>
  eventually(
    'it is taken over',
    async () => (await person.details(id).catch(() => undefined))?.call.epoch > epoch,
    { within: TAKEN_OVER_MS, every: 50 },
  );

test('asked and told at other nodes, the owner does it', { skip }, async () => {
  const { a, b, call } = await callAt(0, 1);
  gate.takes.StartRoomCompositeEgress = SLOW_MS;
  const first = await recorded(a, 1, call);
  gate.takes = {};
  assert.equal(gate.all('StartRoomCompositeEgress', { room: call.roomId }).length, 1);
  await a.at(2).refused(409, 'conflict', 'POST', `/${call.id}/recording/start`);
  await b.at(2).refused(403, 'forbidden', 'POST', `/${call.id}/recording/stop`);
  for (const node of cluster.nodes) {
    assert.equal((await b.at(node).details(call)).call.recordingEnabled, true);
  }
  await stop(a.at(2), call);
  await gate.stopped(first.egressId);
  await tellFile(2, call, first);
  await hasFile(b, call, first);
  // The file of one that goes on until the call ends is told of after that, at a node that never had it.
  const second = await recorded(a, 2, call);
  await b.end(call);
  await a.end(call);
  await gate.stopped(second.egressId);
  await tellFile(1, call, second);
  await hasFile(b, call, second);
});

test('the next owner knows what is being recorded', { skip }, async () => {
  const { a, b, call } = await callAt(0, 1);
  const one = await recorded(a, 0, call);
  const before = (await b.details(call)).call;
  await cluster.flushed();
  await cluster.kill(0);
  await takenOver(b, before);
  await a.at(1).refused(409, 'conflict', 'POST', `/${call.id}/recording/start`);
  assert.equal((await b.details(call)).call.recordingEnabled, true);
  const { recording } = await stop(a.at(2), call);
  assert.equal(recording.id, one.id);
  await gate.stopped(one.egressId);
  // A node that has no row of it in its own file.
  const { call: now } = await b.details(call);
  for (const node of [1, 2]) await tellFile(node, call, one);
  await hasFile(b, call, one);
  // What the former owner has to say changes nothing.
  await cluster.startAgain(0);
  await cluster.flushed();
  await hasFile(b, call, one);
  assert.equal(now.endedAt, null);
  await a.at(1).end(call);
  await cluster.flushed();
  await hasFile(b, call, one);
});

test('the node that had the call is gone when its file is told of', { skip }, async () => {
  const { a, b, call } = await callAt(2, 1);
  const one = await recorded(a, 1, call);
  await b.end(call);
  await a.end(call);
  await gate.stopped(one.egressId);
  await cluster.flushed();
  await cluster.kill(2);
  // Nobody answers for it until it counts as dead: LiveKit tells again.
  await eventually(
    'it is heard',
    () =>
      tellFile(0, call, one).then(
        () => true,
        () => false,
      ),
    { within: TAKEN_OVER_MS, every: 500 },
  );
  await hasFile(b, call, one);
  await cluster.startAgain(2);
  await cluster.flushed();
  assert.equal(await row(call), urlOf(one), 'an older row takes nothing away');
});
