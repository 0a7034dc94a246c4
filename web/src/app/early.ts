import type { CallEvent } from '../contract';

/**
 * Events of calls that this page does not know yet: an event may overtake the answer to the very start or join
 * that makes the call ours.
 */

/** The most events kept; older ones go first. */
const MOST = 100;

let stash: CallEvent[] = [];

export function keepEarly(event: CallEvent): void {
  stash = [...stash.slice(-MOST + 1), event];
}

/** The events of that call, in the order they came; they are kept no longer. */
export function takeEarly(callId: string): CallEvent[] {
  const found = stash.filter((event) => event.data.callId === callId);
  stash = stash.filter((event) => event.data.callId !== callId);
  return found;
}
