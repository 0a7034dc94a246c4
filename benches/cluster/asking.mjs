// What it costs to ask a node that has the call, and one that has to ask another.
import { connected, request, user } from './clients.mjs';
import { costing, summed } from './cost.mjs';

const SAMPLE = { jitter: 10, packetLoss: 0.5, roundTripTime: 50 };

/** Fresh media settings, a durable change that the others hear of, and a quality sample. */
const KINDS = {
  token: (seat) => seat.line.ask(seat.token),
  toggle: (seat, turn) => seat.line.ask(seat.toggles[turn % 2]),
  sample: (seat) => seat.socket.ask(seat.sample),
};

/** One who is in a call that the node `at` has, and asks the one `away` further. */
async function seat(cluster, at, away) {
  const [a, b] = [await user(cluster.node(at)), await user(cluster.node(at + away), { listens: true })];
  const call = await connected(a, b);
  const toggle = (audioEnabled) => request('PATCH', `/${call}/participant`, b.token, { audioEnabled });
  return {
    line: b.line,
    socket: b.socket,
    token: request('POST', `/${call}/token`, b.token),
    toggles: [toggle(false), toggle(true)],
    sample: JSON.stringify(['call:quality_update', { callId: call, ...SAMPLE }]),
    leave: async () => {
      await a.line.want('POST', `/${call}/end`, a.token);
      for (const it of [a, b]) it.close();
    },
  };
}

/** All of them ask, each again once it has its answer: how long that took. */
async function asked(seats, ask, seconds) {
  const times = [];
  const end = performance.now() + seconds * 1000;
  const one = async (it) => {
    for (let turn = 0; performance.now() < end; turn += 1) {
      const begun = performance.now();
      await ask(it, turn);
      times.push(performance.now() - begun);
    }
  };
  await Promise.all(seats.map(one));
  return summed(times);
}

/** Each kind of request, by one at a time and by many, `away` nodes from where the calls are. */
export async function asking(cluster, idle, { away, seats: count, seconds }) {
  const seats = await Promise.all(Array.from({ length: count }, (_, at) => seat(cluster, at, away)));
  const figures = {};
  for (const [kind, ask] of Object.entries(KINDS)) {
    await asked(seats, ask, seconds / 4);
    figures[kind] = {
      alone: await costing(cluster, idle, () => asked(seats.slice(0, 1), ask, seconds)),
      many: await costing(cluster, idle, () => asked(seats, ask, seconds)),
    };
  }
  await Promise.all(seats.map((it) => it.leave()));
  return figures;
}
