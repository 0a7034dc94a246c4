import type { RelayKind } from '../contract';
import type { LinkEvents, PairState } from './link';
import {
  budget,
  type Described,
  isPolite,
  isStale,
  judgeOffer,
  nameIn,
  SLOTS,
  type Slot,
  slotOf,
} from './negotiation';
import { type Counters, type Measured, measure, type StatLike } from './quality';

export interface PeerHost {
  me: string;
  /** What we are called. */
  name: string;
  /** This page, as others tell it from an earlier one. */
  instance: string;
  events: LinkEvents;
  configuration(): Promise<RTCConfiguration>;
  send(userId: string, kind: RelayKind, payload: unknown): void;
  outgoing(slot: Slot): MediaStreamTrack | null;
  pairs(): number;
}

/** How long a broken connection may mend by itself before ICE is restarted, in milliseconds. */
const MEND_MS = 2500;
/** How long what was agreed on may take to connect before the next offer, in milliseconds. */
const RETRY_MS = 8000;
/**
 * How long an offer may go without an answer before it is sent again, in milliseconds. Either of them is lost where a
 * line breaks, and while ours is out the other's is passed over: without this, both would wait.
 */
const UNANSWERED_MS = 2000;

/** The connection to one other person. All it does goes through one queue, so that nothing is half done when the next thing comes. */
export class Peer {
  pc: RTCPeerConnection | null = null;
  private readonly slots = new Map<Slot, RTCRtpTransceiver>();
  private queue: Promise<void> = Promise.resolve();
  private early: RTCIceCandidateInit[] = [];
  private known: string | null = null;
  private agreed = false;
  private ignored = false;
  private counters: Counters | null = null;
  private mending: ReturnType<typeof setTimeout> | undefined;
  private closed = false;

  constructor(
    readonly userId: string,
    private readonly host: PeerHost,
  ) {}

  /** Makes the first offer, unless the other side was faster. */
  begin(): void {
    this.run('offer', async () => {
      if (this.pc === null) await this.makeOffer();
    });
  }

  /** Makes the first offer, or one that restarts ICE; one that was not answered is sent again. */
  offer(): void {
    this.run('offer', () => this.makeOffer());
  }

  receive(kind: RelayKind, payload: unknown): void {
    if (typeof payload !== 'object' || payload === null) return;
    const message = payload as Partial<Described> & { candidate?: string };
    if (isStale(message.to, this.host.instance)) return;
    this.run(`received ${kind}`, async () => {
      if (kind === 'offer') await this.takeOffer(message);
      else if (kind === 'answer') await this.takeAnswer(message);
      else await this.takeCandidate(message);
    });
  }

  publish(slot: Slot): void {
    this.run(`publish ${slot}`, async () => {
      await this.slots.get(slot)?.sender.replaceTrack(this.host.outgoing(slot));
      await this.spend();
    });
  }

  /** Other servers from now on; a connection that is up stays as it is until it has to be mended. */
  configure(configuration: RTCConfiguration): void {
    this.run('configure', async () => this.pc?.setConfiguration(configuration));
  }

  /** Restarts ICE unless all is well. */
  recover(): void {
    if (this.pc !== null && this.pc.connectionState !== 'connected') this.offer();
  }

  async sample(at: number): Promise<Measured | null> {
    if (this.pc?.connectionState !== 'connected') return null;
    const report = await this.pc.getStats();
    const { sample, counters } = measure(report.values() as Iterable<StatLike>, this.counters, at);
    this.counters = counters;
    return sample;
  }

  level(): number {
    const sources = this.slots.get('microphone')?.receiver.getSynchronizationSources?.() ?? [];
    return Math.max(0, ...sources.map((source) => source.audioLevel ?? 0));
  }

  close(): void {
    this.closed = true;
    this.drop();
  }

  private run(what: string, step: () => Promise<void>): void {
    this.queue = this.queue
      .then(() => (this.closed ? undefined : step()))
      .catch((error: unknown) =>
        this.host.events.onNote('media:trouble', { userId: this.userId, what, error: String(error) }),
      );
  }

