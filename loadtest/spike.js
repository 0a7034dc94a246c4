// Starts come all at once, and then no more: who can't be served is told when to come again, and soon after all is as before.
import { Counter } from 'k6/metrics';
import { end, tryStart } from './lib/calls.js';
import { trendStats } from './lib/summary.js';
import { person } from './lib/users.js';
export { handleSummary } from './lib/summary.js';

const RATE = Number(__ENV.RATE || 600);

const made = new Counter('made');
const later = new Counter('told_to_come_again');

export const options = {
  scenarios: {
    spike: {
      executor: 'ramping-arrival-rate',
      startRate: 20,
      preAllocatedVUs: 200,
      maxVUs: 1000,
      stages: [
        { target: 20, duration: '3s' },
        { target: RATE, duration: '1s' },
        { target: RATE, duration: '5s' },
        { target: 20, duration: '1s' },
        { target: 20, duration: '3s' },
      ],
    },
  },
  summaryTrendStats: trendStats,
  thresholds: {
    checks: ['rate==1'],
    'http_req_duration{name:start}': ['p(95)<1000', 'max<5000'],
    made: ['count>1000'],
  },
};

export default function spike() {
  const [anna, bob] = [person(), person()];
  const { call } = tryStart(anna, [bob]);
  (call ? made : later).add(1);
  if (call) end(anna, call);
}
