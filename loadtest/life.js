// Lives of calls at a steady rate, as clients see them: a device comes, it rings, it is answered there, toggled, and ended.
import { Trend } from 'k6/metrics';
import { life } from './lib/life.js';
import { trendStats } from './lib/summary.js';
import { whole } from './lib/whole.js';
export { handleSummary } from './lib/summary.js';

const times = {
  comes: new Trend('comes_ms', true),
  rings: new Trend('rings_ms', true),
  answered: new Trend('answered_ms', true),
  ended: new Trend('ended_ms', true),
};

export const options = {
  scenarios: {
    life: {
      executor: 'constant-arrival-rate',
      rate: Number(__ENV.RATE || 60),
      duration: `${__ENV.SECONDS || 15}s`,
      preAllocatedVUs: 60,
      maxVUs: 300,
    },
  },
  summaryTrendStats: trendStats,
  thresholds: {
    checks: ['rate==1'],
    dropped_iterations: ['count<5'],
    rings_ms: ['p(95)<150'],
    answered_ms: ['p(95)<150'],
  },
};

export default whole(async () => {
  await life((what, took) => times[what].add(took));
});
