import { describe, expect, it } from 'vitest';
import { type RoomWhy, roomWords, waitBefore, whyOf } from '../src/call/room';

describe('a try to join a room that failed', () => {
  it.each([
    [{ reasonName: 'NotAllowed', status: 404, message: 'requested room does not exist' }, 'missing'],
    [{ reasonName: 'NotAllowed', status: 401, message: 'invalid token' }, 'refused'],
    [{ reasonName: 'NotAllowed', status: 403 }, 'refused'],
    [
      {
        reasonName: 'ServerUnreachable',
        message: 'could not establish signal connection: Encountered websocket error during connection',
      },
      'full',
    ],
    [{ reasonName: 'InternalError', message: 'could not establish pc connection' }, 'blocked'],
    [{ reasonName: 'InternalError' }, 'unreachable'],
    [{ reasonName: 'ServerUnreachable', message: 'Failed to fetch' }, 'unreachable'],
    [{ reasonName: 'Timeout' }, 'unreachable'],
    [{ message: 'no answer' }, 'unreachable'],
    [{}, 'unreachable'],
  ])('%o is %s', (failure, why) => {
    expect(whyOf(failure)).toBe(why);
  });

  it('is told in words of its own, without a code', () => {
    const all: RoomWhy[] = ['reconnecting', 'lost', 'unreachable', 'blocked', 'full', 'missing', 'refused'];
    const words = all.map(roomWords);
    expect(new Set(words.map(({ title }) => title)).size).toBe(all.length);
    for (const { title, detail } of words) {
      expect(title).toMatch(/^[A-Z][a-z ]+$/);
      expect(detail).toMatch(/\.$/);
      expect(detail).not.toMatch(/\d|_|Error/);
    }
  });

  it('is followed by another, later each time, up to a bound', () => {
    const waits = Array.from({ length: 12 }, (_, tries) => waitBefore(tries, 0.5));
    expect(waits[0]).toBe(500);
    expect([...waits].sort((a, b) => a - b)).toEqual(waits);
    expect(waits.at(-1)).toBe(8000);
    expect([waitBefore(1, 0), waitBefore(1, 1)]).toEqual([750, 1250]);
  });
});
