import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Peer, type PeerHost } from '../src/call/peer';
import type { RelayKind } from '../src/contract';

/** As much of a browser's connection as the negotiation asks for. */
class FakeConnection {
  signalingState: RTCSignalingState = 'stable';
  connectionState: RTCPeerConnectionState = 'new';
  localDescription: RTCSessionDescriptionInit | null = null;
  remoteDescription: RTCSessionDescriptionInit | null = null;
  private readonly transceivers: unknown[] = [];

  addTransceiver(kind: string): unknown {
    const sender = { replaceTrack: async () => {}, getParameters: () => ({ encodings: [] }) };
    const made = { mid: String(this.transceivers.length), sender, receiver: { track: { kind } } };
    this.transceivers.push(made);
    return made;
  }

  getTransceivers(): unknown[] {
    return this.transceivers;
  }

  async setLocalDescription(): Promise<void> {
    const type = this.signalingState === 'have-remote-offer' ? 'answer' : 'offer';
    this.localDescription = { type, sdp: type };
    this.signalingState = type === 'offer' ? 'have-local-offer' : 'stable';
  }

  async setRemoteDescription(description: RTCSessionDescriptionInit): Promise<void> {
    this.remoteDescription = description;
    this.signalingState = description.type === 'offer' ? 'have-remote-offer' : 'stable';
  }

  restartIce(): void {}
  close(): void {}
}

type Message = { from: string; kind: RelayKind; payload: unknown };

const sent: Message[] = [];
/** Which messages get lost. */
let lost: (kind: RelayKind) => boolean;
let ada: Peer;
let grace: Peer;

/** `name`'s side of the pair; what it sends comes to `other`, unless it is lost. */
function side(name: string, toward: string, other: () => Peer): Peer {
  const events = { onTrack: () => {}, onPair: () => {}, onName: () => {}, onNote: () => {} };
  const host = {
    me: name,
    name,
    instance: `page of ${name}`,
    events: events as unknown as PeerHost['events'],
    configuration: async () => ({}),
    send: (_to: string, kind: RelayKind, payload: unknown) => {
      sent.push({ from: name, kind, payload });
      if (!lost(kind)) other().receive(kind, payload);
    },
    outgoing: () => null,
    pairs: () => 1,
  };
  return new Peer(toward, host);
}

const states = () => [ada, grace].map((one) => one.pc?.signalingState);
const said = () => sent.map(({ from, kind }) => `${from} ${kind}`);

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal('RTCPeerConnection', FakeConnection);
  vi.stubGlobal('MediaStream', class {});
  sent.length = 0;
  lost = () => false;
  ada = side('ada', 'grace', () => grace);
  grace = side('grace', 'ada', () => ada);
});

afterEach(() => {
  ada.close();
  grace.close();
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

describe('a pair', () => {
  it('agrees by one offer and one answer', async () => {
    grace.begin();
    await vi.advanceTimersByTimeAsync(7000);
    expect(said()).toEqual(['grace offer', 'ada answer']);
    expect(states()).toEqual(['stable', 'stable']);
  });

  it('needs no offer of the one to whom the other was faster', async () => {
    grace.begin();
    await vi.advanceTimersByTimeAsync(10);
    ada.begin();
    await vi.advanceTimersByTimeAsync(2500);
    expect(said()).toEqual(['grace offer', 'ada answer']);
  });

  it('sends an offer that was lost again, soon', async () => {
    lost = () => true;
    grace.begin();
    await vi.advanceTimersByTimeAsync(1000);
    lost = () => false;
    await vi.advanceTimersByTimeAsync(1500);
    expect(said()).toEqual(['grace offer', 'grace offer', 'ada answer']);
    expect(states()).toEqual(['stable', 'stable']);
  });

  it('gets over an answer that was lost, soon', async () => {
    lost = (kind) => kind === 'answer';
    grace.begin();
    await vi.advanceTimersByTimeAsync(1000);
    lost = () => false;
    await vi.advanceTimersByTimeAsync(1500);
    expect(said()).toEqual(['grace offer', 'ada answer', 'grace offer', 'ada answer']);
    expect(states()).toEqual(['stable', 'stable']);
  });

  it('does not wait for the offer that counts where it was lost and the other one is passed over', async () => {
    lost = () => true;
    grace.begin();
    await vi.advanceTimersByTimeAsync(500);
    lost = () => false;
    ada.begin();
    await vi.advanceTimersByTimeAsync(10);
    expect(states()).toEqual(['have-local-offer', 'have-local-offer']);
    await vi.advanceTimersByTimeAsync(2000);
    expect(said().at(-1)).toBe('ada answer');
    expect(states()).toEqual(['stable', 'stable']);
  });
});
