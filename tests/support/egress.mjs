// In the place of LiveKit's egress. The real one is a service of its own with a browser in it, which can't be had where these tests run,
// and without it LiveKit answers after 21 s that nobody does. So a way before the real LiveKit answers what is asked of egress
// itself, and passes on everything else. It keeps what it was asked; what becomes of a recording is told by webhooks (webhooks.mjs).
import { setTimeout as pause } from 'node:timers/promises';
import { claimsOf } from './rooms.mjs';
import { Passage } from './passage.mjs';
import { eventually } from './world.mjs';

// The part of Protocol Buffers that is needed: https://protobuf.dev/programming-guides/encoding
function varint(value) {
  const bytes = [];
  let rest = BigInt(value);
  do {
    bytes.push(Number(rest & 0x7fn) | (rest > 0x7fn ? 0x80 : 0));
    rest >>= 7n;
  } while (rest > 0n);
  return Buffer.from(bytes);
}

/** Fields by number: texts, bytes and whole numbers, and lists of them. */
function encode(fields) {
  const one = (number, value) => {
    if (value === undefined) return Buffer.alloc(0);
    if (typeof value === 'number' || typeof value === 'bigint')
      return Buffer.concat([varint(number << 3), varint(value)]);
    const bytes = Buffer.from(value);
    return Buffer.concat([varint((number << 3) | 2), varint(bytes.length), bytes]);
  };
  const all = Object.entries(fields).flatMap(([number, value]) =>
    (Array.isArray(value) ? value : [value]).map((it) => one(Number(number), it)),
  );
  return Buffer.concat(all);
}

/** Each field's values by its number: whole numbers, and bytes for all else. */
function decode(bytes) {
  let at = 0;
  const number = () => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes[at];
      at += 1;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  const fields = {};
  while (at < bytes.length) {
    const tag = Number(number());
    let value;
    if ((tag & 7) === 0) value = Number(number());
    else if ((tag & 7) === 2) {
      const length = Number(number());
      value = bytes.subarray(at, (at += length));
    } else throw new Error(`a field of kind ${tag & 7}`);
    (fields[tag >> 3] ??= []).push(value);
  }
  return fields;
}

const text = (values) => values?.at(-1)?.toString();
const flag = (values) => values?.at(-1) === 1;

/** What is wanted of a recording, with livekit_egress.proto's names. */
function readStart(body) {
  const request = decode(body);
  const read = (bytes) => {
    const file = decode(bytes);
    const s3 = file[3] && decode(file[3][0]);
    return {
      fileType: ['DEFAULT_FILETYPE', 'MP4', 'OGG'][file[1]?.[0] ?? 0],
      filepath: text(file[2]),
      s3: s3 && {
        accessKey: text(s3[1]),
        secret: text(s3[2]),
        region: text(s3[3]),
        endpoint: text(s3[4]),
        bucket: text(s3[5]),
        forcePathStyle: flag(s3[6]),
      },
    };
  };
  return {
    room: text(request[1]),
    audioOnly: flag(request[3]),
    customBaseUrl: text(request[5]),
    files: [...(request[6] ?? []), ...(request[11] ?? [])].map(read),
    streams: request[7]?.length ?? 0,
  };
}

const STATUS = { STARTING: 0, ACTIVE: 1, ENDING: 2, COMPLETE: 3, FAILED: 4, ABORTED: 5 };
const twirp = (status, code, msg) => ({
  status,
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify({ code, msg }),
});
const answered = (fields) => ({
  status: 200,
  headers: { 'content-type': 'application/protobuf' },
  body: encode(fields),
});

export class Egress extends Passage {
  /** What was asked of egress: `{method, room?, egressId?, ...}`. */
  asked = [];
  /** Recordings by id: `{egressId, room, status, startedAt, request}`. */
  recordings = new Map();
  /** How long each method takes, milliseconds. */
  takes = {};
  /** Methods that fail so many times more: `{StopEgress: 2}`. */
  failing = {};

  async answer(request, body) {
    const [, method] = /^\/twirp\/livekit\.Egress\/(\w+)$/.exec(request.url) ?? [];
    if (!method) return super.answer(request, body);
    const { video } = claimsOf(request.headers.authorization);
    if (!video?.roomRecord) return twirp(401, 'unauthenticated', 'permissions denied');
    const it = this.#read(method, body);
    this.asked.push(it);
    if (this.takes[method]) await pause(this.takes[method]);
    if (this.failing[method] > 0) {
      this.failing[method] -= 1;
      return twirp(503, 'unavailable', 'twirp error unknown: no response from servers');
    }
    return this.#carryOut(it, body);
  }

  #read(method, body) {
    if (method === 'StartRoomCompositeEgress') return { method, ...readStart(body) };
    const fields = decode(body);
    if (method === 'StopEgress') return { method, egressId: text(fields[1]) };
    return { method, room: text(fields[1]), egressId: text(fields[2]), active: flag(fields[3]) };
  }

  #carryOut({ method, ...it }, body) {
    if (method === 'StartRoomCompositeEgress') {
      const egressId = `EG_${Math.random().toString(36).slice(2, 14)}`;
      const started = { egressId, room: it.room, status: 'ACTIVE', startedAt: Date.now(), request: body };
      this.recordings.set(egressId, started);
      return answered(this.#info({ ...started, status: 'STARTING' }));
    }
    if (method === 'StopEgress') {
      const known = this.recordings.get(it.egressId);
      if (!known) return twirp(404, 'not_found', 'egress does not exist');
      if (known.status !== 'ACTIVE') return twirp(412, 'failed_precondition', 'egress is over');
      known.status = 'ENDING';
      return answered(this.#info(known));
    }
    if (method !== 'ListEgress') return twirp(404, 'bad_route', `no method ${method}`);
    const found = [...this.recordings.values()].filter(
      (one) =>
        (!it.room || one.room === it.room) &&
        (!it.egressId || one.egressId === it.egressId) &&
        (!it.active || one.status === 'ACTIVE'),
    );
    return answered({ 1: found.map((one) => encode(this.#info(one))) });
  }

  #info({ egressId, room, status, startedAt, request }) {
    return {
      1: egressId,
      3: STATUS[status],
      4: request,
      10: BigInt(startedAt) * 1_000_000n,
      13: room,
    };
  }

  /** What was asked by a method, of a room or a recording. */
  all(method, { room, egressId } = {}) {
    return this.asked.filter(
      (it) => it.method === method && (!room || it.room === room) && (!egressId || it.egressId === egressId),
    );
  }

  /** The recordings of a room. */
  of(room) {
    return [...this.recordings.values()].filter((it) => it.room === room);
  }

  /** Waits until a recording was asked to stop. */
  stopped(egressId, options) {
    const asked = () => this.all('StopEgress', { egressId }).length > 0;
    return eventually(`${egressId} is asked to stop`, asked, options);
  }
}
