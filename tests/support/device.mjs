// One device of a user: a stock Socket.IO client that remembers every event it hears.
import assert from 'node:assert/strict';
import { io } from 'socket.io-client';
import { SLACK } from './patience.mjs';

/** How long an event may take that does not wait for a timer, milliseconds: a cold start on busy cores included. */
export const PATIENCE = 5000;

const named = (where) =>
  typeof where === 'function'
    ? where
    : (data) => Object.entries(where).every(([key, value]) => data?.[key] === value);

/** A connected device; `Person.connect` makes them. */
export class Device {
  /** Every event as it came: `{event, data, at, node}`, where `data` is the first argument. */
  log = [];
  /** Whether to acknowledge `call:incoming`, which says that the device rings. */
  rings = true;
  /** How often it has asked for something, again included. */
  asked = 0;
  #taken = new Set();
  #waiting = new Set();

  constructor(url, options) {
    this.open(url, options);
  }

  /** Opens a socket; what it hears goes to the log. */
  open(url, options) {
    this.socket = io(url, { forceNew: true, transports: ['websocket'], reconnection: false, ...options });
    this.socket.onAny((event, ...args) => this.#hear(event, args));
    this.socket.on('disconnect', (reason) => this.#hear('disconnect', [reason]));
  }

  #hear(event, args) {
    const ack = args.at(-1);
    if (typeof ack === 'function' && this.rings) ack();
    this.log.push({ event, data: args[0], at: Date.now(), node: this.node?.name });
    for (const look of this.#waiting) look();
  }

  /** Settles once the service let it in, fails with the service's `{message, data}` where it did not. */
  connected() {
    return new Promise((resolve, reject) => {
      this.socket.once('connect', () => resolve(this));
      this.socket.once('connect_error', reject);
      // Lost between the transport's beginning and the answer.
      this.socket.once('disconnect', (reason) => reject(new Error(reason)));
    });
  }

  /** What the first event of that name, not asked for before and fitting `where`, carried. */
  until(event, where = {}, { within = PATIENCE } = {}) {
    const fits = named(where);
    return new Promise((resolve, reject) => {
      const look = () => {
        const found = this.log.find((it) => it.event === event && !this.#taken.has(it) && fits(it.data));
        if (!found) return false;
        this.#taken.add(found);
        this.#waiting.delete(look);
        clearTimeout(late);
        resolve(found.data);
        return true;
      };
      const give_up = () => {
        this.#waiting.delete(look);
        const heard = this.log.map((it) => `${it.event} ${JSON.stringify(it.data)}`).join('\n  ');
        reject(
          new Error(`no ${event} ${JSON.stringify(where)} within ${SLACK * within} ms; heard:\n  ${heard}`),
        );
      };
      const late = setTimeout(give_up, SLACK * within);
      if (!look()) this.#waiting.add(look);
    });
  }

  /** The events of one call, or all, by name. */
  heard(callId) {
    return this.log.filter((it) => !callId || it.data?.callId === callId).map((it) => it.event);
  }

  /** All that events of that name carried. */
  all(event) {
    return this.log.filter((it) => it.event === event).map((it) => it.data);
  }

  /** Sends an event and gives its acknowledgement. */
  ask(event, data) {
    this.asked += 1;
    return this.socket.timeout(SLACK * PATIENCE).emitWithAck(event, data);
  }

  /** Asks as `ask` does; devices of several nodes ask again where the nodes could not reach each other in time. */
  patient(event, data) {
    return this.ask(event, data);
  }

  /** Sends an event that has to succeed; gives the acknowledgement's `data`. */
  async do(event, data) {
    const answer = await this.patient(event, data);
    assert.equal(answer.success, true, `${event}: ${JSON.stringify(answer)}`);
    return answer.data;
  }

  /** Sends an event without asking for an acknowledgement. */
  tell(event, data) {
    this.socket.emit(event, data);
  }

  /** Waits until everything that the service had sent before now is here. */
  async settled() {
    // An unknown event is answered at once, after whatever was queued for this socket before.
    await this.ask('test:fence', {});
    return this;
  }

  /** Every event of a call but `call:sync`, after which all begins anew, and `call:error` carries a growing `seq` and a time. */
  checkOrder() {
    const last = new Map();
    for (const { event, data } of this.log) {
      if (event === 'call:sync') last.clear();
      if (!event.startsWith('call:') || event === 'call:sync' || event === 'call:error') continue;
      assert.equal(typeof data.seq, 'number', `${event} has no seq`);
      assert.match(data.timestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/, event);
      const before = last.get(data.callId) ?? 0;
      assert.ok(data.seq > before, `${event} of ${data.callId}: seq ${data.seq} after ${before}`);
      last.set(data.callId, data.seq);
    }
  }

  /** Goes away as a closed app does. */
  close() {
    this.socket.disconnect();
  }

  /** Goes away without a word, as a lost network does. */
  cut() {
    this.socket.io.engine.close();
  }
}
