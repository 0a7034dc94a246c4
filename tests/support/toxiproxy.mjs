// A real Toxiproxy: stands before another server and makes the way there slow, narrow or broken.
import { freePort, Server, built } from './servers.mjs';

const ANSWER_MS_MAX = 5000;

/** One way to a server. */
export class Proxy {
  #api;
  #toxics = 0;

  constructor(api, name, port) {
    this.#api = api;
    this.name = name;
    this.port = port;
  }

  get host() {
    return `127.0.0.1:${this.port}`;
  }

  /**
   * Adds a toxic: 'latency' `{latency, jitter}`, 'bandwidth' `{rate}` in KB/s, 'timeout' `{timeout}` (says nothing more, and closes
   * after as many milliseconds, at 0 never), 'reset_peer' `{timeout}`, 'slow_close' `{delay}`, 'limit_data' `{bytes}`. It works on what the
   * server sends, 'upstream' on what it is sent, and on that share of the connections that `toxicity` says. Gives what takes it out again.
   */
  async add(type, attributes = {}, { stream = 'downstream', toxicity = 1 } = {}) {
    this.#toxics += 1;
    const name = `${type}-${this.#toxics}`;
    const path = `/proxies/${this.name}/toxics`;
    await this.#api('POST', path, { name, type, stream, toxicity, attributes });
    return () => this.#api('DELETE', `${path}/${name}`);
  }

  /** Cuts all connections, and refuses new ones. */
  close() {
    return this.#api('POST', `/proxies/${this.name}`, { enabled: false });
  }

  open() {
    return this.#api('POST', `/proxies/${this.name}`, { enabled: true });
  }

  /** Takes all toxics out. */
  async clear() {
    const all = await this.#api('GET', `/proxies/${this.name}/toxics`);
    for (const { name } of all) await this.#api('DELETE', `/proxies/${this.name}/toxics/${name}`);
  }

  remove() {
    return this.#api('DELETE', `/proxies/${this.name}`);
  }
}

/** The server of such proxies. */
export class Toxiproxy extends Server {
  #proxies = 0;

  constructor(port) {
    super('toxiproxy');
    this.port = port;
  }

  static async start() {
    const it = new Toxiproxy(await freePort());
    const isReady = () =>
      it.ask('GET', '/version').then(
        () => true,
        () => false,
      );
    return it.launch(built('toxiproxy'), ['-host', '127.0.0.1', '-port', String(it.port)], isReady);
  }

  /** Asks its API. */
  async ask(method, path, body) {
    const answer = await fetch(`http://127.0.0.1:${this.port}${path}`, {
      method,
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(ANSWER_MS_MAX),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return text === '' ? undefined : JSON.parse(text);
  }

  /** A way to `upstream`, a port of this machine or `host:port`. */
  async before(upstream) {
    this.#proxies += 1;
    const name = `way-${this.#proxies}`;
    const port = await freePort();
    await this.ask('POST', '/proxies', {
      name,
      listen: `127.0.0.1:${port}`,
      upstream: typeof upstream === 'number' ? `127.0.0.1:${upstream}` : upstream,
      enabled: true,
    });
    return new Proxy((...args) => this.ask(...args), name, port);
  }
}
