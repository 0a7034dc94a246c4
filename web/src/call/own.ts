import { isIn, type MediaSettings, type Participant, type Source } from '../contract';

/** How long after a change of ours the service may still speak of what was before, in milliseconds. */
export const SETTLE_MS = 2500;

const FIELDS: Record<Source, keyof MediaSettings> = {
  audio: 'audioEnabled',
  video: 'videoEnabled',
  screen_share: 'screenShareEnabled',
};

/** The service's word on us. */
export type Own = MediaSettings & Pick<Participant, 'connectionState'>;

/**
 * Tells what somebody else has turned off from the echo of what this page did. The service's word on us follows
 * our own switches, and the media server's word on what we send; both may come late, and in bursts: off and on
 * again is heard as off, then on. So a fall from on to off counts only once our own changes have settled and no
 * rise has followed it; and what is said to be on though it is off here is set right only then.
 */
export class OwnSettings {
  private readonly changedAt = new Map<Source, number>();
  private readonly fallen = new Set<Source>();
  private readonly claimed = new Set<Source>();

  /** We have switched it, or what we send of it has begun anew. */
  changed(source: Source, at: number): void {
    this.changedAt.set(source, at);
  }

  /**
   * The service's word on us went from `before` to `after` while these were on here. Of one who is only asked it says that
   * the camera is off: it may still say so, with another's coming, while we are on our way in.
   */
  heard(before: Own, after: Own, on: ReadonlySet<Source>): void {
    if (!isIn(after)) return;
    for (const [source, field] of Object.entries(FIELDS) as [Source, keyof MediaSettings][]) {
      if (after[field]) {
        this.fallen.delete(source);
        if (!on.has(source)) this.claimed.add(source);
      } else {
        this.claimed.delete(source);
        if (before[field] && on.has(source)) this.fallen.add(source);
      }
    }
  }

  /** What somebody else has turned off of what is on here, as far as that is sure by now; each is told once. */
  turnedOff(on: ReadonlySet<Source>, at: number): Source[] {
    return this.settled(this.fallen, (source) => on.has(source), at);
  }

  /** What the service takes for on though it is off here: a microphone that was muted as it began to be sent, say. */
  wronglyOn(on: ReadonlySet<Source>, at: number): Source[] {
    return this.settled(this.claimed, (source) => !on.has(source), at);
  }

  /** When what is not sure yet will be, if nothing changes until then; null where nothing is open. */
  due(): number | null {
    const open = [...this.fallen, ...this.claimed].map((source) => this.settledAt(source));
    return open.length === 0 ? null : Math.min(...open);
  }

  /** Another call begins, or none. */
  forget(): void {
    this.changedAt.clear();
    this.fallen.clear();
    this.claimed.clear();
  }

  /** Those of `open` that still hold and are settled, which are then open no more. */
  private settled(open: Set<Source>, holds: (source: Source) => boolean, at: number): Source[] {
    for (const source of open) if (!holds(source)) open.delete(source);
    const sure = [...open].filter((source) => this.settledAt(source) <= at);
    for (const source of sure) open.delete(source);
    return sure;
  }

  private settledAt(source: Source): number {
    return (this.changedAt.get(source) ?? Number.NEGATIVE_INFINITY) + SETTLE_MS;
  }
}
