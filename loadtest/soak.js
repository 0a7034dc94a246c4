// What goes on for long: people come and go, most of them idle, and calls live and end. `SOAK=30m` for more than a look.
import { Trend } from 'k6/metrics';
import { Device } from './lib/device.js';
import { life } from './lib/life.js';
import { trendStats } from './lib/summary.js';
import { person } from './lib/users.js';
import { whole } from './lib/whole.js';
export { handleSummary } from './lib/summary.js';

const SOAK = __ENV.SOAK || '30s';
const IDLE_VUS = 10;
const IDLE = Number(__ENV.SOCKETS || 500) / IDLE_VUS;
/** How long an idle device stays, milliseconds, about. */
const STAY_MS = 8000;

const rings = new Trend('rings_ms', true);
const comes = new Trend('comes_ms', true);

export const options = {
  scenarios: {
    idle: { executor: 'constant-vus', vus: IDLE_VUS, duration: SOAK, exec: 'idle', gracefulStop: '30s' },
    lives: {
      executor: 'constant-arrival-rate',
      rate: Number(__ENV.RATE || 20),
      duration: SOAK,
      preAllocatedVUs: 30,
      maxVUs: 200,
      exec: 'lives',
    },
  },
  summaryTrendStats: trendStats,
  thresholds: { checks: ['rate==1'], dropped_iterations: ['count<5'], rings_ms: ['p(95)<150'] },
};

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export const idle = whole(async () => {
  await Promise.all(
    Array.from({ length: IDLE }, async () => {
      const device = new Device(person());
      const begun = Date.now();
      await device.connect();
      comes.add(Date.now() - begun);
      await pause(STAY_MS * (0.5 + Math.random()));
      await device.close();
    }),
  );
});

export const lives = whole(async () => {
  await life((what, took) => what === 'rings' && rings.add(took));
});
