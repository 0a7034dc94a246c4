import type { Moment } from '../call/model';

export interface Bar {
  state: string;
  from: number;
  to: number;
}

export interface Lane {
  /** Null for the call itself. */
  who: string | null;
  bars: Bar[];
}

/** States after which nothing more comes: they are drawn as an end, not as a bar that goes on. */
const LAST = new Set(['ended', 'failed', 'busy', 'declined', 'missed', 'cancelled', 'left', 'removed']);

/** The story of a call as one lane for the call and one for each person, in the order they appear. */
export function lanes(story: readonly Moment[], until: number): Lane[] {
  const byWho = new Map<string | null, Moment[]>();
  for (const moment of story) byWho.set(moment.who, [...(byWho.get(moment.who) ?? []), moment]);
  const own = byWho.get(null);
  const order =
    own === undefined ? [...byWho.keys()] : [null, ...[...byWho.keys()].filter((who) => who !== null)];
  return order.map((who) => ({ who, bars: barsOf(byWho.get(who) ?? [], until) }));
}

function barsOf(moments: readonly Moment[], until: number): Bar[] {
  return moments.map(({ state, at }, i) => ({
    state,
    from: at,
    to: moments[i + 1]?.at ?? (LAST.has(state) ? at : Math.max(at, until)),
  }));
}

/** Whole seconds to mark on an axis of that many milliseconds: at most eight marks. */
export function marks(span: number): number[] {
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200];
  const step = steps.find((one) => span / 1000 / one <= 8) ?? 14_400;
  return Array.from({ length: Math.floor(span / 1000 / step) + 1 }, (_, i) => i * step);
}
