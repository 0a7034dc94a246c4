// Webhooks as LiveKit sends them, made here, and a relay for those of a real LiveKit that loses, holds, doubles and shuffles them.
import { createHash, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { KEY, SECRET } from './livekit.mjs';
import { SLACK } from './patience.mjs';
import { seconds, sign } from './tokens.mjs';

/** How long LiveKit's signature holds, seconds. */
const VALID_SECONDS = 300;
/** How long the service may take to answer a webhook, milliseconds. */
const ANSWER_MS_MAX = 10_000;
/** How long a webhook that does not wait for a timer may take to come, milliseconds. */
const PATIENCE = 5000;

const LETTERS = 'abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789';
const unique = (prefix) =>
  prefix + Array.from(randomBytes(12), (it) => LETTERS[it % LETTERS.length]).join('');
const now = () => String(seconds());
const inNanoseconds = (ms) => String(BigInt(Math.round(ms)) * 1_000_000n);

const sids = new Map();
/** The same sid for the same room as long as the tests run, as for one life of a room. */
const roomSid = (name) => sids.get(name) ?? sids.set(name, unique('RM_')).get(name);

const event = (name, fields, { id = unique('EV_'), createdAt = now(), ...more }) => ({
  event: name,
  ...fields,
  id,
  createdAt,
  ...more,
});

const named = (room) => (typeof room === 'string' ? { name: room } : room);
const identified = (participant) =>
  typeof participant === 'string' ? { identity: participant } : participant;
/** What holds the default of its schema LiveKit leaves out. */
const unless = (usual, fields) =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== usual));

const roomOf = (room) => {
  const { name, ...more } = named(room);
  return {
    sid: roomSid(name),
    name,
    emptyTimeout: 300,
    departureTimeout: 20,
    creationTime: now(),
    creationTimeMs: String(Date.now()),
    turnPassword: 'never to be kept',
    enabledCodecs: [{ mime: 'video/VP8' }, { mime: 'audio/opus' }],
    ...more,
  };
};

/** Of one stay; somebody who comes back has another, which is up to the test. */
const staySid = (room, identity) =>
  `PA_${createHash('sha256')
    .update(`${named(room).name} ${identity}`)
    .digest('hex')
    .slice(0, 12)}`;

const participantOf = (room, participant) => {
  const { identity, ...more } = identified(participant);
  return {
    sid: staySid(room, identity),
    identity,
    state: 'ACTIVE',
    joinedAt: now(),
    joinedAtMs: String(Date.now()),
    version: 2,
    permission: { canSubscribe: true, canPublish: true, canPublishData: true },
    clientProtocol: 2,
    ...more,
  };
};

const TRACKS = {
  // AUDIO is the default of the type.
  MICROPHONE: { source: 'MICROPHONE', mimeType: 'audio/red' },
  CAMERA: { type: 'VIDEO', source: 'CAMERA', mimeType: 'video/VP8', width: 160, height: 120 },
  SCREEN_SHARE: { type: 'VIDEO', source: 'SCREEN_SHARE', mimeType: 'video/VP8', width: 320, height: 180 },
  SCREEN_SHARE_AUDIO: { source: 'SCREEN_SHARE_AUDIO', mimeType: 'audio/red' },
};
const trackOf = (track) => {
  const { source, ...more } = typeof track === 'string' ? { source: track } : track;
  return { sid: unique('TR_'), ...TRACKS[source], ...more };
};

/** With a track come no more than the names of its room and of whose it is. */
const trackIn = (room, participant, track) => {
  const { name, sid = roomSid(name) } = named(room);
  const { identity, sid: stay = staySid(room, identity) } = identified(participant);
  return { room: { sid, name }, participant: { sid: stay, identity }, track: trackOf(track) };
};

/** Of a recording: `{status, file, error, ...}` beside what is always there; `file` is `{filename, size, location, ...}`. */
const egressOf = ({ egressId, room, startedMs = Date.now(), endedMs, file, ...more }) => {
  const { sid, name } = roomOf(room);
  const times = endedMs && { endedAt: inNanoseconds(endedMs) };
  const took = endedMs && { duration: inNanoseconds(endedMs - startedMs) };
  return unless('EGRESS_STARTING', {
    egressId,
    roomId: sid,
    roomName: name,
    roomComposite: { roomName: name, layout: 'grid' },
    startedAt: inNanoseconds(startedMs),
    updatedAt: inNanoseconds(Date.now()),
    ...times,
    ...(file && {
      fileResults: [{ startedAt: inNanoseconds(startedMs), ...times, ...took, ...file }],
    }),
    ...more,
  });
};

