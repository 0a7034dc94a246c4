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
const WAITS = [500, 1000, 2000, 4000, 8000, 15_000];

/** How long to wait before try number `tries`, counted from 0. */
export function waitBefore(tries: number): number {
  return WAITS[Math.min(tries, WAITS.length - 1)] ?? 15_000;
}

/** What a failed try to join says, as far as the media server's client tells. */
export interface JoinFailure {
  /** The name of the reason, as livekit-client has it. */
  reasonName?: string;
  /** HTTP status, where one came. */
  status?: number;
  message?: string;
}

export function whyOf(failure: JoinFailure): RoomWhy {
  if (/could not establish pc connection/i.test(failure.message ?? '')) return 'blocked';
  switch (failure.reasonName) {
    case 'NotAllowed':
      return failure.status === 404 ? 'missing' : 'refused';
    case 'WebSocket':
      // The server takes the token and the room is there, yet it closes the door without a word: so it does when the room is full.
      return 'full';
    default:
      return 'unreachable';
  }
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
