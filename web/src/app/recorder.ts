import { type Channel, callOf, type Direction, type Entry, kept, redacted, sizeOf } from '../lib/log';
import { entries, paused } from './store';

let last = 0;

export interface Passed {
  channel: Channel;
  direction: Direction;
  name: string;
  data?: unknown;
  path?: string;
  routine?: boolean;
}

/** Notes something that passed; the answer is called when its ack or answer is there. */
export function record(passed: Passed): (status: string, failed: boolean, reply: unknown) => void {
  last += 1;
  const entry: Entry = {
    id: last,
    at: Date.now(),
    channel: passed.channel,
    direction: passed.direction,
    name: passed.name,
    size: sizeOf(passed.data),
    callId: callOf(passed.data, passed.path),
    took: null,
    status: null,
    failed: false,
    data: redacted(passed.data),
    reply: undefined,
    routine: passed.routine ?? false,
  };
  if (paused.value) return () => {};
  entries.value = kept(entries.value, entry);
  const began = performance.now();
  return (status, failed, reply) => {
    const took = Math.round((performance.now() - began) * 10) / 10;
    const callId = entry.callId ?? callOf(reply);
    const size = entry.size + sizeOf(reply);
    entries.value = entries.value.map((one) =>
      one.id === entry.id ? { ...one, took, status, failed, callId, size, reply: redacted(reply) } : one,
    );
  };
}
