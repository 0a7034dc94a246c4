// F13: the wall clock jumps while the program runs. Tokens follow it, calls do not.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { pause } from '../support/chance.mjs';
import { World } from '../support/world.mjs';

const RING = 1;
const HOUR = 3600;
/** How far what the program counts may be from what is counted here, seconds: the machine may be busy. */
const SLACK = 1;

const folder = mkdtempSync(join(tmpdir(), 'call-service-clock-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const offset = join(folder, 'offset');

/** From now on the program's wall clock is so many seconds ahead; its steady clock goes on as it does. */
const jump = (ahead) => writeFileSync(offset, `${ahead < 0 ? '' : '+'}${ahead}\n`);

jump(0);
const library = execFileSync('faketime', ['-m', '-f', '+0', 'printenv', 'LD_PRELOAD'], { encoding: 'utf8' });
const world = await World.open({
  RINGING_TIMEOUT: String(RING),
  LD_PRELOAD: library.trim(),
  FAKETIME_TIMESTAMP_FILE: offset,
  FAKETIME_NO_CACHE: '1',
  FAKETIME_DONT_FAKE_MONOTONIC: '1',
});
const seconds = (from, to) => (new Date(to) - new Date(from)) / 1000;
const near = (value, wanted) => value > wanted - 0.1 && value < wanted + SLACK;

for (const hours of [1, -1, 24, -24]) {
  const jumps = `the clock jumps by ${hours} hours`;

  test(`${jumps}: who is rung is rung for as long as was said`, async () => {
    const [a, b] = world.people(2);
    const phone = await b.connect();
    const call = await a.start(b);
    const { invitation } = await phone.until('call:incoming');
    assert.ok(near(seconds(call.createdAt, invitation.expiresAt), RING));
    jump(hours * HOUR);
    await pause(RING * 500);
    assert.deepEqual(phone.all('call:missed'), []);
    await pause(RING * 500 + SLACK * 500);
    jump(0);
    const { call: kept } = await a.details(call);
    assert.equal(kept.endReason, 'no_answer');
    assert.ok(near(seconds(kept.createdAt, kept.endedAt), RING), JSON.stringify(kept));
  });

  test(`${jumps}: a call takes as long as it took`, async () => {
    const { a, b, call } = await world.callOfTwo({ connect: false });
    jump(hours * HOUR);
    await pause(1100);
    jump(0);
    await a.end(call);
    const { call: kept } = await b.details(call);
    const took = seconds(kept.startedAt, kept.endedAt);
    assert.ok(near(took, 1.1), JSON.stringify(kept));
    assert.equal(kept.duration, Math.floor(took));
  });
}

test('a token is good for as long as the wall clock says', async () => {
  const person = world.person('user', { ttl: HOUR / 2 });
  await person.want('GET', '/active');
  jump(HOUR);
  await person.refused(401, 'unauthorized', 'GET', '/active');
  jump(-HOUR);
  await person.want('GET', '/active');
  jump(0);
  await person.want('GET', '/active');
});
