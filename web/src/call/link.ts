import type { Slot } from './negotiation';
import type { Measured } from './quality';

/** How the media of one other person stands. */
export type PairState = 'connecting' | 'connected' | 'lost';

/** What a link tells the call. */
export interface LinkEvents {
  /** A track of somebody came, or went (null). */
  onTrack(userId: string, slot: Slot, track: MediaStreamTrack | null): void;
  onPair(userId: string, state: PairState): void;
  /** Somebody says what to be called. */
  onName(userId: string, name: string): void;
  /** Something for the inspector. */
  onNote(name: string, data: unknown): void;
}

/** The media of one call, whichever way it goes: peer to peer, or through a LiveKit room. */
export interface Link {
  /** Somebody is in the call; `first` says whether it is for this side to speak first. */
  meet(userId: string, first: boolean): void;
  part(userId: string): void;
  /** Sends a track of ours to all, or stops sending it (null). */
  publish(slot: Slot, track: MediaStreamTrack | null): Promise<void>;
  /** One sample for each person whose media is up. */
  sample(): Promise<Map<string, Measured>>;
  /** How loud somebody is, 0 to 1. */
  level(userId: string): number;
  /** The line to the service is back: mend whatever broke meanwhile. */
  recover(): void;
  close(): void;
}
