// A real LiveKit on this machine, and the part of its API that tests ask for.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { built, freePort, Server } from './servers.mjs';
import { seconds, sign } from './tokens.mjs';

/** How long LiveKit may take to answer a test, milliseconds: it takes three seconds to say that it knows no such room. */
const ANSWER_MS_MAX = 6000;
const TOKEN_SECONDS = 600;
/** How long after it first answers LiveKit still misses that it is told to end, milliseconds. */
const DEAF_MS = 150;

export const KEY = 'calls';
export const SECRET = 'a secret that only this LiveKit and its tests know';

/** What LiveKit says when it does not do what it was asked to. */
export class LiveKitError extends Error {
  constructor(method, status, text) {
    // Where the token was not accepted, the answer is no JSON and repeats the token.
    const { code, msg } = text.startsWith('{') ? JSON.parse(text) : { msg: 'no answer that can be shown' };
    super(`${method}: ${status} ${code ?? ''} ${msg}`);
    Object.assign(this, { status, code });
  }
}

/** LiveKit's API at some address, signed with some key; `livekit.api` has the right ones. */
export class LiveKitApi {
  constructor({ url, key = KEY, secret = SECRET }) {
    Object.assign(this, { url, key, secret });
  }

  /** A token with these grants, for `identity`. */
  token(video, { identity, name, ttl = TOKEN_SECONDS, ...claims } = {}) {
    const now = seconds();
    return sign(
      { iss: this.key, sub: identity, name, nbf: now, exp: now + ttl, video, ...claims },
      { secret: this.secret },
    );
  }

  /** A token to join a room with, as an app gets it. */
  joinToken(room, identity, { grants = {}, ...options } = {}) {
    return this.token(
      { roomJoin: true, room, canPublish: true, canSubscribe: true, ...grants },
      { identity, ...options },
    );
  }

  /** Calls any method of any of its services. */
  async ask(service, method, body = {}, { grants, within = ANSWER_MS_MAX } = {}) {
    const room = body.room ?? body.name;
    const all = { roomCreate: true, roomList: true, roomAdmin: true, roomRecord: true, room };
    const answer = await fetch(`${this.url}/twirp/livekit.${service}/${method}`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        authorization: `Bearer ${this.token(grants ?? all)}`,
      },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(within),
    });
    const text = await answer.text();
    if (!answer.ok) throw new LiveKitError(method, answer.status, text);
    return JSON.parse(text);
  }

  /** All rooms, or those of these names. */
  async rooms(names = []) {
    const { rooms = [] } = await this.ask('RoomService', 'ListRooms', { names });
    return rooms;
  }

  /** Who is in a room. */
  async participants(room) {
    const { participants = [] } = await this.ask('RoomService', 'ListParticipants', { room });
    return participants;
  }

  /** Makes a room; `options` such as `{empty_timeout: 10, max_participants: 2, metadata}`. */
  createRoom(name, options = {}) {
    return this.ask('RoomService', 'CreateRoom', { name, ...options });
  }

  deleteRoom(room) {
    return this.ask('RoomService', 'DeleteRoom', { room });
  }

  removeParticipant(room, identity) {
    return this.ask('RoomService', 'RemoveParticipant', { room, identity });
  }

  mute(room, identity, sid, muted) {
    return this.ask('RoomService', 'MutePublishedTrack', { room, identity, track_sid: sid, muted });
  }

  /** Changes `{metadata, name, permission, attributes}` of a participant. */
  updateParticipant(room, identity, changes) {
    return this.ask('RoomService', 'UpdateParticipant', { room, identity, ...changes });
  }
}

/** A LiveKit server. Rooms exist only once they were made: no old token brings one back. */
export class LiveKit extends Server {
  key = KEY;
  secret = SECRET;
  // Told once it waits for its participants to leave, told twice it does not.
  endings = ['SIGTERM', 'SIGINT'];
  #ready = 0;

  constructor(ports, { webhookUrls = [], settings = {} }) {
    super('livekit');
    this.ports = ports;
    /** Where its webhooks go, from the next start on. */
    this.webhookUrls = webhookUrls;
    /** Settings beyond those below, from the next start on; a section takes the place of ours. */
    this.settings = settings;
  }

  /**
   * Chooses its ports without starting it: its address can be told to the service, and the service's to `webhookUrls`, before
   * `begin`.
   */
  static async reserve(options = {}) {
    const port = options.port ?? (await freePort());
    return new LiveKit({ port, tcp: await freePort(), udp: await freePort() }, options);
  }

  static async start(options) {
    return (await LiveKit.reserve(options)).begin();
  }

  /** Holds it, and waits until it is held: all its threads hear of it, but not all at once. */
  async hold() {
    this.freeze();
    const isHeld = () => this.api.ask('RoomService', 'ListRooms', {}, { within: 200 }).catch(() => 'held');
    while ((await isHeld()) !== 'held');
  }

  /** What clients and the service are given as LIVEKIT_URL. */
  get url() {
    return `ws://127.0.0.1:${this.ports.port}`;
  }

  get apiUrl() {
    return `http://127.0.0.1:${this.ports.port}`;
  }

  get api() {
    return new LiveKitApi({ url: this.apiUrl, key: this.key, secret: this.secret });
  }

  /** The service's settings for it. */
  get env() {
    return { LIVEKIT_URL: this.url, LIVEKIT_API_KEY: this.key, LIVEKIT_API_SECRET: this.secret };
  }

  #config() {
    return {
      port: this.ports.port,
      bind_addresses: ['127.0.0.1'],
      keys: { [this.key]: this.secret },
      rtc: {
        use_external_ip: false,
        node_ip: '127.0.0.1',
        tcp_port: this.ports.tcp,
        udp_port: this.ports.udp,
        // Without it there is no media at all where a machine has no other interface.
        enable_loopback_candidate: true,
      },
      room: { auto_create: false },
      ...(this.webhookUrls.length > 0 && { webhook: { api_key: this.key, urls: this.webhookUrls } }),
      logging: { level: 'info', pion_level: 'error' },
      ...this.settings,
    };
  }

  /** Starts it, for the first time or again after `halt` or `crash`, on the same ports. Rooms of before are gone. */
  async begin() {
    const file = join(this.folder, 'livekit.yaml');
    // JSON is YAML.
    writeFileSync(file, JSON.stringify(this.#config(), null, 2));
    const isReady = () =>
      fetch(this.apiUrl, { signal: AbortSignal.timeout(1000) }).then(
        (it) => it.ok,
        () => false,
      );
    await this.launch(built('livekit'), ['--config', file], isReady);
    this.#ready = Date.now();
    return this;
  }

  async halt() {
    const early = this.#ready + DEAF_MS - Date.now();
    if (early > 0) await pause(early);
    return super.halt();
  }

  /** Ends it, unless it has ended, and starts it again on the same ports. */
  async restart() {
    await this.halt();
    return this.begin();
  }
}
