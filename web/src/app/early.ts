import type { CallEvent, RelayKind } from '../contract';

/** The most kept of one kind; older ones go first. */
const MOST = 100;

/** What came of calls that this page is not ready for yet. */
class Early<T> {
  private kept: { callId: string; what: T }[] = [];

  keep(callId: string, what: T): void {
    this.kept = [...this.kept.slice(-MOST + 1), { callId, what }];
  }

  /** What came of that call, in the order it came; it is kept no longer. */
  take(callId: string): T[] {
    const found = this.kept.filter((one) => one.callId === callId);
    this.kept = this.kept.filter((one) => one.callId !== callId);
    return found.map((one) => one.what);
  }
}

/** Events of calls not known yet: an event may overtake the answer to the very start or join that makes the call ours. */
export const earlyEvents = new Early<CallEvent>();

export interface FromPeer {
  userId: string;
  kind: RelayKind;
  payload: unknown;
}

/** The others' signaling overtakes that answer too: they offer as soon as they hear that somebody has joined. */
export const earlySignals = new Early<FromPeer>();
