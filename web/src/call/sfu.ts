import { type LocalTrack, type Participant, type RemoteTrack, Room, RoomEvent, Track } from 'livekit-client';
import type { Link, LinkEvents } from './link';
import type { Slot } from './negotiation';
import { type Counters, type Measured, measure, type StatLike } from './quality';

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

/** The media of a call through a LiveKit room. Loaded only where the service has such a server. */
export class Sfu implements Link {
  readonly room = new Room({ adaptiveStream: false, dynacast: true, stopLocalTrackOnUnpublish: false });
  private readonly ours = new Map<Slot, MediaStreamTrack>();
  private readonly counters = new Map<string, Counters>();
  private up = false;

  constructor(private readonly events: LinkEvents) {
    this.room
      .on(RoomEvent.TrackSubscribed, (track, _publication, from) => this.onTrack(track, from.identity, true))
      .on(RoomEvent.TrackUnsubscribed, (track, _publication, from) =>
        this.onTrack(track, from.identity, false),
      )
      .on(RoomEvent.ParticipantConnected, (from) => this.events.onPair(from.identity, 'connected'))
      .on(RoomEvent.ParticipantDisconnected, (from) => this.events.onPair(from.identity, 'lost'))
      .on(RoomEvent.ConnectionStateChanged, (state) => this.events.onNote('media:room', { state }))
      .on(RoomEvent.Reconnecting, () => this.everyone('lost'))
      .on(RoomEvent.Reconnected, () => this.everyone('connected'));
  }

  /** Joins the room and sends what was published so far. */
  async connect(url: string, token: string): Promise<void> {
    await this.room.connect(url, token);
    this.up = true;
    this.everyone('connected');
    for (const [slot, track] of this.ours) await this.send(slot, track);
  }

  meet(userId: string): void {
    const there = this.room.remoteParticipants.has(userId);
    this.events.onPair(userId, there ? 'connected' : 'connecting');
  }

  part(): void {
    // The room itself says who has gone.
  }

  async publish(slot: Slot, track: MediaStreamTrack | null): Promise<void> {
    const before = this.ours.get(slot);
    if (track === null) this.ours.delete(slot);
    else this.ours.set(slot, track);
    if (!this.up || before === track) return;
    const sent = this.room.localParticipant.getTrackPublication(SOURCE_OF[slot])?.track;
    if (sent !== undefined && track !== null) await sent.replaceTrack(track);
    else if (sent !== undefined) await this.room.localParticipant.unpublishTrack(sent);
    else if (track !== null) await this.send(slot, track);
  }

  async sample(): Promise<Map<string, Measured>> {
    const at = Date.now();
    const found = new Map<string, Measured>();
    for (const from of this.room.remoteParticipants.values()) {
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
    // livekit-client mends its own connection.
  }

  close(): void {
    void this.room.disconnect(false);
  }

  private async send(slot: Slot, track: MediaStreamTrack): Promise<void> {
    await this.room.localParticipant.publishTrack(track, {
      source: SOURCE_OF[slot],
      simulcast: slot === 'camera',
    });
  }

  private onTrack(track: RemoteTrack, userId: string, here: boolean): void {
    const slot = SLOT_OF[track.source];
    if (slot !== undefined) this.events.onTrack(userId, slot, here ? track.mediaStreamTrack : null);
  }

  private everyone(state: 'connected' | 'lost'): void {
    for (const userId of this.room.remoteParticipants.keys()) this.events.onPair(userId, state);
  }
}

async function reportOf(from: Participant): Promise<StatLike[]> {
  const found: StatLike[] = [];
  for (const publication of from.trackPublications.values()) {
    const track = publication.track as RemoteTrack | LocalTrack | undefined;
    const report = await track?.getRTCStatsReport();
    if (report !== undefined) found.push(...(report.values() as Iterable<StatLike>));
  }
  return found;
}
