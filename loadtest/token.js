// Tokens for live calls, asked for at a steady rate whatever the answers take.
import { check } from 'k6';
import { start, join, token } from './lib/calls.js';
import { trendStats } from './lib/summary.js';
import { person } from './lib/users.js';
export { handleSummary } from './lib/summary.js';

const RATE = Number(__ENV.RATE || 1500);
const CALLS = 50;

export const options = {
  scenarios: {
    token: {
      executor: 'constant-arrival-rate',
      rate: RATE,
      duration: `${__ENV.SECONDS || 10}s`,
      preAllocatedVUs: 100,
      maxVUs: 400,
    },
  },
  summaryTrendStats: trendStats,
  thresholds: {
    checks: ['rate==1'],
    dropped_iterations: ['count<50'],
    'http_req_duration{name:token}': ['p(95)<50', 'p(99)<200'],
  },
};

export function setup() {
  return Array.from({ length: CALLS }, () => {
    const [anna, bob] = [person(), person()];
    const { call } = start(anna, [bob]);
    join(bob, call);
    return { call, people: [anna, bob] };
  });
}

export default function tokens(calls) {
  const { call, people } = calls[Math.floor(Math.random() * calls.length)];
  const ticket = token(people[Math.floor(Math.random() * 2)], call);
  check(ticket, { 'a ticket': (it) => it && it.token.roomName === call.roomId });
}
