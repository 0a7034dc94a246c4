/** What may go wrong between this page and a room of the media server, in words, apart from any client of it. */

/** Why there is no room: see `roomWords` for what each means to a person. */
export type RoomWhy = 'reconnecting' | 'lost' | 'unreachable' | 'blocked' | 'full' | 'missing' | 'refused';

export interface RoomTrouble {
  why: RoomWhy;
  /** Milliseconds since the epoch. */
  since: number;
  /** When it is tried again, milliseconds since the epoch; null while it is being tried. */
  nextTry: number | null;
}

export type RoomState = { state: 'joining' } | { state: 'up' } | { state: 'trouble'; trouble: RoomTrouble };

/** Waits between tries, milliseconds; the last one again and again. */
const WAITS = [500, 1000, 2000, 4000, 8000];
/** By how much a wait may differ either way: a server that comes back is not to meet everybody at once. */
const SPREAD = 0.25;

/** How long to wait before try number `tries`, counted from 0; `chance` is 0 to 1. */
export function waitBefore(tries: number, chance = Math.random()): number {
  const wait = WAITS[Math.min(tries, WAITS.length - 1)] ?? 8000;
  return Math.round(wait * (1 + SPREAD * (2 * chance - 1)));
}

/** What a failed try to join says, as far as the media server's client tells. */
export interface JoinFailure {
  /** The name of the reason, as livekit-client has it. */
  reasonName?: string | undefined;
  /** HTTP status, where one came. */
  status?: number | undefined;
  message?: string | undefined;
}

export function whyOf({ reasonName, status, message = '' }: JoinFailure): RoomWhy {
  if (/could not establish pc connection/i.test(message)) return 'blocked';
  if (reasonName === 'NotAllowed') return status === 404 ? 'missing' : 'refused';
  // Asked after a failure, the server has said that token and room are good: it closes the door without a word when the room is full.
  if (/websocket error/i.test(message)) return 'full';
  return 'unreachable';
}

/** What happened, and what it means. */
export function roomWords(why: RoomWhy): { title: string; detail: string } {
  switch (why) {
    case 'reconnecting':
      return { title: 'The media connection broke', detail: 'It is being mended; you stay in the call.' };
    case 'lost':
      return { title: 'The media connection was lost', detail: 'You stay in the call.' };
    case 'blocked':
      return {
        title: 'Sound and picture do not get through',
        detail: 'A firewall or VPN may be in the way. You stay in the call.',
      };
    case 'full':
      return { title: 'The media server did not let you in', detail: 'The room may be full.' };
    case 'missing':
      return { title: 'The media server does not know this call', detail: 'It may have been restarted.' };
    case 'refused':
      return {
        title: 'The media server refused the pass for this call',
        detail: 'It may have run out; a new one is asked for.',
      };
    default:
      return { title: 'The media server cannot be reached', detail: 'You stay in the call.' };
  }
}