/**
 * Each makes one webhook. A room is its name or `{name, ...}`, a participant the identity or `{identity, sid, ...}`, a track its
 * source or `{source, sid, muted, ...}`; `more` replaces fields of the event itself, such as `id` and `createdAt`.
 */
export const webhooks = {
  roomStarted: (room, more = {}) => event('room_started', { room: roomOf(room) }, more),
  roomFinished: (room, more = {}) => event('room_finished', { room: roomOf(room) }, more),
  participantJoined: (room, participant, more = {}) =>
    event('participant_joined', { room: roomOf(room), participant: participantOf(room, participant) }, more),
  participantLeft: (room, participant, reason = 'CLIENT_INITIATED', more = {}) => {
    const gone = { ...participantOf(room, participant), state: 'DISCONNECTED', disconnectReason: reason };
    const left = unless('UNKNOWN_REASON', gone);
    return event('participant_left', { room: roomOf(room), participant: left }, more);
  },
  trackPublished: (room, participant, track, more = {}) =>
    event('track_published', trackIn(room, participant, track), more),
  trackUnpublished: (room, participant, track, more = {}) =>
    event('track_unpublished', trackIn(room, participant, track), more),
  /** `{egressId, room, startedMs?, endedMs?, status?, file?, error?}`. */
  egressStarted: (egress, more = {}) =>
    event('egress_started', { egressInfo: egressOf({ status: 'EGRESS_ACTIVE', ...egress }) }, more),
  egressUpdated: (egress, more = {}) =>
    event('egress_updated', { egressInfo: egressOf({ status: 'EGRESS_ENDING', ...egress }) }, more),
  egressEnded: (egress, more = {}) => {
    const ending = { status: 'EGRESS_COMPLETE', endedMs: Date.now(), ...egress };
    return event('egress_ended', { egressInfo: egressOf(ending) }, more);
  },
};

/**
 * A webhook as it is posted: `{body, headers}`. What can be wrong with it: `key` and `secret` of somebody else, `alg`, a `hash` that
 * is not the body's (`null`: none), an `age` in seconds after which it comes, an `authorization` of one's own (`null`: none), a
 * `contentType`, a `body` other than the one that was signed, and any of the token's `claims`.
 */
export function signed(
  webhook,
  {
    key = KEY,
    secret = SECRET,
    alg,
    hash,
    age = 0,
    authorization,
    contentType = 'application/webhook+json',
    body,
    claims,
  } = {},
) {
  const text = typeof webhook === 'string' ? webhook : JSON.stringify(webhook);
  const sha256 = hash === undefined ? createHash('sha256').update(text).digest('base64') : hash;
  const nbf = seconds() - age;
  const token = sign(
    { iss: key, nbf, exp: nbf + VALID_SECONDS, ...(sha256 !== null && { sha256 }), ...claims },
    { secret, alg },
  );
  const sender = authorization === undefined ? token : authorization;
  const headers = { 'content-type': contentType, ...(sender !== null && { authorization: sender }) };
  return { body: body ?? text, headers };
}

async function post(url, { body, headers }) {
  const signal = AbortSignal.timeout(ANSWER_MS_MAX);
  const answer = await fetch(url, { method: 'POST', body, headers, signal });
  return { status: answer.status, text: await answer.text() };
}

/** Where a service takes LiveKit's webhooks. */
export const webhookUrl = (service) => `${service.url}/api/v1/webhooks/livekit`;

/** Posts a webhook to a service, signed as `signed` says: `{status, text}`. */
export const send = (service, webhook, flaws) => post(webhookUrl(service), signed(webhook, flaws));

/** The same order each time for the same seed. */
function shuffled(all, seed) {
  const rank = (index) => createHash('sha256').update(`${seed} ${index}`).digest('hex');
  return all
    .map((it, index) => [rank(index), it])
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, it]) => it);
}