  private async makeOffer(): Promise<void> {
    const pc = this.pc ?? (await this.open());
    if (pc.signalingState === 'stable') {
      if (this.slots.size === 0) await this.ownSlots(pc);
      else pc.restartIce();
      await pc.setLocalDescription();
    }
    this.sendOffer(pc);
  }

  /** Sends the offer that is out, again and again until it is answered. */
  private sendOffer(pc: RTCPeerConnection): void {
    if (pc !== this.pc || pc.signalingState !== 'have-local-offer') return;
    this.describe(pc);
    clearTimeout(this.mending);
    this.mending = setTimeout(() => this.run('offer again', async () => this.sendOffer(pc)), UNANSWERED_MS);
  }

  private async open(): Promise<RTCPeerConnection> {
    this.drop();
    const pc = new RTCPeerConnection(await this.host.configuration());
    this.pc = pc;
    pc.onicecandidate = ({ candidate }) => {
      if (candidate === null) return;
      this.host.send(this.userId, 'ice_candidate', { ...candidate.toJSON(), ...this.envelope() });
    };
    pc.onconnectionstatechange = () => this.onState(pc);
    this.say('connecting');
    return pc;
  }

  private drop(): void {
    clearTimeout(this.mending);
    if (this.pc !== null) {
      this.pc.onicecandidate = null;
      this.pc.onconnectionstatechange = null;
      this.pc.close();
    }
    this.pc = null;
    this.agreed = false;
    this.early = [];
    this.counters = null;
    for (const slot of this.slots.keys()) this.host.events.onTrack(this.userId, slot, null);
    this.slots.clear();
  }

  private onState(pc: RTCPeerConnection): void {
    if (pc !== this.pc) return;
    this.host.events.onNote('media:connection', { userId: this.userId, state: pc.connectionState });
    clearTimeout(this.mending);
    switch (pc.connectionState) {
      case 'connected':
        this.say('connected');
        break;
      case 'disconnected':
        this.say('lost');
        this.mendIn(MEND_MS);
        break;
      case 'failed':
        this.say('lost');
        this.mendIn(0);
        break;
      case 'closed':
        break;
      default:
        this.mendIn(RETRY_MS);
    }
  }

  /** Offers anew unless it is connected by then. Both sides may do so at once: the polite one gives way. */
  private mendIn(ms: number): void {
    clearTimeout(this.mending);
    this.mending = setTimeout(() => {
      if (!this.closed && this.pc?.connectionState !== 'connected') this.offer();
    }, ms);
  }

  private say(state: PairState): void {
    this.host.events.onPair(this.userId, state);
  }

  private async ownSlots(pc: RTCPeerConnection): Promise<void> {
    const together = new MediaStream();
    const shown = new MediaStream();
    for (const slot of SLOTS) {
      const transceiver = pc.addTransceiver(slot === 'microphone' ? 'audio' : 'video', {
        direction: 'sendrecv',
        streams: [slot === 'screen' ? shown : together],
      });
      this.slots.set(slot, transceiver);
      await transceiver.sender.replaceTrack(this.host.outgoing(slot));
    }
  }

  private async takeOffer(message: Partial<Described>): Promise<void> {
    if (typeof message.sdp !== 'string') return;
    const from = message.instance ?? null;
    this.introduce(message.name);
    const verdict = judgeOffer(
      {
        polite: isPolite(this.host.me, this.userId),
        signaling: this.pc?.signalingState ?? 'stable',
        agreed: this.agreed,
        known: this.known,
      },
      from,
    );
    this.ignored = verdict === 'ignore';
    if (this.ignored) return;
    const pc = this.pc === null || verdict === 'renew' ? await this.open() : this.pc;
    this.known = from;
    await this.settle(pc, { type: 'offer', sdp: message.sdp });
    await this.adoptSlots(pc, message.slots);
    await pc.setLocalDescription();
    this.describe(pc);
    await this.concluded();
  }

