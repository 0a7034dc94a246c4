import type { IceServer, RelayKind } from '../contract';
import { type Link, type LinkEvents, rtcServer } from './link';
import { SLOTS, type Slot } from './negotiation';
import { Peer, type PeerHost } from './peer';
import type { Measured } from './quality';

export interface MeshOptions {
  me: string;
  name: string;
  iceServers: readonly IceServer[];
  events: LinkEvents;
  send(userId: string, kind: RelayKind, payload: unknown): void;
  /** Fresh servers: TURN credentials run out. */
  renewServers(): Promise<IceServer[]>;
}

/** How long credentials of ICE servers are used before they are asked for again, in milliseconds. */
const SERVERS_GOOD_FOR_MS = 10 * 60_000;
/** How long the one who joined last has to make its offer before this side does, in milliseconds. */
const PATIENCE_MS = 3000;

/** A connection to each other person in the call. */
export class Mesh implements Link {
  readonly peers = new Map<string, Peer>();
  private readonly tracks = new Map<Slot, MediaStreamTrack>();
  private readonly waits = new Map<string, ReturnType<typeof setTimeout>>();
  private servers: { list: readonly IceServer[]; at: number };
  private readonly host: PeerHost;

  constructor(private readonly options: MeshOptions) {
    this.servers = { list: options.iceServers, at: Date.now() };
    this.host = {
      me: options.me,
      name: options.name,
      instance: crypto.randomUUID(),
      events: options.events,
      configuration: () => this.configuration(),
      send: options.send,
      outgoing: (slot) => this.tracks.get(slot) ?? null,
      pairs: () => this.peers.size,
    };
  }

  meet(userId: string, first: boolean): void {
    const known = this.peers.has(userId);
    const peer = this.peer(userId);
    if (first) {
      peer.begin();
    } else if (!known) {
      this.options.events.onPair(userId, 'connecting');
      this.waits.set(
        userId,
        setTimeout(() => peer.begin(), PATIENCE_MS),
      );
    }
  }

  part(userId: string): void {
    clearTimeout(this.waits.get(userId));
    this.waits.delete(userId);
    this.peers.get(userId)?.close();
    this.peers.delete(userId);
    this.respend();
  }

  receive(userId: string, kind: RelayKind, payload: unknown): void {
    this.peer(userId).receive(kind, payload);
  }

  async publish(slot: Slot, track: MediaStreamTrack | null): Promise<void> {
    if (track === null) this.tracks.delete(slot);
    else this.tracks.set(slot, track);
    for (const peer of this.peers.values()) peer.publish(slot);
  }

  mute(): void {
    // The track itself falls silent: each pair carries that as it is.
  }

  serve(iceServers: readonly IceServer[]): void {
    this.servers = { list: iceServers, at: Date.now() };
    for (const peer of this.peers.values()) peer.configure(this.withServers());
  }

  async sample(): Promise<Map<string, Measured>> {
    const at = Date.now();
    const found = new Map<string, Measured>();
    for (const [userId, peer] of this.peers) {
      const sample = await peer.sample(at);
      if (sample !== null) found.set(userId, sample);
    }
    return found;
  }

  level(userId: string): number {
    return this.peers.get(userId)?.level() ?? 0;
  }

  recover(): void {
    for (const peer of this.peers.values()) peer.recover();
  }

  retry(): void {
    this.recover();
  }

  close(): void {
    for (const wait of this.waits.values()) clearTimeout(wait);
    this.waits.clear();
    for (const peer of this.peers.values()) peer.close();
    this.peers.clear();
  }

  private peer(userId: string): Peer {
    const known = this.peers.get(userId);
    if (known !== undefined) return known;
    const peer = new Peer(userId, this.host);
    this.peers.set(userId, peer);
    this.respend();
    return peer;
  }

  private respend(): void {
    if (!this.tracks.has(SLOTS[1])) return;
    for (const peer of this.peers.values()) peer.publish('camera');
  }

  private async configuration(): Promise<RTCConfiguration> {
    if (Date.now() - this.servers.at > SERVERS_GOOD_FOR_MS) {
      const list = await this.options.renewServers().catch(() => this.servers.list);
      this.servers = { list, at: Date.now() };
    }
    return this.withServers();
  }

  private withServers(): RTCConfiguration {
    return { iceServers: this.servers.list.map(rtcServer), bundlePolicy: 'max-bundle' };
  }
}
