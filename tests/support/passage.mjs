// Stands before a LiveKit's API and passes on what it is asked, slowly where told to, and counts how much of it at once.
import { createServer, request as ask } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';

/** What a client and a server agree on for their own connection only. */
const HOP = ['connection', 'keep-alive', 'transfer-encoding', 'content-length'];
const endToEnd = (headers) =>
  Object.fromEntries(Object.entries(headers).filter(([name]) => !HOP.includes(name)));

export class Passage {
  /** How long each request is held before it is passed on, milliseconds. */
  delay = 0;
  /** How many were here at once, at most. */
  peak = 0;
  /** How many came. */
  count = 0;
  #here = new Set();
  #server;

  constructor(livekit) {
    this.livekit = livekit;
  }

  static async open(livekit) {
    const it = new this(livekit);
    it.#server = createServer((request, response) => {
      it.#take(request, response).catch(() => response.destroy());
    });
    await new Promise((resolve) => it.#server.listen(0, '127.0.0.1', resolve));
    it.#server.unref();
    return it;
  }

  get url() {
    return `http://127.0.0.1:${this.#server.address().port}`;
  }

  /** The service's settings for it: clients are still sent to LiveKit itself. */
  get env() {
    return { ...this.livekit.env, LIVEKIT_API_URL: this.url };
  }

  async #take(request, response) {
    this.count += 1;
    this.#here.add(response);
    response.once('close', () => this.#here.delete(response));
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    // One that was given up a moment ago may be seen to go only after the next has come.
    await pause(this.delay / 2);
    this.peak = Math.max(this.peak, this.#here.size);
    await pause(this.delay / 2);
    const answer = await this.answer(request, Buffer.concat(chunks));
    response.writeHead(answer.status, answer.headers).end(answer.body);
  }

  /** What LiveKit says to it: `{status, headers, body}`. */
  answer(request, body) {
    const { port } = this.livekit.ports;
    const { method, url: path, headers } = request;
    return new Promise((resolve, reject) => {
      const asked = ask(
        { host: '127.0.0.1', port, method, path, headers: endToEnd(headers) },
        async (from) => {
          const chunks = [];
          for await (const chunk of from) chunks.push(chunk);
          const { statusCode: status } = from;
          resolve({ status, headers: endToEnd(from.headers), body: Buffer.concat(chunks) });
        },
      );
      asked.once('error', reject);
      asked.end(body);
    });
  }

  async close() {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
