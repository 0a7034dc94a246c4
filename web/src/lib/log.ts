/** The inspector's record of what passed between this tab and the service. */

export type Direction = 'in' | 'out';
/** A Socket.IO event, a REST call, the state of the line, or the state of a media connection. */
export type Channel = 'event' | 'rest' | 'line' | 'media';

export interface Entry {
  id: number;
  /** Milliseconds since the epoch. */
  at: number;
  channel: Channel;
  direction: Direction;
  name: string;
  /** Bytes of the JSON sent or received. */
  size: number;
  callId: string | null;
  /** Milliseconds until the ack or the answer. */
  took: number | null;
  /** HTTP status, or whether an ack said success. */
  status: string | null;
  failed: boolean;
  data: unknown;
  reply: unknown;
  /** Asked again and again without anyone doing anything. */
  routine: boolean;
}

/** The most entries kept; older ones go first. */
export const MOST_ENTRIES = 2000;

/** `entries` with `entry` at its end, within the bound. */
export function kept(entries: readonly Entry[], entry: Entry): Entry[] {
  const from = entries.length >= MOST_ENTRIES ? entries.length - MOST_ENTRIES + 1 : 0;
  return [...entries.slice(from), entry];
}

export interface Filter {
  text: string;
  callId: string | null;
  channels: ReadonlySet<Channel>;
  routine: boolean;
}

/** Those that match each part of the filter; `text` is looked for in names and call ids, words apart are all needed. */
export function filtered(entries: readonly Entry[], filter: Filter): Entry[] {
  const words = filter.text
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== '');
  return entries.filter((entry) => {
    if (entry.routine && !filter.routine) return false;
    if (!filter.channels.has(entry.channel)) return false;
    if (filter.callId !== null && entry.callId !== filter.callId) return false;
    const hay = `${entry.name} ${entry.callId ?? ''} ${entry.status ?? ''}`.toLowerCase();
    return words.every((word) => hay.includes(word));
  });
}

/** The call an event or a REST path is about. */
export function callOf(data: unknown, path = ''): string | null {
  const inPath = /\/calls\/([0-9a-f-]{36})/i.exec(path)?.[1];
  if (inPath !== undefined) return inPath;
  if (typeof data !== 'object' || data === null) return null;
  const record = data as Record<string, unknown>;
  if (typeof record.callId === 'string') return record.callId;
  const inner = record.data ?? record.call;
  if (typeof inner !== 'object' || inner === null) return null;
  const id = (inner as Record<string, unknown>).id;
  return typeof id === 'string' ? id : callOf(inner);
}

/** The value with every token and credential in it left out: a log may be exported and passed on. */
export function redacted(value: unknown, key = ''): unknown {
  if (typeof value === 'string') return SECRETS.has(key) && value !== '' ? '(left out)' : value;
  if (Array.isArray(value)) return value.map((one) => redacted(one, key));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, redacted(one, name)]));
}

const SECRETS = new Set(['token', 'credential', 'authorization']);

/** Bytes of the value as JSON. */
export function sizeOf(value: unknown): number {
  if (value === undefined) return 0;
  return new TextEncoder().encode(JSON.stringify(value)).length;
}

/** The log as a JSON text to be saved. */
export function exported(entries: readonly Entry[]): string {
  return JSON.stringify(
    entries.map((entry) => ({ ...entry, at: new Date(entry.at).toISOString() })),
    null,
    2,
  );
}
