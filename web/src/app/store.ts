import { batch, computed, signal } from '@preact/signals';
import type { Detail, Trouble } from '../call/devices';
import type { PairState } from '../call/link';
import type { CallView } from '../call/model';
import type { Slot } from '../call/negotiation';
import type { Measured } from '../call/quality';
import type { RoomState } from '../call/room';
import type { Words } from '../call/words';
import {
  type CallType,
  DEFAULT_RINGING_SECONDS,
  type HistoryCall,
  isAsked,
  isLive,
  type OnlineUser,
  QUALITY_INTERVAL_MS,
} from '../contract';
import type { Entry } from '../lib/log';

/** All that the page shows hangs on the signals of this file; only `app/` writes them. */

export interface Session {
  token: string;
  userId: string;
  username: string;
  /** How it was had: by a name from the service's dev endpoint, or pasted. */
  by: 'name' | 'token';
  expiresAt: number;
}

export interface Line {
  state: 'connecting' | 'online' | 'lost';
  /** Since when it is so, milliseconds. */
  since: number;
  /** When the next try is, milliseconds; null while one is under way. */
  nextTry: number | null;
  transport: string | null;
  problem: string | null;
}

/** A call that has just ended, kept on the stage until the next thing is done. */
export interface Ending {
  callId: string;
  words: Words;
  talked: string;
  type: CallType;
  /** Whom to call again. */
  again: string[];
  /** Another device of ours goes on with it. */
  taken?: boolean;
}

export interface Toast {
  id: number;
  tone: 'plain' | 'good' | 'bad';
  text: string;
}

export interface Said {
  id: number;
  text: string;
}

export interface Sampled {
  at: number;
  of: ReadonlyMap<string, Measured>;
}

export type RemoteTracks = ReadonlyMap<Slot, MediaStreamTrack>;
export type Panel = 'none' | 'devices' | 'invite' | 'rail';

export const session = signal<Session | null>(null);
/** Whether the service gives tokens by name; null until asked. */
export const byName = signal<boolean | null>(null);
/** The node that the socket was last on, where the service has several. */
export const node = signal<string | null>(null);
export const line = signal<Line>({
  state: 'connecting',
  since: Date.now(),
  nextTry: null,
  transport: null,
  problem: null,
});

export const online = signal<readonly OnlineUser[]>([]);
export const names = signal<ReadonlyMap<string, string>>(new Map());
export const picked = signal<ReadonlySet<string>>(new Set());

export const calls = signal<ReadonlyMap<string, CallView>>(new Map());
/** Calls that are over or no longer ours, newest first, for the inspector. */
export const past = signal<readonly CallView[]>([]);
/** The call that this tab is in (not another device of the same user). */
export const currentId = signal<string | null>(null);
export const current = computed(() => {
  const id = currentId.value;
  return id === null ? null : (calls.value.get(id) ?? null);
});
/** Calls that ring here. */
export const ringing = computed(() => {
  const me = session.value?.userId;
  return [...calls.value.values()].filter((view) => {
    const own = me === undefined ? undefined : view.participants.get(me);
    return (
      view.invitation !== null &&
      isLive(view.call.state) &&
      own !== undefined &&
      isAsked(own) &&
      view.call.id !== currentId.value
    );
  });
});
/** Something is being asked of the service for a call: buttons wait. */
export const busy = signal<'starting' | 'joining' | 'leaving' | null>(null);
export const ending = signal<Ending | null>(null);

export const history = signal<readonly HistoryCall[]>([]);
export const historyTotal = signal(0);
export const historyCursor = signal<string | null>(null);
export const historyProblem = signal<string | null>(null);
/** Calls made before this were seen, ISO time. */
export const seenUntil = signal('');

