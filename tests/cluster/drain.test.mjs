// A node is told to stop: it says so, gives its calls to others and lets its clients go one after the other; nobody is the worse for it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pause } from '../support/chance.mjs';
import { alone, Cluster } from '../support/cluster.mjs';
import { LIFE_ENV, Witness } from '../support/witness.mjs';
import { eventually } from '../support/world.mjs';

/** How soon it has to say that it drains, milliseconds. */
const SAID_MS_MAX = 1000;
const SOCKETS = 40;
/** In so many pieces of time of that length, milliseconds, sockets have to go at least: not all at once. */
const PIECE_MS = 250;
const PIECES_MIN = 4;
/** Of those who are let go: in a call at another node. */
const GUESTS = 7;
/** How often somebody in that call is heard of, and how late what happens may be known, milliseconds. */
const TOGGLE_MS = 200;
const LATE_MS = 500;

const cluster = await Cluster.start({ env: LIFE_ENV });

/** Does it again and again until that is over. */
async function until(over, work) {
  let going = true;
  over.finally(() => (going = false));
  for (let turn = 0; going; turn += 1) {
    await work(turn);
    await pause(TOGGLE_MS);
  }
}

test(
  'a node that is told to stop hands over its calls, spreads its clients, and exits 0',
  { skip: alone },
  async (context) => {
    const [[a, deviceA], [b, deviceB]] = await cluster.connectedAt(0, 1);
    const call = await a.start(b);
    await b.join(call);
    const [[x], [y, deviceY]] = await cluster.connectedAt(0, 2);
    const ringing = await x.start(y);
    await deviceY.until('call:incoming', { callId: ringing.id });
    const crowd = await cluster.connectedAt(...Array(SOCKETS).fill(0));
    const [[host, hostDevice]] = await cluster.connectedAt(1);
    const guests = crowd.slice(0, GUESTS);
    const party = await host.start(guests.map(([guest]) => guest));
    for (const [guest] of guests) await guest.join(party);
    const node = cluster.node(0);
    const since = Date.now();
    const stopping = node.stop();
    const toggling = until(stopping, async (turn) => {
      await hostDevice.do('call:toggle_audio', { callId: party.id, enabled: turn % 2 === 0 });
    });
    const ready = await eventually(
      'it says that it drains',
      async () => {
        const answer = await node.http('/ready').catch(() => ({}));
        return answer.status === 503 && answer;
      },
      { within: SAID_MS_MAX },
    );
    assert.equal(ready.body.status, 'draining');
    const [one, other] = cluster.people(2);
    const body = { type: 'audio', participantIds: [other.id] };
    const refused = await one.at(0).rest('POST', '/start', body);
    assert.deepEqual([refused.status, refused.body.code], [503, 'draining']);
    assert.ok(Number(refused.headers.get('retry-after')) >= 1);
    // Elsewhere one starts, also towards somebody who is still there.
    await one.at(1).end(await one.at(1).start(crowd.at(-1)[0]));
    const tookMs = await stopping;
    context.diagnostic(`it stopped in ${tookMs} ms`);
    await toggling;

    const gone = crowd.map(([, device]) =>
      device.log.find((it) => it.event === 'disconnect' && it.at >= since),
    );
    assert.ok(gone.every(Boolean), 'each is told to go');
    const pieces = new Set(gone.map((it) => Math.floor(it.at / PIECE_MS)));
    assert.ok(pieces.size >= PIECES_MIN, `all went in ${pieces.size} pieces of ${PIECE_MS} ms`);
    await Promise.all(crowd.map(([, device]) => device.synced({ since })));
    const told = hostDevice.log.filter((it) => it.event === 'call:participant_updated' && it.at >= since);
    for (const [index, [guest, device]] of guests.entries()) {
      const left = gone[index].at;
      const lost = told.find(
        ({ data, at }) =>
          data.userId === guest.id &&
          data.participant.connectionState === 'reconnecting' &&
          at < left - LATE_MS,
      );
      assert.equal(lost, undefined, 'who is still there does not count as lost');
      const [expected, heard] = [told, device.log].map((log) =>
        log.filter((it) => it.event === 'call:participant_updated' && it.data.userId === host.id),
      );
      for (const { data, at } of expected.filter((it) => it.at < left - LATE_MS))
        assert.ok(
          heard.some((it) => it.data.seq === data.seq && it.at <= left),
          `${data.seq}, told ${left - at} ms before it went, is heard there`,
        );
    }
    await host.end(party);
    const synced = await deviceA.synced({ since });
    assert.deepEqual(
      synced.calls.map((it) => it.call.id),
      [call.id],
    );
    for (const [person, its, state] of [
      [b, call, 'connected'],
      [y, ringing, 'ringing'],
    ]) {
      // Whoever has come to another node is told what goes on before the call's new owner hears of the coming.
      const now = await eventually(`it is ${state} again`, async () => {
        const { call } = await cluster.oneTruth(person, its);
        return call.state === state && call;
      });
      assert.ok(now.epoch > its.epoch, `epoch ${now.epoch} after ${its.epoch}`);
    }
    await deviceA.do('call:toggle_audio', { callId: call.id, enabled: false });
    await deviceB.until(
      'call:participant_updated',
      (it) => it.userId === a.id && !it.participant.audioEnabled,
    );
    await deviceY.do('call:accept', { callId: ringing.id });
    await x.at(1).end(ringing);
    await deviceY.until('call:ended', { callId: ringing.id });
    await b.end(call);
    await deviceA.until('call:ended', { callId: call.id });
    await cluster.startAgain(0);
    assert.equal((await cluster.oneTruth(a, call)).call.state, 'ended');
  },
);

test('all nodes are stopped and started in turn: nothing fails that is tried once more', async (context) => {
  const witness = await Witness.open(cluster, { people: 18, clients: 4 });
  const life = witness.begin();
  const stops = [];
  for (const node of cluster.nodes) {
    await pause(500);
    stops.push(await node.stop());
    await node.start();
  }
  await pause(500);
  await life.stop();
  await witness.finish();
  const tries = [...witness.tries].sort().map(([count, times]) => `${times} at try ${count}`);
  context.diagnostic(
    `stopped in ${stops.join(', ')} ms; ${witness.calls.length} calls, ${witness.acknowledged} acknowledgements; answers: ${tries.join(', ')}`,
  );
  if (!alone)
    assert.deepEqual(
      [...witness.tries.keys()].filter((it) => it > 2),
      [],
      witness.slow.join('\n'),
    );
});
