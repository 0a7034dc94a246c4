import type { IceServer } from '../contract';
import type { Slot } from './negotiation';
import type { Measured } from './quality';
import type { RoomState } from './room';

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
  /** How it stands with the room, where there is one. */
  onRoom(state: RoomState): void;
  /** What is sent of ours has changed at the media server. */
  onSent(slot: Slot): void;
  /** The media server has muted a track of ours. */
  onSilenced(slot: Slot): void;
  /** The media server does not take a track of ours. */
  onUnsent(slot: Slot): void;
  /** Another device of ours has taken this one's place in the room. */
  onTaken(): void;
}

/** The media of one call, whichever way it goes: peer to peer, or through a LiveKit room. */
export interface Link {
  /** Somebody is in the call; `first` says whether it is for this side to speak first. */
  meet(userId: string, first: boolean): void;
  part(userId: string): void;
  /** Sends a track of ours to all, or stops sending it (null). */
  publish(slot: Slot, track: MediaStreamTrack | null): Promise<void>;
  /** Our microphone is muted, or is not. */
  mute(muted: boolean): void;
  /** Servers with fresh credentials, for connections that are there and those to come. */
  serve(iceServers: readonly IceServer[]): void;
  /** One sample for each person whose media is up. */
  sample(): Promise<Map<string, Measured>>;
  /** How loud somebody is, 0 to 1. */
  level(userId: string): number;
  /** The line to the service is back: mend whatever broke meanwhile. */
  recover(): void;
  /** Somebody is tired of waiting: try at once what is tried later by itself. */
  retry(): void;
  close(): void;
}

/** A server as a browser takes it. */
export function rtcServer(server: IceServer): RTCIceServer {
  return {
    urls: server.urls,
    ...(server.username == null ? {} : { username: server.username }),
    ...(server.credential == null ? {} : { credential: server.credential }),
  };
}
