import {
  ConnectionError,
  ConnectionErrorReason,
  ConnectionState,
  DisconnectReason,
  LocalAudioTrack,
  type LocalTrack,
  type LocalTrackPublication,
  type Participant,
  type Track as MediaTrack,
  PublishTrackError,
  type RemoteParticipant,
  type RemoteTrack,
  Room,
  RoomEvent,
  Track,
} from 'livekit-client';
import type { IceServer, RoomToken } from '../contract';
import { type Link, type LinkEvents, rtcServer } from './link';
import { SLOTS, type Slot } from './negotiation';
import { type Counters, type Measured, measure, type StatLike } from './quality';
import { type JoinFailure, type RoomWhy, waitBefore, whyOf } from './room';

const SLOT_OF: Partial<Record<Track.Source, Slot>> = {
  [Track.Source.Microphone]: 'microphone',
  [Track.Source.Camera]: 'camera',
  [Track.Source.ScreenShare]: 'screen',
};

const SOURCE_OF: Record<Slot, Track.Source> = {
  microphone: Track.Source.Microphone,
  camera: Track.Source.Camera,
  screen: Track.Source.ScreenShare,
};

/** How long the permission to send a track may take to come, milliseconds: the service asks the media server for it. */
const PERMISSION_MS = 3000;
/** How long the room may be without signaling before it is told, milliseconds. */
const UNSIGNALED_MS = 4000;
/** How long an event of the call that explains why the room let us go may take, milliseconds. */
const EXPLAINED_MS = 3000;

export interface Pass {
  token: RoomToken;
  iceServers: readonly IceServer[];
}

export interface SfuOptions extends Pass {
  events: LinkEvents;
  /** A fresh pass; null where this call is no longer ours to join, which is then told elsewhere. */
  renew(): Promise<Pass | null>;
}

/**
 * The media of a call through a LiveKit room. Loaded only where the service has such a server. The microphone is
 * muted there as a person mutes it; a camera or a screen that is turned off is no longer sent at all.
 */
