// All devices lose their connections at the same moment and come back at once: each has to be told what goes on.
import { check } from 'k6';
import { Trend } from 'k6/metrics';
import { join, start } from './lib/calls.js';
import { Device } from './lib/device.js';
import { trendStats } from './lib/summary.js';
import { person } from './lib/users.js';
import { whole } from './lib/whole.js';
export { handleSummary } from './lib/summary.js';

const VUS = 10;
const SOCKETS = Number(__ENV.SOCKETS || 1000) / VUS;
const STORMS = 3;
/** Between two storms, from the start of the run, milliseconds. */
const EVERY_MS = 4000;

const back = new Trend('back_ms', true);

export const options = {
  scenarios: { storm: { executor: 'per-vu-iterations', vus: VUS, iterations: 1, maxDuration: '2m' } },
  summaryTrendStats: trendStats,
  thresholds: { checks: ['rate==1'], back_ms: ['p(95)<3000', 'max<10000'] },
};

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export function setup() {
  return { from: Date.now() + EVERY_MS };
}

export default whole(async ({ from }) => {
  const devices = Array.from({ length: SOCKETS }, () => new Device(person()));
  await Promise.all(devices.map((it) => it.connect()));
  // Two of them are in a call, which has to be there for them whenever they are back.
  const [anna, bob] = devices;
  const { call } = start(anna.person, [bob.person]);
  join(bob.person, call);
  for (let number = 0; number < STORMS; number += 1) {
    await pause(from + number * EVERY_MS - Date.now());
    await Promise.all(devices.map((it) => it.close()));
    const syncs = await Promise.all(
      devices.map(async (it) => {
        const begun = Date.now();
        const sync = await it.connect();
        back.add(Date.now() - begun);
        return sync;
      }),
    );
    const told = syncs.map((it) => it.calls.map((one) => one.call.id).join());
    check(told, {
      'two find their call': ([a, b]) => a === call.id && b === call.id,
      'the others find none': ([, , ...others]) => others.every((it) => it === ''),
    });
  }
  await Promise.all(devices.map((it) => it.close()));
});