export const microphone = signal<MediaStreamTrack | null>(null);
export const camera = signal<MediaStreamTrack | null>(null);
export const screen = signal<MediaStreamTrack | null>(null);
export const muted = signal(false);
export const troubles = signal<readonly Trouble[]>([]);
export const devices = signal<readonly MediaDeviceInfo[]>([]);
export const choice = signal<{
  microphone: string | null;
  camera: string | null;
  speaker: string | null;
  detail: Detail;
}>({
  microphone: null,
  camera: null,
  speaker: null,
  detail: 'standard',
});

/** How it stands with the media server's room; null in a call from peer to peer. */
export const room = signal<RoomState | null>(null);
/** A recording is being started or stopped: its button waits. */
export const recordingAsked = signal(false);

export const remote = signal<ReadonlyMap<string, RemoteTracks>>(new Map());
export const pairs = signal<ReadonlyMap<string, PairState>>(new Map());
/** User ids of those who speak now. */
export const speaking = signal<ReadonlySet<string>>(new Set());
export const samples = signal<readonly Sampled[]>([]);
/** The browser would not play sound before a click. */
export const silenced = signal(false);

export const panel = signal<Panel>('none');
/** The history entry that is open. */
export const opened = signal<string | null>(null);
export const inspecting = signal(false);
export const entries = signal<readonly Entry[]>([]);
export const paused = signal(false);

export const toasts = signal<readonly Toast[]>([]);
/** Read out by a screen reader: the last few, so that one that follows another does not drown it. */
export const politely = signal<readonly Said[]>([]);
export const urgently = signal<readonly Said[]>([]);
/** Ticks four times a second while anything on the page counts down or up. */
export const now = signal(Date.now());
/** How long this service lets it ring, seconds: as it says, or as its invitations have shown. */
export const ringSeconds = signal(DEFAULT_RINGING_SECONDS);
/** How often the service wants a quality sample, milliseconds. */
export const qualityInterval = signal(QUALITY_INTERVAL_MS);
/** The service's clock minus ours, milliseconds. */
export const skew = signal(0);

export function nameOf(id: string): string {
  return names.value.get(id) ?? id;
}

export function learnName(id: string, name: string | null | undefined): void {
  if (name == null || name === '' || names.value.get(id) === name) return;
  names.value = new Map(names.value).set(id, name);
}

export function putCall(view: CallView): void {
  calls.value = new Map(calls.value).set(view.call.id, view);
}

/** How many calls that are over the inspector can still show. */
const MOST_PAST = 10;

export function dropCall(id: string): void {
  const next = new Map(calls.value);
  const view = next.get(id);
  if (view === undefined) return;
  next.delete(id);
  batch(() => {
    calls.value = next;
    past.value = [view, ...past.value.filter((one) => one.call.id !== id)].slice(0, MOST_PAST);
  });
}

let lastToast = 0;
/** How long a message stays, milliseconds. */
const TOAST_MS = 6000;

export function toast(text: string, tone: Toast['tone'] = 'plain'): void {
  lastToast += 1;
  const id = lastToast;
  batch(() => {
    toasts.value = [...toasts.value.filter((one) => one.text !== text), { id, tone, text }].slice(-3);
    say(text);
  });
  setTimeout(() => dropToast(id), TOAST_MS);
}

export function dropToast(id: number): void {
  toasts.value = toasts.value.filter((one) => one.id !== id);
}

/** How long words stay where a screen reader finds them, milliseconds, and how many at most. */
const SAID_MS = 6000;
const MOST_SAID = 5;
let lastSaid = 0;

/** Has a screen reader say it, politely or at once. */
export function say(text: string, urgent = false): void {
  const region = urgent ? urgently : politely;
  lastSaid += 1;
  const said = { id: lastSaid, text };
  region.value = [...region.value, said].slice(-MOST_SAID);
  setTimeout(() => {
    region.value = region.value.filter((one) => one !== said);
  }, SAID_MS);
}

/** The service's present, as far as we can tell. */
export function serviceNow(): number {
  return now.value + skew.value;
}
