// One call from its start to its end, on two devices.
import { check } from 'k6';
import { end, startMeanwhile } from './calls.js';
import { Device } from './device.js';
import { person } from './users.js';

/** Lives it, and tells how long its steps took: from one's doing to the other's hearing of it, milliseconds. */
export async function life(took) {
  const timed = async (what, ...work) => {
    const begun = Date.now();
    const found = await Promise.all(work);
    took(what, Date.now() - begun);
    return found;
  };
  const [anna, bob] = [person(), person()];
  const [here, there] = [new Device(anna), new Device(bob)];
  await timed('comes', here.connect(), there.connect());
  const [{ call }] = await timed('rings', startMeanwhile(anna, [bob]), there.until('call:incoming'));
  const callId = call.id;
  const [answer] = await timed('answered', there.ask('call:accept', { callId }), here.until('call:accepted'));
  check(answer, { accept: (it) => it.success });
  check(await here.ask('call:toggle_video', { callId, enabled: true }), { toggle: (it) => it.success });
  await there.until('call:participant_updated');
  const ended = there.until('call:ended');
  end(anna, call);
  await timed('ended', ended);
  await Promise.all([here.close(), there.close()]);
}
