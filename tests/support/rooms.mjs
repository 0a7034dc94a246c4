// What tests ask about rooms and tokens of a real LiveKit.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import WebSocket from 'ws';
import { eventually } from './world.mjs';

/** What a token says. */
export const claimsOf = (token) => JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));

/** The room of a call. */
export const roomOf = (call) => `room_${call.id ?? call}`;

/** What LiveKit answers to one who would come in by this token: 200, or why not. */
export async function door(livekit, token) {
  const answer = await fetch(`${livekit.apiUrl}/rtc/validate?access_token=${encodeURIComponent(token)}`, {
    signal: AbortSignal.timeout(5000),
  });
  await answer.arrayBuffer();
  return answer.status;
}

/** The names of all rooms, in order, but for some. */
export async function roomNames(livekit, besides = []) {
  const rooms = await livekit.api.rooms();
  return rooms
    .map((it) => it.name)
    .filter((name) => !besides.includes(name))
    .sort();
}

/** Waits until there are the rooms of these calls and no others, but for some that belong to nobody. */
export async function onlyRoomsOf(livekit, calls, { besides = [], within = 5000 } = {}) {
  const wanted = calls.map(roomOf).sort();
  let found;
  const same = async () => {
    found = await roomNames(livekit, besides);
    return JSON.stringify(found) === JSON.stringify(wanted);
  };
  await eventually('the rooms are those of the live calls', same, { within, every: 50 }).catch(() =>
    assert.deepEqual(found, wanted, `not within ${within} ms`),
  );
}

/** An id such as calls have, of no call. */
export function unknownCall() {
  const bytes = randomBytes(16);
  bytes.writeUIntBE(Date.now(), 0, 6);
  bytes[6] = (bytes[6] & 0x0f) | 0x70;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = bytes.toString('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}

/** How long something took, milliseconds, with what it gave: `[ms, it]`. */
export async function timed(work) {
  const begun = performance.now();
  const it = await (typeof work === 'function' ? work() : work);
  return [performance.now() - begun, it];
}

/**
 * Somebody who is in a room with a line to the server, as a real client is before its media is up; by a token of the service, or one
 * that is made here.
 */
export async function guestIn(livekit, room, identity, token = livekit.api.joinToken(room, identity)) {
  const socket = new WebSocket(
    `${livekit.url}/rtc?access_token=${token}&protocol=15&auto_subscribe=1&sdk=js`,
  );
  let isOpen = true;
  const closed = new Promise((resolve) => socket.once('close', resolve)).then(() => {
    isOpen = false;
  });
  // A refusal is an end too.
  socket.on('error', () => {});
  const info = async () => (await livekit.api.participants(room)).find((it) => it.identity === identity);
  const isIn = async () => isOpen && (await info()) !== undefined;
  // LiveKit's first word is that one has joined.
  const joined = new Promise((resolve) => socket.once('message', () => resolve(true)));
  assert.ok(await Promise.race([joined, closed]), `${identity} was not let in`);
  return { info, isIn, isOpen: () => isOpen, closed, leave: () => socket.terminate() };
}
