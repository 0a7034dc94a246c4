import { describe, expect, it } from 'vitest';
import { hueOf, idOfName, initials, MAX_ID } from '../src/lib/ids';
import { claimsOf } from '../src/lib/jwt';
import { clock, durationWords, sizeWords, whenWords } from '../src/lib/time';
import { lanes, marks } from '../src/lib/timeline';

describe('a name', () => {
  it.each([
    ['Ada', 'ada'],
    ['  Ada Lovelace ', 'ada-lovelace'],
    ['Zoë', 'zoe'],
    ['a@b', 'a-b'],
    ['!!!', ''],
  ])('%s gets the id %s', (name, id) => {
    expect(idOfName(name)).toBe(id);
  });

  it('in any script gets an id of the allowed characters, and another name another id', () => {
    const ids = ['Ада', 'Аня', '李雷', '韩梅梅', '😀', 'Ada 李'].map(idOfName);
    for (const id of ids) expect(id).toMatch(/^[A-Za-z0-9_.:@=-]{1,64}$/);
    expect(new Set(ids).size).toBe(ids.length);
  });

  it('however long gets an id that is allowed', () => {
    expect(idOfName('x'.repeat(500))).toHaveLength(MAX_ID);
  });

  it.each([
    ['Ada Lovelace', 'AL'],
    ['ada', 'A'],
    ['grace-hopper', 'GH'],
    ['', '?'],
  ])('%s has the initials %s', (name, letters) => {
    expect(initials(name)).toBe(letters);
  });

  it('has a hue', () => {
    for (const id of ['a', 'b', 'ada']) expect(hueOf(id)).toBeLessThan(360);
  });
});

describe('a token', () => {
  const jwt = (claims: object) => `x.${btoa(JSON.stringify(claims)).replace(/=+$/, '')}.y`;
  it('tells its bearer', () => {
    expect(claimsOf(jwt({ userId: 'ada', username: 'Ada', exp: 10 }))).toEqual({
      userId: 'ada',
      username: 'Ada',
      expiresAt: 10_000,
    });
    expect(claimsOf(jwt({ sub: 'ada' }))).toEqual({
      userId: 'ada',
      username: 'ada',
      expiresAt: Number.POSITIVE_INFINITY,
    });
  });
  it.each(['', 'x', 'a.b', 'a.%%%.c', 'a.bm90IGpzb24.c', jwt({ name: 'x' }), jwt({ userId: 7 }), jwt([])])(
    'is not %s',
    (text) => {
      expect(claimsOf(text)).toBeNull();
    },
  );
});

it.each([
  [0, '0 s'],
  [59.4, '59 s'],
  [60, '1 min'],
  [125, '2 min 5 s'],
  [3600, '1 h'],
  [3780, '1 h 3 min'],
  [-4, '0 s'],
])('%d seconds are %s', (seconds, words) => {
  expect(durationWords(seconds)).toBe(words);
});

it.each([
  [4, '0:04'],
  [750, '12:30'],
  [3723, '1:02:03'],
])('%d seconds are %s on a clock', (seconds, words) => {
  expect(clock(seconds)).toBe(words);
});

it('a time is said as near as it is', () => {
  const now = new Date(2026, 10, 23, 12, 0).getTime();
  const at = (day: number, month = 10) => new Date(2026, month, day, 9, 5).toISOString();
  expect(whenWords(at(23), now)).toBe('09:05');
  expect(whenWords(at(22), now)).toBe('Yesterday 09:05');
  expect(whenWords(at(20), now)).toBe('Fri 09:05');
  expect(whenWords(at(3), now)).toBe('3 Nov 09:05');
});

it('sizes are short', () => {
  expect([12, 999, 1000, 10_340].map(sizeWords)).toEqual(['12 B', '999 B', '1.0 kB', '10.3 kB']);
  expect([999_949, 999_950, 12_340_000, 2.5e9, 7e12].map(sizeWords)).toEqual([
    '999.9 kB',
    '1.0 MB',
    '12.3 MB',
    '2.5 GB',
    '7000.0 GB',
  ]);
});

describe('the timeline', () => {
  const story = [
    { at: 0, who: null, state: 'ringing' },
    { at: 0, who: 'ada', state: 'connecting' },
    { at: 10, who: 'ada', state: 'left' },
    { at: 10, who: null, state: 'ended' },
  ];
  it('has the call first, bars that meet, and an end that is a point', () => {
    expect(lanes(story, 99)).toEqual([
      {
        who: null,
        bars: [
          { state: 'ringing', from: 0, to: 10 },
          { state: 'ended', from: 10, to: 10 },
        ],
      },
      {
        who: 'ada',
        bars: [
          { state: 'connecting', from: 0, to: 10 },
          { state: 'left', from: 10, to: 10 },
        ],
      },
    ]);
  });
  it('goes on to the present while the call does', () => {
    expect(lanes(story.slice(0, 1), 99)[0]?.bars[0]?.to).toBe(99);
  });
  it('has few marks whatever its length', () => {
    for (const span of [500, 8000, 60_000, 3_600_000, 14_400_000])
      expect(marks(span).length).toBeLessThanOrEqual(9);
  });
});
