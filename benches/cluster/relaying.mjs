// What it costs to pass signaling from a socket to another, at the same node and at another.
import { pause } from '../../tests/support/chance.mjs';
import { connected, user } from './clients.mjs';
import { costing, summed } from './cost.mjs';

/** As long as a candidate with its envelope is. */
const MESSAGE_BYTES = 330;
/** How long one that is on its way is waited for, milliseconds. */
const STRAGGLER_MS = 500;

/** Messages from one device to another, each with its number. */
class Stream {
  #sent = [];
  times = [];
  /** Called when one has come. */
  heard = () => {};

  static async open(cluster, at, away) {
    const it = new Stream();
    const nodes = [cluster.node(at), cluster.node(at + away)];
    it.people = await Promise.all(nodes.map((node) => user(node, { listens: true })));
    const [a, b] = it.people;
    it.call = await connected(a, b);
    it.#write(b);
    b.socket.hear = (event) => it.#hear(event);
    a.socket.hear = (event) => {
      if (event.startsWith('["call:error"')) throw new Error(event);
    };
    return it;
  }

  #write(b) {
    const candidate = { candidate: 'candidate:1 1 udp 2122260223 #|', sdpMid: '0', sdpMLineIndex: 0 };
    const envelope = { callId: this.call, targetUserId: b.id, candidate };
    const [head, tail] = JSON.stringify(['webrtc:ice_candidate', envelope]).split('|');
    this.head = head;
    this.tail = ' '.padEnd(MESSAGE_BYTES - head.length - tail.length - 9, 'x') + tail;
  }

  send() {
    this.people[0].socket.tell(this.head + String(this.#sent.length).padStart(9, '0') + this.tail);
    this.#sent.push(performance.now());
  }

  #hear(event) {
    if (!event.startsWith('["webrtc:')) return;
    const at = event.indexOf('#') + 1;
    this.times.push(performance.now() - this.#sent[Number(event.slice(at, at + 9))]);
    this.heard();
  }

  get waiting() {
    return this.#sent.length - this.times.length;
  }

  /** Waits for those on their way; what does not come is lost. */
  async settled() {
    for (let last; this.waiting > 0 && last !== this.waiting; await pause(STRAGGLER_MS)) last = this.waiting;
    const all = { times: this.times, lost: this.waiting };
    this.#sent = [];
    this.times = [];
    return all;
  }

  async leave() {
    const [a] = this.people;
    await a.line.want('POST', `/${this.call}/end`, a.token);
    for (const it of this.people) it.close();
  }
}

/** So many are on their way at any time. */
async function windowed(streams, size, seconds) {
  let going = true;
  for (const it of streams) {
    it.heard = () => going && it.send();
    for (let count = 0; count < size; count += 1) it.send();
  }
  await pause(seconds * 1000);
  going = false;
  return gathered(streams);
}

/** So many a second are sent, whatever comes of them. */
async function paced(streams, rate, seconds) {
  for (const it of streams) it.heard = () => {};
  const begun = performance.now();
  for (let sent = 0; sent < rate * seconds; await pause(1)) {
    const due = Math.min(rate * seconds, ((performance.now() - begun) * rate) / 1000);
    for (; sent < due; sent += 1) streams[sent % streams.length].send();
  }
  return gathered(streams);
}

async function gathered(streams) {
  const all = await Promise.all(streams.map((it) => it.settled()));
  return {
    ...summed(all.flatMap((it) => it.times)),
    lost: all.reduce((sum, it) => sum + it.lost, 0),
  };
}

/** Between two people `away` nodes from each other: one message at a time, as many as go, and at half that rate. */
export async function relaying(cluster, idle, { away, pairs, window, seconds }) {
  const opened = Array.from({ length: pairs }, (_, at) => Stream.open(cluster, at, away));
  const streams = await Promise.all(opened);
  const cost = (work) => costing(cluster, idle, work);
  await windowed(streams, window, seconds / 4);
  const alone = await cost(() => windowed(streams.slice(0, 1), 1, seconds));
  const most = await cost(() => windowed(streams, window, seconds));
  const half = await cost(() => paced(streams, most.rate / 2, seconds));
  await Promise.all(streams.map((it) => it.leave()));
  return { alone, most, half };
}