export class Sfu implements Link {
  readonly room = new Room({ adaptiveStream: false, dynacast: true, stopLocalTrackOnUnpublish: false });
  private readonly events: LinkEvents;
  private pass: Pass;
  private readonly ours = new Map<Slot, MediaStreamTrack>();
  /** What is done with each track of ours, one after the other. */
  private readonly turns = new Map<Slot, Promise<void>>();
  private readonly met = new Set<string>();
  private readonly counters = new Map<string, Counters>();
  private muted = false;
  private joining = false;
  private closed = false;
  private wake: () => void = () => {};
  private unsignaled: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly options: SfuOptions) {
    this.events = options.events;
    this.pass = { token: options.token, iceServers: options.iceServers };
    this.room
      .on(RoomEvent.TrackSubscribed, (track, _publication, from) => this.onTrack(track, from.identity, true))
      .on(RoomEvent.TrackUnsubscribed, (track, _publication, from) =>
        this.onTrack(track, from.identity, false),
      )
      .on(RoomEvent.ParticipantConnected, (from) => this.onPair(from.identity, 'connected'))
      .on(RoomEvent.ParticipantDisconnected, (from) => this.onPair(from.identity, 'lost'))
      .on(RoomEvent.ConnectionStateChanged, (state) => this.events.onNote('media:room', { state }))
      .on(RoomEvent.TrackMuted, (publication, from) => this.onMuted(publication, from))
      .on(RoomEvent.SignalReconnecting, () => this.onUnsignaled())
      .on(RoomEvent.Reconnecting, () => this.onReconnecting())
      .on(RoomEvent.Reconnected, () => this.onUp())
      .on(RoomEvent.Disconnected, (reason) => void this.onDisconnected(reason));
  }

  /** Joins the room and stays in it, until it is closed or this call is no longer ours. */
  async enter(): Promise<void> {
    if (this.joining || this.closed) return;
    this.joining = true;
    this.events.onRoom({ state: 'joining' });
    await this.join(null);
  }

  meet(userId: string): void {
    this.met.add(userId);
    const there = this.room.remoteParticipants.get(userId);
    this.events.onPair(userId, there === undefined ? 'connecting' : 'connected');
    for (const { track } of there?.trackPublications.values() ?? []) {
      if (track !== undefined) this.onTrack(track, userId, true);
    }
  }

  part(userId: string): void {
    this.met.delete(userId);
    this.counters.delete(userId);
  }

  publish(slot: Slot, track: MediaStreamTrack | null): Promise<void> {
    if (track === null) this.ours.delete(slot);
    else this.ours.set(slot, track);
    return this.settle(slot);
  }

  mute(muted: boolean): void {
    this.muted = muted;
    void this.settle('microphone');
  }

  serve(iceServers: readonly IceServer[]): void {
    // The room mends its connections with servers it got itself; these are for the next time it is joined.
    this.pass = { ...this.pass, iceServers };
  }

  async sample(): Promise<Map<string, Measured>> {
    const at = Date.now();
    const found = new Map<string, Measured>();
    for (const from of this.room.remoteParticipants.values()) {
      if (!this.met.has(from.identity)) continue;
      const { sample, counters } = measure(
        await reportOf(from),
        this.counters.get(from.identity) ?? null,
        at,
      );
      this.counters.set(from.identity, counters);
      found.set(from.identity, sample);
    }
    return found;
  }

  level(userId: string): number {
    return this.room.remoteParticipants.get(userId)?.audioLevel ?? 0;
  }

  recover(): void {
    // What waits for its next try has better chances now; what is up mends itself.
    this.wake();
  }

  retry(): void {
    if (this.joining) this.wake();
    else if (this.room.state !== ConnectionState.Connected) void this.rejoin('lost');
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.unsignaled);
    this.wake();
    void this.room.disconnect(false);
  }

  /** Tries until the room is joined. `before` is why we are no longer in it; null for the first time. */
  private async join(before: RoomWhy | null): Promise<void> {
    const since = Date.now();
    let why = before;
    for (let tries = 0; !this.closed; tries += 1) {
      if (why !== null) {
        const nextTry = Date.now() + waitBefore(tries - (before === null ? 1 : 0));
        this.events.onRoom({ state: 'trouble', trouble: { why, since, nextTry } });
        await this.sleep(nextTry - Date.now());
        if (this.closed) return;
        this.events.onRoom({ state: 'trouble', trouble: { why, since, nextTry: null } });
      }
      try {
        if (why !== null && !(await this.renewed())) return;
        await this.connect();
        this.joining = false;
        this.onUp();
        return;
      } catch (error) {
        if (this.closed) return;
        const { reasonName, status, message } = error as JoinFailure;
        this.events.onNote('media:trouble', { what: 'room', reasonName, status, message });
        if (isTakeover(error)) return this.taken();
        why = whyOf({ reasonName, status, message });
      }
    }
  }

  private async connect(): Promise<void> {
    const { token, iceServers } = this.pass;
    await this.room.connect(
      token.url,
      token.token,
      iceServers.length === 0 ? {} : { rtcConfig: { iceServers: iceServers.map(rtcServer) } },
    );
    if (this.closed) await this.room.disconnect(false);
  }

  /** Whether there is a fresh pass. */
  private async renewed(): Promise<boolean> {
    const pass = await this.options.renew();
    if (pass === null) return false;
    this.pass = pass;
    return true;
  }

  private sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, Math.max(0, ms));
      this.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  private onUp(): void {
    clearTimeout(this.unsignaled);
    if (this.closed) return;
    this.events.onRoom({ state: 'up' });
    for (const userId of this.met) this.meet(userId);
    for (const slot of SLOTS) void this.settle(slot);
  }

  /** Sound and picture may well go on without signaling: that is worth a word only where it lasts. */
  private onUnsignaled(): void {
    clearTimeout(this.unsignaled);
    this.unsignaled = setTimeout(() => {
      if (this.room.state === ConnectionState.SignalReconnecting) this.onReconnecting();
    }, UNSIGNALED_MS);
  }

  private onReconnecting(): void {
    if (this.closed) return;
    const trouble = { why: 'reconnecting', since: Date.now(), nextTry: null } as const;
    this.events.onRoom({ state: 'trouble', trouble });
    for (const userId of this.met) this.events.onPair(userId, 'lost');
  }

  private async onDisconnected(reason: DisconnectReason | undefined): Promise<void> {
    // While it is being joined the try itself says what went wrong.
    if (this.closed || this.joining) return;
    this.events.onNote('media:disconnected', {
      reason: reason === undefined ? null : DisconnectReason[reason],
    });
    if (reason === DisconnectReason.DUPLICATE_IDENTITY) return this.taken();
    if (reason === DisconnectReason.PARTICIPANT_REMOVED || reason === DisconnectReason.ROOM_DELETED) {
      // The call is over, or over for us: its events say so. Only where none comes is the room asked again.
      this.joining = true;
      await this.sleep(EXPLAINED_MS);
      this.joining = false;
    }
    await this.rejoin('lost');
  }

  private async rejoin(why: RoomWhy): Promise<void> {
    if (this.closed || this.joining) return;
    this.joining = true;
    for (const userId of this.met) this.events.onPair(userId, 'lost');
    await this.room.disconnect(false);
    await this.join(why);
  }

  private taken(): void {
    this.close();
    this.events.onTaken();
  }

  /** Makes what is sent in a slot what is to be sent, once what is under way there is done. */
  private settle(slot: Slot): Promise<void> {
    const turn = (this.turns.get(slot) ?? Promise.resolve())
      .then(() => this.adjust(slot))
      .catch((error: unknown) => this.onUnsent(slot, error));
    this.turns.set(slot, turn);
    return turn;
  }

  private async adjust(slot: Slot): Promise<void> {
    if (this.closed || this.joining || this.room.state !== ConnectionState.Connected) return;
    const wanted = this.ours.get(slot);
    const sent = this.publication(slot)?.track;
    if (wanted === undefined && sent === undefined) return;
    if (wanted === undefined) await this.withdraw(slot);
    else if (sent === undefined) await this.send(slot, wanted);
    else if (sent.mediaStreamTrack !== wanted) await sent.replaceTrack(wanted);
    if (slot === 'microphone') await this.adjustMute();
  }

  private async withdraw(slot: Slot): Promise<void> {
    const sent = this.publication(slot)?.track;
    if (sent !== undefined) await this.room.localParticipant.unpublishTrack(sent, false);
    this.events.onSent(slot);
  }

  private async adjustMute(): Promise<void> {
    const publication = this.publication('microphone');
    if (publication === undefined || publication.isMuted === this.muted) return;
    if (this.muted) await publication.mute();
    else await publication.unmute();
  }

  private publication(slot: Slot): LocalTrackPublication | undefined {
    return this.room.localParticipant.getTrackPublication(SOURCE_OF[slot]);
  }

  /** In an audio call the media server takes a camera only after the service has told it to: that may take a moment. */
  private async send(slot: Slot, track: MediaStreamTrack): Promise<void> {
    const until = Date.now() + PERMISSION_MS;
    for (;;) {
      try {
        await this.room.localParticipant.publishTrack(await this.local(slot, track), {
          source: SOURCE_OF[slot],
          simulcast: slot === 'camera',
        });
        this.events.onSent(slot);
        return;
      } catch (error) {
        const forbidden = error instanceof PublishTrackError && error.status === 403;
        if (!forbidden || Date.now() >= until || this.ours.get(slot) !== track) throw error;
        await this.permitted(until - Date.now());
      }
    }
  }

  /** A microphone that is muted is so from its first moment in the room: what is told of its beginning says so. */
  private async local(slot: Slot, track: MediaStreamTrack): Promise<MediaStreamTrack | LocalTrack> {
    if (slot !== 'microphone' || !this.muted) return track;
    // The client's own types disagree about an optional field, and mean the same.
    return (await new LocalAudioTrack(track).mute()) as LocalTrack;
  }

  /** Waits until what we may send changes, or until it has taken too long. */
  private permitted(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.room.off(RoomEvent.ParticipantPermissionsChanged, done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      this.room.on(RoomEvent.ParticipantPermissionsChanged, done);
    });
  }

  private onUnsent(slot: Slot, error: unknown): void {
    this.events.onNote('media:trouble', { what: `send ${slot}`, error: String(error) });
    // Without a room it is sent again once there is one.
    const up = !this.closed && !this.joining && this.room.state === ConnectionState.Connected;
    if (up && this.ours.has(slot) && this.publication(slot) === undefined) this.events.onUnsent(slot);
  }

  /** Of our own tracks only: what is shown of the others' is the service's word. */
  private onMuted(publication: { source: Track.Source; track?: MediaTrack }, from: Participant): void {
    const slot = SLOT_OF[publication.source];
    if (slot === undefined || from !== this.room.localParticipant) return;
    const track = publication.track?.mediaStreamTrack;
    // A device that was unplugged is told where it is held; muting by ourselves needs no telling.
    if (track?.readyState !== 'live' || this.ours.get(slot) !== track) return;
    if (slot !== 'microphone' || !this.muted) this.events.onSilenced(slot);
  }

  private onTrack(track: MediaTrack, userId: string, here: boolean): void {
    const slot = SLOT_OF[track.source];
    // Who is in the room but not in the call is neither seen nor heard.
    if (slot === undefined || !this.met.has(userId)) return;
    this.events.onTrack(userId, slot, here ? track.mediaStreamTrack : null);
  }

  private onPair(userId: string, state: 'connected' | 'lost'): void {
    if (this.met.has(userId)) this.events.onPair(userId, state);
  }
}

function isTakeover(error: unknown): boolean {
  return (
    error instanceof ConnectionError &&
    error.reason === ConnectionErrorReason.LeaveRequest &&
    error.context === DisconnectReason.DUPLICATE_IDENTITY
  );
}

async function reportOf(from: RemoteParticipant): Promise<StatLike[]> {
  const found: StatLike[] = [];
  for (const publication of from.trackPublications.values()) {
    const track = publication.track as RemoteTrack | undefined;
    const report = await track?.getRTCStatsReport();
    if (report !== undefined) found.push(...(report.values() as Iterable<StatLike>));
  }
  return found;
}
