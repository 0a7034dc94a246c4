// A device of a user: Socket.IO (protocol 5 over Engine.IO 4) on k6's websocket.
import { WebSocket } from 'k6/websockets';
import { BASE } from './users.js';

const PATH = '/socket.io/?EIO=4&transport=websocket';
/** How long anything may take before it counts as lost, milliseconds. */
const PATIENCE_MS = 15000;

const EVENT = /^42(\d*)(\[.*\])$/s;
const ACK = /^43(\d+)(\[.*\])$/s;

/** A promise, and what settles it; it fails on its own after a while. */
function awaited(what) {
  const it = {};
  it.promise = new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`${what}: nothing in ${PATIENCE_MS} ms`)), PATIENCE_MS);
    const once = (settle) => (value) => {
      clearTimeout(late);
      settle(value);
    };
    it.resolve = once(resolve);
    it.reject = once(reject);
  });
  return it;
}

export class Device {
  constructor(person) {
    this.person = person;
    this.heard = [];
    this.waiting = [];
    this.asked = {};
    this.count = 0;
    /** Called with the name and the data of each event, once it is set. */
    this.onevent = undefined;
  }

  /** Connects; settles with what `call:sync` says. */
  connect() {
    this.heard = [];
    this.closed = awaited('the end of a connection');
    this.socket = new WebSocket(`${BASE.replace(/^http/, 'ws')}${PATH}`);
    // Not upon the service's first packet, as others do: k6 loses what comes before it has told of the opening.
    this.socket.addEventListener('open', () =>
      this.socket.send(`40${JSON.stringify({ token: this.person.token })}`),
    );
    this.socket.addEventListener('message', ({ data }) => this.take(data));
    this.socket.addEventListener('error', ({ error }) => this.fail(error));
    this.socket.addEventListener('close', () => {
      this.closed.resolve();
      this.fail('the connection is closed');
    });
    return this.until('call:sync');
  }

  fail(why) {
    for (const it of this.waiting) it.done.reject(new Error(`${it.event}: ${why}`));
    this.waiting = [];
  }

  take(packet) {
    if (packet === '2') return this.socket.send('3');
    if (packet.startsWith('44')) return this.fail(packet);
    const ack = ACK.exec(packet);
    if (ack) {
      this.asked[ack[1]].resolve(JSON.parse(ack[2])[0]);
      delete this.asked[ack[1]];
      return undefined;
    }
    const found = EVENT.exec(packet);
    if (!found) return undefined;
    const [event, data] = JSON.parse(found[2]);
    if (found[1] !== '') this.socket.send(`43${found[1]}[]`);
    if (this.onevent) this.onevent(event, data);
    const wanted = this.waiting.find((it) => it.event === event && it.fits(data));
    if (!wanted) return this.heard.push({ event, data });
    this.waiting.splice(this.waiting.indexOf(wanted), 1);
    return wanted.done.resolve(data);
  }

  /** What the next event of that name carries, come already or still to come. */
  until(event, fits = () => true) {
    const index = this.heard.findIndex((it) => it.event === event && fits(it.data));
    if (index >= 0) return Promise.resolve(this.heard.splice(index, 1)[0].data);
    const done = awaited(event);
    this.waiting.push({ event, fits, done });
    return done.promise;
  }

  /** Sends an event and settles with its acknowledgement. */
  ask(event, data) {
    const id = this.count;
    this.count += 1;
    this.asked[id] = awaited(event);
    this.socket.send(`42${id}${JSON.stringify([event, data])}`);
    return this.asked[id].promise;
  }

  /** Sends an event and waits for nothing. */
  tell(event, data) {
    this.socket.send(`42${JSON.stringify([event, data])}`);
  }

  /** Goes, and settles when it is gone. */
  close() {
    this.socket.close();
    return this.closed.promise;
  }
}
