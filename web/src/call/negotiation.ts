/**
 * The decisions of a pair that agrees on media over the relay ("perfect negotiation"), apart from any
 * RTCPeerConnection: who gives way, which offer counts, and which page of the other person it came from.
 */

/** The three things each side may send; each has a transceiver of its own from the start. */
export const SLOTS = ['microphone', 'camera', 'screen'] as const;
export type Slot = (typeof SLOTS)[number];

/** Of two who offer at once the one with the smaller id gives way. */
export function isPolite(me: string, other: string): boolean {
  return me < other;
}

export type OfferVerdict =
  /** No offer of ours is out: take it. */
  | 'take'
  /** Both have offered, and ours counts: pass it over. */
  | 'ignore'
  /** Both have offered and theirs counts: take ours back, then take theirs. */
  | 'yield'
  /** It comes from another page than before, or ours was the first: start over with a new connection. */
  | 'renew';

export interface Standing {
  polite: boolean;
  signaling: RTCSignalingState;
  /** Whether the two have agreed once already. */
  agreed: boolean;
  /** The page of the other person that was last heard. */
  known: string | null;
}

export function judgeOffer(standing: Standing, from: string | null): OfferVerdict {
  const moved = standing.known !== null && from !== null && standing.known !== from;
  if (moved) return 'renew';
  // One of theirs that could not be answered does not keep the next one out.
  if (standing.signaling !== 'have-local-offer') return 'take';
  if (!standing.polite) return 'ignore';
  // Before the first agreement our transceivers are not tied to theirs: a rollback would leave both sets.
  return standing.agreed ? 'yield' : 'renew';
}

/** What this page puts beside the SDP; the relay passes it on untouched, other clients pass it over. */
export interface Envelope {
  /** The page it comes from: a new one after a reload or on another device. */
  instance: string;
  /** The page it is meant for, where known. */
  to: string | null;
}

export interface Described extends Envelope {
  type: 'offer' | 'answer';
  sdp: string;
  /** What the sender is called: the service itself knows no names but the initiator's. */
  name: string;
  /** Which slot each media section is, by mid. */
  slots: Record<string, Slot>;
}

/** Whether something that came was meant for an earlier page of ours. */
export function isStale(to: unknown, mine: string): boolean {
  return typeof to === 'string' && to !== mine;
}

/** The slot of a section: as said, else by kind and order, as clients without labels send them. */
export function slotOf(
  mid: string | null,
  kind: string,
  slots: Record<string, Slot> | undefined,
  taken: ReadonlySet<Slot>,
): Slot | null {
  const said = mid === null ? undefined : slots?.[mid];
  if (said !== undefined && SLOTS.includes(said)) return said;
  if (slots !== undefined) return null;
  const order: Slot[] = kind === 'audio' ? ['microphone'] : ['camera', 'screen'];
  return order.find((slot) => !taken.has(slot)) ?? null;
}

/** The longest name taken from another page, in characters. */
const MAX_NAME = 60;

/** A name that another page sent, if it is fit to be shown. */
export function nameIn(value: unknown): string | null {
  const name = typeof value === 'string' ? value.trim() : '';
  return name === '' || name.length > MAX_NAME ? null : name;
}

export interface Budget {
  /** Bits a second for a camera towards each other person. */
  cameraBits: number;
  /** By how much a camera's picture is made smaller. */
  scale: number;
}

/** Each pair carries its own copy of a camera, so the more people, the less for each. */
export function budget(pairs: number): Budget {
  if (pairs <= 1) return { cameraBits: 1_500_000, scale: 1 };
  if (pairs <= 3) return { cameraBits: 700_000, scale: 1.5 };
  return { cameraBits: 300_000, scale: 2 };
}
