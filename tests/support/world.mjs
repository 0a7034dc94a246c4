// A running service and the people who use it.
import assert from 'node:assert/strict';
import { after } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { Device } from './device.mjs';
import { SLACK } from './patience.mjs';
import { startService } from './service.mjs';
import { tokenFor } from './tokens.mjs';

let people = 0;

/** Asks over HTTP: `{status, headers, body}`, the body parsed where it is JSON. */
export async function http(url, { method = 'GET', body, headers = {}, ...options } = {}) {
  const isJson = body !== undefined && typeof body !== 'string';
  const answer = await fetch(url, {
    method,
    headers: { ...(isJson && { 'content-type': 'application/json' }), ...headers },
    body: isJson ? JSON.stringify(body) : body,
    ...options,
  });
  const text = await answer.text();
  const parses = answer.headers.get('content-type')?.startsWith('application/json') && text !== '';
  return { status: answer.status, headers: answer.headers, body: parses ? JSON.parse(text) : text };
}

/** One user, with a token. */
export class Person {
  constructor(world, id, options = {}) {
    this.world = world;
    this.id = id;
    this.token = tokenFor(id, options);
  }

  /** Asks the calls' API, `path` beginning after `/api/v1/calls`. */
  rest(method, path, body, headers = {}) {
    const authorization = `Bearer ${this.token}`;
    return http(`${this.world.url}/api/v1/calls${path}`, {
      method,
      body,
      headers: { authorization, ...headers },
    });
  }

  /** Asks as `rest` does; people of several nodes ask again where the nodes could not reach each other in time. */
  patient(method, path, body, headers) {
    return this.rest(method, path, body, headers);
  }

  /** Asks and has to succeed; gives `data`, or the message. */
  async want(method, path, body, headers) {
    const { status, body: answer } = await this.patient(method, path, body, headers);
    assert.ok(status < 300 && answer.success, `${method} ${path}: ${status} ${JSON.stringify(answer)}`);
    return answer.data ?? answer.message;
  }

  /** Asks and has to be refused with that status and code; gives the whole answer. */
  async refused(status, code, method, path, body, headers) {
    const answer = await this.patient(method, path, body, headers);
    assert.deepEqual(
      [answer.status, answer.body.success, answer.body.code],
      [status, false, code],
      `${method} ${path}: ${JSON.stringify(answer.body)}`,
    );
    assert.equal(typeof answer.body.error, 'string');
    return answer.body;
  }

  /** Calls others: the call. */
  async start(others, options = {}) {
    const participantIds = [others].flat().map((it) => it.id ?? it);
    const { call } = await this.want('POST', '/start', { type: 'video', participantIds, ...options });
    return call;
  }

  join(call, body, headers) {
    return this.want('POST', `/${call.id ?? call}/join`, body, headers);
  }

  end(call) {
    return this.want('POST', `/${call.id ?? call}/end`);
  }

  /** `{call, participants}`. */
  details(call) {
    return this.want('GET', `/${call.id ?? call}`);
  }

  /** The own participant object. */
  async standing(call) {
    const { participants } = await this.details(call);
    return participants.find((it) => it.userId === this.id);
  }

  /** A device that is connected and has its `call:sync`. */
  async connect({ deviceId, token = this.token, ...options } = {}) {
    const device = new Device(this.world.socketUrl ?? this.world.url, {
      auth: { token, deviceId },
      ...options,
    });
    this.world.devices.push(device);
    await device.connected();
    device.sync = await device.until('call:sync');
    return device;
  }
}

/** A running service and the people who use it. */
export class World {
  devices = [];

  #closed = false;

  constructor(service, { stops }) {
    this.service = service;
    // Where a test that stops its service itself failed half-way, nothing of it must keep the process.
    after(() => this.#closed || (stops ? this.abandon() : this.close()));
  }

  /** Starts a service for the tests of this file; it stops after them, and every device's order is checked. */
  static async open(env = {}, options = {}) {
    return new World(await startService({ env, ...options }), { stops: false });
  }

  /** Starts a service that the test itself stops. */
  static async start(env = {}, options = {}) {
    return new World(await startService({ env, ...options }), { stops: true });
  }

  get url() {
    return this.service.url;
  }

  /** Somebody nobody knows yet. */
  person(name = 'user', options = {}) {
    people += 1;
    return new Person(this, `${name}-${process.pid}-${people}`, { name: name, ...options });
  }

  /** So many of them. */
  people(count) {
    return Array.from({ length: count }, (_, index) => this.person((10 + index).toString(36)));
  }

  /** So many, each with one device: `[[person, device], ...]`. */
  async connectedPeople(count) {
    const all = this.people(count);
    return Promise.all(all.map(async (it) => [it, await it.connect()]));
  }

  /** A call of two that is connected: `{a, b, call}`, with a device each where `connect`. */
  async callOfTwo({ connect = true, ...options } = {}) {
    const [a, b] = this.people(2);
    const [deviceA, deviceB] = connect ? [await a.connect(), await b.connect()] : [];
    const call = await a.start(b, options);
    await b.join(call);
    return { a, b, deviceA, deviceB, call };
  }

  /** Asks any path of the service, as nobody. */
  http(path, options) {
    return http(`${this.url}${path}`, options);
  }

  /** Ends everything at once, whatever state it is in. */
  async abandon() {
    this.#closed = true;
    for (const device of this.devices) device.close();
    return this.service.crash();
  }

  /** Ends everything in order, and looks whether it was in order. */
  async close() {
    this.#closed = true;
    for (const device of this.devices) device.close();
    const how = await this.service.stop();
    for (const device of this.devices) device.checkOrder();
    const panics = this.service.lines.filter((line) => line.includes('panic'));
    assert.deepEqual(panics, []);
    assert.deepEqual(how, { code: 0, signal: null });
  }
}

/** Waits until `look` gives something true, which it should `within` so many milliseconds on a quiet machine. */
export async function eventually(what, look, { within = 5000, every = 25 } = {}) {
  const end = Date.now() + SLACK * within;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > end) assert.fail(`not within ${SLACK * within} ms: ${what}`);
    await pause(every);
  }
}
