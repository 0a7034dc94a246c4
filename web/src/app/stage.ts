import { batch, effect } from '@preact/signals';
import type { Link, LinkEvents } from '../call/link';
import { Mesh } from '../call/mesh';
import { others } from '../call/model';
import type { Slot } from '../call/negotiation';
import { summed } from '../call/quality';
import { type RoomState, roomWords } from '../call/room';
import type { Pass } from '../call/sfu';
import type { IceServer, MediaToken, RoomToken } from '../contract';
import { Meter } from '../lib/sound';
import * as api from './api';
import { earlySignals, type FromPeer } from './early';
import { record } from './recorder';
import { keepSent } from './media';
import * as own from './own';
import { connected, relay, send } from './socket';
import {
  camera,
  current,
  learnName,
  microphone,
  muted,
  pairs,
  qualityInterval,
  remote,
  room,
  samples,
  say,
  screen,
  session,
  speaking,
} from './store';

/** The media of the call this tab is in: one at a time. */

/** Milliseconds between samples for the page's own charts. */
const SAMPLE_MS = 1000;
/** How many of those are kept: ten minutes. */
const MOST_SAMPLES = 600;
/** Milliseconds between looks at who speaks, and how loud speech is at least. */
const LISTEN_MS = 150;
const SPEECH = 0.03;

/** What happens to the media that is for the call to decide. */
export interface Turns {
  /** Another device of ours goes on with the call. */
  onTaken(callId: string): void;
  /** The service gives no pass for the call's media any more. */
  onShut(callId: string, refused: api.Refused): void;
  /** A track of ours is not taken by the media server. */
  onUnsent(slot: Slot): void;
}

let turns: Turns = { onTaken: () => {}, onShut: () => {}, onUnsent: () => {} };

/** Said once, by what decides about calls. */
export function tellTurns(to: Turns): void {
  turns = to;
}

let link: Link | null = null;
let stops: (() => void)[] = [];

/** Opens the media of a call. `first` says that the others were there before and wait for our offers. */
export async function openStage(
  callId: string,
  token: MediaToken,
  iceServers: IceServer[],
  first: boolean,
): Promise<void> {
  closeStage();
  samples.value = [];
  own.begun();
  const events = stageEvents(callId);
  const made =
    token.media === 'livekit'
      ? await sfu(callId, { token, iceServers }, events)
      : mesh(callId, iceServers, events);
  if (current.value?.call.id !== callId) {
    // It ended while a room's client was being loaded.
    made.close();
    return;
  }
  link = made;
  stops = [publishing(made), keepSent(callId), ...loops(made, callId)];
  // Before we offer ourselves: theirs was first.
  for (const from of earlySignals.take(callId)) relayed(callId, from);
  meetAll(first);
}

export function closeStage(): void {
  for (const stop of stops) stop();
  stops = [];
  link?.close();
  link = null;
  own.forget();
  batch(() => {
    room.value = null;
    remote.value = new Map();
    pairs.value = new Map();
    speaking.value = new Set();
  });
}

export function staged(): boolean {
  return link !== null;
}

/** Makes the link know everybody who is in the call now, and forget who is not. */
export function meetAll(first: boolean): void {
  const view = current.value;
  const me = session.value?.userId;
  if (link === null || view === null || me === undefined) return;
  const there = new Set(others(view, me).map((one) => one.userId));
  for (const userId of there) link.meet(userId, first);
  for (const userId of pairs.value.keys()) if (!there.has(userId)) gone(userId);
}

export function met(userId: string): void {
  link?.meet(userId, false);
}

export function gone(userId: string): void {
  link?.part(userId);
  batch(() => {
    remote.value = without(remote.value, userId);
    pairs.value = without(pairs.value, userId);
  });
}

export function relayed(callId: string, from: FromPeer): void {
  if (link === null) earlySignals.keep(callId, from);
  else if (link instanceof Mesh) link.receive(from.userId, from.kind, from.payload);
}

/** Servers with fresh credentials. */
export function serve(iceServers: readonly IceServer[]): void {
  link?.serve(iceServers);
}

/** Tries at once what is tried later by itself. */
export function retryMedia(): void {
  link?.retry();
}

/** The line to the service is back. */
export function mend(): void {
  link?.recover();
}

function stageEvents(callId: string): LinkEvents {
  return {
    onTrack: (userId, slot, track) => {
      const tracks = new Map<Slot, MediaStreamTrack>(remote.value.get(userId) ?? []);
      if (track === null) tracks.delete(slot);
      else tracks.set(slot, track);
      remote.value = new Map(remote.value).set(userId, tracks);
    },
    onPair: (userId, state) => {
      pairs.value = new Map(pairs.value).set(userId, state);
    },
    onName: learnName,
    onNote: (name, data) => {
      record({ channel: 'media', direction: 'in', name, data: { callId, ...(data as object) } });
    },
    onRoom,
    onSent: own.sent,
    onSilenced: own.silenced,
    onUnsent: (slot) => turns.onUnsent(slot),
    onTaken: () => turns.onTaken(callId),
  };
}