  private async takeAnswer(message: Partial<Described>): Promise<void> {
    const pc = this.pc;
    if (pc === null || typeof message.sdp !== 'string' || pc.signalingState !== 'have-local-offer') return;
    this.known = message.instance ?? null;
    this.introduce(message.name);
    await this.settle(pc, { type: 'answer', sdp: message.sdp });
    await this.concluded();
  }

  private async takeCandidate(message: RTCIceCandidateInit & { instance?: string }): Promise<void> {
    if (this.known !== null && message.instance !== undefined && message.instance !== this.known) return;
    const candidate: RTCIceCandidateInit = {
      candidate: message.candidate ?? '',
      sdpMid: message.sdpMid ?? null,
      sdpMLineIndex: message.sdpMLineIndex ?? null,
      ...(message.usernameFragment == null ? {} : { usernameFragment: message.usernameFragment }),
    };
    if (candidate.sdpMid === null && candidate.sdpMLineIndex === null) return;
    if (this.pc?.remoteDescription == null) this.early.push(candidate);
    else await this.add(this.pc, candidate);
  }

  private async add(pc: RTCPeerConnection, candidate: RTCIceCandidateInit): Promise<void> {
    try {
      await pc.addIceCandidate(candidate);
    } catch (error) {
      // Those of an offer that was passed over are expected not to fit.
      if (!this.ignored) throw error;
    }
  }

  private async settle(pc: RTCPeerConnection, description: RTCSessionDescriptionInit): Promise<void> {
    await pc.setRemoteDescription(description);
    const early = this.early;
    this.early = [];
    for (const candidate of early) await this.add(pc, candidate);
  }

  private async adoptSlots(pc: RTCPeerConnection, labels: Record<string, Slot> | undefined): Promise<void> {
    for (const transceiver of pc.getTransceivers()) {
      if ([...this.slots.values()].includes(transceiver)) continue;
      const kind = transceiver.receiver.track.kind;
      const slot = slotOf(transceiver.mid, kind, labels, new Set(this.slots.keys()));
      if (slot === null || this.slots.has(slot)) continue;
      this.slots.set(slot, transceiver);
      transceiver.direction = 'sendrecv';
      await transceiver.sender.replaceTrack(this.host.outgoing(slot));
    }
  }

  private async concluded(): Promise<void> {
    this.agreed = true;
    this.ignored = false;
    this.mendIn(RETRY_MS);
    for (const [slot, transceiver] of this.slots) {
      this.host.events.onTrack(this.userId, slot, transceiver.receiver.track);
    }
    await this.spend();
  }

  /** Keeps what a camera sends within what the number of people allows. */
  async spend(): Promise<void> {
    const sender = this.slots.get('camera')?.sender;
    const parameters = sender?.getParameters();
    const encoding = parameters?.encodings?.[0];
    if (sender === undefined || parameters === undefined || encoding === undefined) return;
    const { cameraBits, scale } = budget(this.host.pairs());
    if (encoding.maxBitrate === cameraBits && encoding.scaleResolutionDownBy === scale) return;
    encoding.maxBitrate = cameraBits;
    encoding.scaleResolutionDownBy = scale;
    await sender.setParameters(parameters);
  }

  private introduce(said: unknown): void {
    const name = nameIn(said);
    if (name !== null) this.host.events.onName(this.userId, name);
  }

  private describe(pc: RTCPeerConnection): void {
    const local = pc.localDescription;
    if (local === null || (local.type !== 'offer' && local.type !== 'answer')) return;
    const slots: Record<string, Slot> = {};
    for (const [slot, { mid }] of this.slots) if (mid !== null) slots[mid] = slot;
    const { name } = this.host;
    this.host.send(this.userId, local.type, {
      type: local.type,
      sdp: local.sdp,
      slots,
      name,
      ...this.envelope(),
    });
  }

  private envelope(): { instance: string; to: string | null } {
    return { instance: this.host.instance, to: this.known };
  }
}
