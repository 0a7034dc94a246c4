// Signaling between the two devices of many calls, each message on its time: candidates of some 330 bytes on the wire.
import { check } from 'k6';
import exec from 'k6/execution';
import { Counter, Trend } from 'k6/metrics';
import { join, start } from './lib/calls.js';
import { Device } from './lib/device.js';
import { trendStats } from './lib/summary.js';
import { person } from './lib/users.js';
import { whole } from './lib/whole.js';
export { handleSummary } from './lib/summary.js';

const SECONDS = Number(__ENV.SECONDS || 10);
const PAIRS = Number(__ENV.PAIRS || 20);
/** Messages a second of each pair. */
const RATE = Number(__ENV.RATE || 50);
const CANDIDATE = 'x'.repeat(180);

const relayed = new Trend('relayed_ms', true);
const messages = new Counter('messages');

export const options = {
  scenarios: {
    relay: { executor: 'per-vu-iterations', vus: PAIRS, iterations: 1, maxDuration: `${SECONDS + 60}s` },
  },
  summaryTrendStats: trendStats,
  thresholds: {
    checks: ['rate==1'],
    messages: [`count==${PAIRS * SECONDS * RATE}`],
    relayed_ms: ['p(95)<20', 'p(99)<100'],
  },
};

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export default whole(async () => {
  const [anna, bob] = [person(), person()];
  const [here, there] = [new Device(anna), new Device(bob)];
  await Promise.all([here.connect(), there.connect()]);
  const { call } = start(anna, [bob]);
  join(bob, call);
  const all = SECONDS * RATE;
  let next = 0;
  let disordered = 0;
  there.onevent = (event, data) => {
    if (event !== 'webrtc:ice_candidate') return;
    const { number, due } = data.candidate;
    if (number !== next) disordered += 1;
    next = number + 1;
    messages.add(1);
    // From when it should have left: a sender that was held up makes it late.
    relayed.add(Date.now() - due);
  };
  const begun = Date.now() + (1000 / RATE) * Math.random();
  for (let number = 0; number < all; number += 1) {
    const due = begun + (number * 1000) / RATE;
    if (due > Date.now()) await pause(due - Date.now());
    const candidate = { number, due: Math.floor(due), candidate: CANDIDATE };
    here.tell('webrtc:ice_candidate', { callId: call.id, targetUserId: bob.id, candidate });
  }
  for (let waited = 0; next < all && waited < 50; waited += 1) await pause(100);
  check(next, { 'all have come': (it) => it === all });
  check(disordered, { 'in order': (it) => it === 0 });
  await Promise.all([here.close(), there.close()]);
  if (next < all) exec.test.fail('messages are missing');
});
