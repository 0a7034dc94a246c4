// How long tests wait for what has to come. How fast it comes is measured in benches: here a bound only tells what comes from what does
// not, and a machine that is busy with others may take its time.
import assert from 'node:assert/strict';

/** How many times longer than it should take on a quiet machine something may take before it counts as not done. */
export const SLACK = 3;

/** Something took so long, milliseconds, and should take no longer than that; what it was, for the message. */
export function inTime(tookMs, withinMs, what = 'it') {
  assert.ok(tookMs < SLACK * withinMs, `${what} took ${tookMs} ms, and ${withinMs} would do`);
}
