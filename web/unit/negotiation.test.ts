import { describe, expect, it } from 'vitest';
import {
  budget,
  isPolite,
  isStale,
  judgeOffer,
  nameIn,
  type Slot,
  type Standing,
  slotOf,
} from '../src/call/negotiation';

const calm: Standing = { polite: true, signaling: 'stable', agreed: false, known: null };

describe('an offer that comes', () => {
  it.each([
    ['while nothing is under way', calm, 'a', 'take'],
    ['from the page that is known', { ...calm, agreed: true, known: 'a' }, 'a', 'take'],
    ['from a client that names no page', { ...calm, agreed: true, known: 'a' }, null, 'take'],
    [
      'after one that could not be answered, and we are not polite',
      { ...calm, polite: false, signaling: 'have-remote-offer', known: 'a' },
      'a',
      'take',
    ],
    ['from another page of that person', { ...calm, agreed: true, known: 'a' }, 'b', 'renew'],
    [
      'from another page while ours is out',
      { ...calm, polite: false, signaling: 'have-local-offer', known: 'a' },
      'b',
      'renew',
    ],
    ['while our first is out, and we are polite', { ...calm, signaling: 'have-local-offer' }, 'a', 'renew'],
    [
      'while our first is out, and we are not',
      { ...calm, polite: false, signaling: 'have-local-offer' },
      'a',
      'ignore',
    ],
    [
      'while our restart is out, and we are polite',
      { ...calm, agreed: true, known: 'a', signaling: 'have-local-offer' },
      'a',
      'yield',
    ],
    [
      'while our restart is out, and we are not',
      { ...calm, polite: false, agreed: true, known: 'a', signaling: 'have-local-offer' },
      'a',
      'ignore',
    ],
  ] as const)('%s', (_name, standing, from, verdict) => {
    expect(judgeOffer(standing as Standing, from)).toBe(verdict);
  });

  it('at the same time on both sides is passed over by exactly one', () => {
    for (const [a, b] of [
      ['ada', 'grace'],
      ['Z', 'a'],
      ['u1', 'u10'],
    ] as const) {
      const sides = [isPolite(a, b), isPolite(b, a)].map((polite) =>
        judgeOffer({ ...calm, polite, signaling: 'have-local-offer' }, 'x'),
      );
      expect(sides.filter((verdict) => verdict === 'ignore')).toHaveLength(1);
    }
  });
});

it.each([
  [undefined, false],
  [null, false],
  ['mine', false],
  ['before', true],
])('something meant for page %s is stale: %s', (to, stale) => {
  expect(isStale(to, 'mine')).toBe(stale);
});

describe('a section', () => {
  const labels: Record<string, Slot> = { '0': 'microphone', '1': 'screen' };
  const none = new Set<Slot>();
  it.each([
    ['0', 'audio', labels, none, 'microphone'],
    ['1', 'video', labels, none, 'screen'],
    ['2', 'video', labels, none, null],
    ['0', 'audio', undefined, none, 'microphone'],
    ['1', 'video', undefined, none, 'camera'],
    ['2', 'video', undefined, new Set<Slot>(['camera']), 'screen'],
    ['3', 'video', undefined, new Set<Slot>(['camera', 'screen']), null],
    [null, 'audio', undefined, none, 'microphone'],
  ])('%s (%s) labelled %o, beside %o, is the %s', (mid, kind, slots, taken, slot) => {
    expect(slotOf(mid, kind, slots, taken)).toBe(slot);
  });
});

it('each gets less of a camera the more there are', () => {
  const bits = [1, 2, 4, 7].map((pairs) => budget(pairs).cameraBits * pairs);
  expect(Math.max(...bits)).toBeLessThanOrEqual(2_200_000);
  expect(budget(7).scale).toBeGreaterThan(budget(1).scale);
});

it.each([
  ['Ada', 'Ada'],
  ['  Ada ', 'Ada'],
  ['', null],
  [undefined, null],
  [7, null],
  ['x'.repeat(61), null],
])('the name %j that a page says of itself is shown as %j', (said, name) => {
  expect(nameIn(said)).toBe(name);
});
