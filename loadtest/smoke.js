// One call, each step of it once: what has to work before any load is put on it.
import { check } from 'k6';
import http from 'k6/http';
import { end, history, join, look, startMeanwhile, token } from './lib/calls.js';
import { Device } from './lib/device.js';
import { BASE, person } from './lib/users.js';
import { whole } from './lib/whole.js';
export { handleSummary } from './lib/summary.js';

export const options = {
  scenarios: { smoke: { executor: 'shared-iterations', vus: 1, iterations: 3, maxDuration: '1m' } },
  thresholds: { checks: ['rate==1'], iterations: ['count==3'] },
};

export default whole(async () => {
  for (const path of ['/health', '/ready']) {
    check(http.get(`${BASE}${path}`), { [`${path}: 200`]: (it) => it.status === 200 });
  }
  const [anna, bob] = [person(), person()];
  const [here, there] = [new Device(anna), new Device(bob)];
  await Promise.all([here.connect(), there.connect()]);
  const { call } = await startMeanwhile(anna, [bob]);
  const { callId } = await there.until('call:incoming');
  check(callId, { 'it rings': (it) => it === call.id });
  await here.until('call:ringing');
  join(bob, call);
  await here.until('call:accepted');
  check(token(bob, call), { 'a ticket': (it) => it.token.roomName === call.roomId });
  const toggled = await there.ask('call:toggle_audio', { callId, enabled: false });
  check(toggled, { toggled: (it) => it.success });
  await here.until('call:participant_updated', (it) => !it.participant.audioEnabled);
  check(look(anna, call), { 'two are in it': (it) => it.participants.length === 2 });
  end(anna, call);
  const { reason } = await there.until('call:ended');
  check(reason, { 'it ended': (it) => it === 'normal' });
  check(history(bob), { 'it is in the history': (it) => it.calls[0].id === call.id });
  await Promise.all([here.close(), there.close()]);
});
