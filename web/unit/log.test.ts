import { describe, expect, it } from 'vitest';
import {
  type Channel,
  callOf,
  type Entry,
  exported,
  type Filter,
  filtered,
  kept,
  MOST_ENTRIES,
  redacted,
  sizeOf,
} from '../src/lib/log';

const ALL: ReadonlySet<Channel> = new Set(['event', 'rest', 'line', 'media']);
const ID = '01939f60-0000-7000-8000-000000000001';

function entry(id: number, change: Partial<Entry> = {}): Entry {
  return {
    id,
    at: 0,
    channel: 'event',
    direction: 'in',
    name: 'call:ringing',
    size: 1,
    callId: null,
    took: null,
    status: null,
    failed: false,
    data: {},
    reply: undefined,
    routine: false,
    ...change,
  };
}

const entries = [
  entry(1),
  entry(2, { name: 'webrtc:offer', callId: ID }),
  entry(3, { channel: 'rest', name: `POST /api/v1/calls/${ID}/join`, callId: ID, status: '200' }),
  entry(4, { channel: 'rest', name: 'GET /dev/users', routine: true }),
];

describe('the filter', () => {
  const none: Filter = { text: '', callId: null, channels: ALL, routine: false };
  it.each([
    [{}, [1, 2, 3]],
    [{ routine: true }, [1, 2, 3, 4]],
    [{ text: 'OFFER' }, [2]],
    [{ text: 'post join' }, [3]],
    [{ text: 'post offer' }, []],
    [{ text: '200' }, [3]],
    [{ callId: ID }, [2, 3]],
    [{ channels: new Set<Channel>(['rest']) }, [3]],
  ])('%o keeps %j', (change, ids) => {
    expect(filtered(entries, { ...none, ...change }).map((one) => one.id)).toEqual(ids);
  });
});

describe('the record', () => {
  it('is bounded, the oldest going first', () => {
    let all: Entry[] = [];
    for (let id = 1; id <= MOST_ENTRIES + 3; id += 1) all = kept(all, entry(id));
    expect(all).toHaveLength(MOST_ENTRIES);
    expect(all[0]?.id).toBe(4);
    expect(all.at(-1)?.id).toBe(MOST_ENTRIES + 3);
  });

  it('holds no token and no credential', () => {
    const told = redacted({
      data: {
        token: { token: 'secret', url: 'ws://x' },
        iceServers: [{ urls: ['turn:x'], credential: 'secret' }],
      },
    });
    expect(JSON.stringify(told)).not.toContain('secret');
    expect(told).toMatchObject({ data: { token: { url: 'ws://x' } } });
    expect(redacted({ token: null })).toEqual({ token: null });
  });

  it('is exported with times a person can read', () => {
    expect(JSON.parse(exported([entry(1)]))[0]).toMatchObject({
      name: 'call:ringing',
      at: '1970-01-01T00:00:00.000Z',
    });
  });
});

it.each([
  [{ callId: ID }, '', ID],
  [undefined, `/api/v1/calls/${ID}/end`, ID],
  [{ success: true, data: { call: { id: ID } } }, '', ID],
  [{ type: 'video' }, '/api/v1/calls/start', null],
  [null, '', null],
])('%j at %s is about call %s', (data, path, expected) => {
  expect(callOf(data, path)).toBe(expected);
});

it('sizes are bytes, not characters', () => {
  expect(sizeOf('é')).toBe(4);
  expect(sizeOf(undefined)).toBe(0);
});