/**
 * Takes the webhooks of a real LiveKit, keeps them, and passes them on by its rule. It answers LiveKit at once, so that a lost one is
 * lost for ever.
 */
export class WebhookRelay {
  /** Every webhook as it came: `{event, id, room, identity, webhook, body, headers, at, fate}`; what the service said to it is in `answers`. */
  heard = [];
  /** Where they go; nowhere as long as there is none. */
  target;
  /** What LiveKit is answered. */
  status = 200;
  /**
   * What becomes of one, by what `heard` keeps of it: 'pass', 'drop', 'hold' (until `release`), 'double', or the milliseconds that it is
   * late, while others pass it.
   */
  rule = () => 'pass';
  #server;
  #held = [];
  #waiting = new Set();
  #queue = Promise.resolve();

  static async open(target) {
    const it = new WebhookRelay();
    it.target = target;
    it.#server = createServer((request, response) => {
      // One that its sender broke off is none.
      it.#take(request, response).catch(() => response.destroy());
    });
    await new Promise((resolve) => it.#server.listen(0, '127.0.0.1', resolve));
    it.#server.unref();
    return it;
  }

  /** What LiveKit is given as the address of its webhooks. */
  get url() {
    return `http://127.0.0.1:${this.#server.address().port}/webhooks`;
  }

  /** Sends them to a service from now on. */
  to(service) {
    this.target = webhookUrl(service);
    return this;
  }

  async #take(request, response) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    response.writeHead(this.status).end();
    const body = Buffer.concat(chunks);
    const webhook = JSON.parse(body);
    const { authorization, 'content-type': contentType } = request.headers;
    const it = {
      event: webhook.event,
      id: webhook.id,
      room: webhook.room?.name ?? webhook.egressInfo?.roomName,
      identity: webhook.participant?.identity,
      webhook,
      body,
      headers: { authorization, 'content-type': contentType },
      at: Date.now(),
      answers: [],
    };
    it.fate = this.rule(it);
    this.heard.push(it);
    if (it.fate === 'pass') this.pass(it);
    else if (it.fate === 'double') this.pass(it, it);
    else if (it.fate === 'hold') this.#held.push(it);
    else if (typeof it.fate === 'number') setTimeout(() => this.pass(it), it.fate);
    for (const look of this.#waiting) look();
  }

  /** Posts these to the target now, one after the other and after those before them; settles when all were answered. */
  pass(...all) {
    for (const it of all) {
      this.#queue = this.#queue.then(async () => {
        if (!this.target) return;
        const answer = await post(this.target, it).catch((error) => ({ status: 0, text: error.message }));
        it.answers.push(answer);
      });
    }
    return this.#queue;
  }

  /** Passes on what was held: in the order they came, or `shuffled` by a seed, or in an `order` that a function gives them. */
  release({ seed, order = (all) => (seed === undefined ? all : shuffled(all, seed)) } = {}) {
    return this.pass(...order(this.#held.splice(0)));
  }

  /** Loses what was held. */
  forget() {
    this.#held.length = 0;
  }

  /** How many are held. */
  get held() {
    return this.#held.length;
  }

  /** Those of one name, of one room. */
  all(event, room) {
    return this.heard.filter((it) => (!event || it.event === event) && (!room || it.room === room));
  }

  /** The first one that `where` fits (`{event, room, identity}` or a function), come already or still to come. */
  until(where, { within = PATIENCE } = {}) {
    const fits =
      typeof where === 'function'
        ? where
        : (it) => Object.entries(where).every(([key, value]) => it[key] === value);
    return new Promise((resolve, reject) => {
      const look = () => {
        const found = this.heard.find(fits);
        if (!found) return false;
        this.#waiting.delete(look);
        clearTimeout(late);
        resolve(found);
        return true;
      };
      const give_up = () => {
        this.#waiting.delete(look);
        const heard = this.heard.map((it) => `${it.event} ${it.room} ${it.identity ?? ''}`).join('\n  ');
        const asked = typeof where === 'function' ? where : JSON.stringify(where);
        reject(new Error(`no webhook ${asked} within ${SLACK * within} ms; heard:\n  ${heard}`));
      };
      const late = setTimeout(give_up, SLACK * within);
      if (!look()) this.#waiting.add(look);
    });
  }

  async close() {
    await this.#queue;
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
