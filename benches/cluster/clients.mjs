// Clients that cost little beside what is measured: prepared bytes over one connection, and Socket.IO's frames over a bare websocket.
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { connect } from 'node:net';
import { tokenFor } from '../../tests/support/tokens.mjs';

const require = createRequire(new URL('../../tests/package.json', import.meta.url));
const WebSocket = require('ws');

/** How long an answer may take, milliseconds. */
const ANSWER_MS_MAX = 10_000;

/** What settles within that time, or fails. */
export function within(what, promise, ms = ANSWER_MS_MAX) {
  let late;
  const lateness = new Promise((_, reject) => {
    late = setTimeout(() => reject(new Error(`not within ${ms} ms: ${what}`)), ms);
  });
  return Promise.race([promise, lateness]).finally(() => clearTimeout(late));
}

/** A request's bytes, to be sent any number of times. */
export function request(method, path, token, body) {
  const text = body === undefined ? '' : JSON.stringify(body);
  const head = [
    `${method} /api/v1/calls${path} HTTP/1.1`,
    'host: localhost',
    `authorization: Bearer ${token}`,
    'content-type: application/json',
    `content-length: ${text.length}`,
  ];
  return Buffer.from(`${head.join('\r\n')}\r\n\r\n${text}`);
}

/** One connection that is kept, with one request at a time. */
export class Line {
  #socket;
  #text = '';
  #waiting;

  static async open(url) {
    const { hostname, port } = new URL(url);
    const it = new Line();
    it.#socket = connect({ host: hostname, port, noDelay: true });
    it.#socket.setEncoding('latin1').on('data', (text) => it.#take(text));
    const lost = (error) => it.#waiting?.reject(error ?? new Error('the connection is closed'));
    it.#socket.on('error', lost).on('close', () => lost());
    await once(it.#socket, 'connect');
    return it;
  }

  #take(text) {
    this.#text += text;
    const head = this.#text.indexOf('\r\n\r\n');
    if (head < 0) return;
    const length = Number(/\r\ncontent-length: (\d+)/i.exec(this.#text)?.[1] ?? 0);
    if (this.#text.length < head + 4 + length) return;
    const answer = { status: Number(this.#text.slice(9, 12)), body: this.#text.slice(head + 4) };
    this.#text = '';
    this.#waiting.resolve(answer);
  }

  /** Sends a request and gives its answer, which has to be a success. */
  async ask(bytes) {
    const answered = new Promise((resolve, reject) => (this.#waiting = { resolve, reject }));
    this.#socket.write(bytes);
    const { status, body } = await answered;
    if (status >= 300) throw new Error(`${bytes.toString().split('\r\n')[0]}: ${status} ${body}`);
    return body;
  }

  /** The same for one that is sent once: `data` of the answer. */
  async want(...words) {
    return JSON.parse(await this.ask(request(...words))).data;
  }

  close() {
    this.#socket.destroy();
  }
}

/** A device: hears all events, acknowledges those that want it, and answers pings. */
export class Socket {
  /** Called with each event as it came, `["name",...]`. */
  hear = () => {};
  #web;
  #asked;
  #synced;

  /** Connected, and told what is going on. */
  static async open(url, token) {
    const it = new Socket();
    const synced = new Promise((resolve, reject) => (it.#synced = { resolve, reject }));
    const address = `${url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket`;
    it.#web = new WebSocket(address, { perMessageDeflate: false, skipUTF8Validation: true });
    it.#web.on('message', (data) => it.#take(data.toString('latin1'), token));
    // One that is lost later, with its node, is no fault.
    it.#web
      .on('error', it.#synced.reject)
      .on('close', () => it.#synced.reject(new Error('the socket is closed')));
    await within('call:sync', synced);
    return it;
  }

  #take(text, token) {
    if (text === '2') return this.#web.send('3');
    if (text.startsWith('0')) return this.#web.send(`40${JSON.stringify({ token })}`);
    if (text.startsWith('44')) return this.#synced.reject(new Error(text));
    if (text.startsWith('43')) return this.#asked(text);
    if (!text.startsWith('42')) return undefined;
    const begin = text.indexOf('[');
    if (begin > 2) this.#web.send(`43${text.slice(2, begin)}[]`);
    if (text.startsWith('["call:sync"', begin)) this.#synced.resolve();
    return this.hear(text.slice(begin));
  }

  /** Sends an event, written down as `["name",...]`. */
  tell(event) {
    this.#web.send(`42${event}`);
  }

  /** The same, and waits for its acknowledgement, which has to be a success. */
  async ask(event) {
    const asked = new Promise((resolve) => (this.#asked = resolve));
    this.#web.send(`421${event}`);
    const answer = await asked;
    if (!answer.includes('"success":true')) throw new Error(`${event}: ${answer}`);
  }

  /** When an event of that name comes: its data. */
  next(name, ms) {
    const before = this.hear;
    const heard = new Promise((resolve) => {
      this.hear = (event) => {
        if (!event.startsWith(`["${name}"`)) return before(event);
        this.hear = before;
        return resolve(JSON.parse(event)[1]);
      };
    });
    return within(name, heard, ms);
  }

  close() {
    this.#web.terminate();
  }
}

let people = 0;

/** Somebody whom nobody knows yet, who asks that node and, where `listens`, has a device there. */
export async function user(node, { listens = false } = {}) {
  people += 1;
  const id = `user-${process.pid}-${people}`;
  const token = tokenFor(id);
  const [line, socket] = await Promise.all([
    Line.open(node.url),
    listens ? Socket.open(node.url, token) : undefined,
  ]);
  const close = () => (line.close(), socket?.close());
  return { id, token, line, socket, close };
}

/** A call of these two that is connected; the node that the first one asks has it. Its id. */
export async function connected(a, b) {
  const started = await a.line.want('POST', '/start', a.token, { type: 'video', participantIds: [b.id] });
  await b.line.want('POST', `/${started.call.id}/join`, b.token);
  return started.call.id;
}