function onRoom(state: RoomState): void {
  const before = room.value;
  room.value = state;
  if (state.state === 'trouble') {
    // Once for each kind of trouble, not for each try.
    const told = before?.state === 'trouble' && before.trouble.why === state.trouble.why;
    const { title, detail } = roomWords(state.trouble.why);
    if (!told) say(`${title}. ${detail}`, true);
  } else if (state.state === 'up') {
    own.begun();
    if (before?.state === 'trouble') say('Sound and picture are connected again');
  }
}

function mesh(callId: string, iceServers: IceServer[], events: LinkEvents): Link {
  return new Mesh({
    me: session.value?.userId ?? '',
    name: session.value?.username ?? '',
    iceServers,
    events,
    send: (userId, kind, payload) => relay(kind, callId, userId, payload),
    renewServers: async () => (await api.token(callId)).iceServers,
  });
}

async function sfu(callId: string, pass: Pass & { token: RoomToken }, events: LinkEvents): Promise<Link> {
  const { Sfu } = await import('../call/sfu');
  const made = new Sfu({ ...pass, events, renew: () => renewed(callId) });
  room.value = { state: 'joining' };
  void made.enter();
  return made;
}

/** Refusals after which there is no use in asking again. */
const FINAL = new Set(['call_over', 'forbidden', 'not_found', 'not_invited', 'not_joined', 'removed']);

async function renewed(callId: string): Promise<Pass | null> {
  try {
    const { token, iceServers } = await api.token(callId);
    return token.media === 'livekit' ? { token, iceServers } : null;
  } catch (error) {
    if (!(error instanceof api.Refused) || !FINAL.has(error.code)) throw error;
    turns.onShut(callId, error);
    return null;
  }
}

/** Sends each of our tracks as it comes, changes or goes. */
function publishing(to: Link): () => void {
  const stop = (Object.entries({ microphone, camera, screen }) as [Slot, typeof microphone][]).map(
    ([slot, held]) => effect(() => void to.publish(slot, held.value)),
  );
  stop.push(effect(() => to.mute(muted.value)));
  return () => {
    for (const one of stop) one();
  };
}

function loops(of: Link, callId: string): (() => void)[] {
  let lastReport = Date.now();
  const sampling = setInterval(async () => {
    const found = await of.sample();
    if (link !== of) return;
    samples.value = [...samples.value.slice(-MOST_SAMPLES + 1), { at: Date.now(), of: found }];
    if (Date.now() - lastReport < qualityInterval.value - SAMPLE_MS / 2) return;
    lastReport = Date.now();
    const sample = summed([...found.values()]);
    if (sample !== null && connected()) void send('call:quality_update', { callId, ...sample });
  }, SAMPLE_MS);
  const ears = new Ears();
  const listening = setInterval(() => ears.listen(of), LISTEN_MS);
  return [() => clearInterval(sampling), () => clearInterval(listening), () => ears.close()];
}

/** Knows who speaks, ourselves included. */
class Ears {
  private meter: Meter | null = null;

  listen(to: Link): void {
    const me = session.value?.userId ?? '';
    const loud = [...pairs.value.keys()].filter((userId) => to.level(userId) > SPEECH);
    if (this.own() > SPEECH) loud.push(me);
    const before = speaking.value;
    if (loud.length !== before.size || loud.some((one) => !before.has(one))) speaking.value = new Set(loud);
  }

  close(): void {
    this.meter?.close();
    this.meter = null;
  }

  private own(): number {
    const track = microphone.value;
    if (this.meter?.track !== track) {
      this.close();
      if (track !== null) this.meter = new Meter(track);
    }
    return muted.value ? 0 : (this.meter?.level() ?? 0);
  }
}

function without<V>(map: ReadonlyMap<string, V>, key: string): Map<string, V> {
  const next = new Map(map);
  next.delete(key);
  return next;
}

/** What a person at the browser's console, or a test, may look into. */
export interface Hook {
  callId: string | null;
  peers: () => { userId: string; pc: RTCPeerConnection }[];
  room: () => unknown;
}

export function installHook(): void {
  const hook: Hook = {
    get callId() {
      return current.value?.call.id ?? null;
    },
    peers: () =>
      link instanceof Mesh
        ? [...link.peers.values()].flatMap(({ userId, pc }) => (pc === null ? [] : [{ userId, pc }]))
        : [],
    room: () => (link !== null && 'room' in link ? link.room : null),
  };
  Object.assign(window, { __call: hook });
}
