// A disk that is full, and then is not: a file system of a few MiB, filled beside the database.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, openSync, closeSync, rmSync, rmdirSync, statfsSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { eventually, World } from '../support/world.mjs';

/** Enough for an empty database with its log, and for calls until the rest is filled up. */
const SIZE = '8m';

/** A small file system, or nothing where this user may not mount one. */
function smallDisk() {
  const folder = mkdtempSync(join(tmpdir(), 'call-service-disk-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${SIZE}`, 'tmpfs', folder], { stdio: 'ignore' });
  } catch {
    rmdirSync(folder);
    return undefined;
  }
  after(() => {
    execFileSync('umount', ['-l', folder]);
    rmdirSync(folder);
  });
  return folder;
}

/** Takes all that is free. */
function fill(folder) {
  const name = join(folder, 'ballast');
  const file = openSync(name, 'w');
  const { bavail, bsize } = statfsSync(folder);
  writeSync(file, Buffer.alloc(Number(bavail) * Number(bsize)));
  closeSync(file);
  return name;
}

const disk = smallDisk();

test(
  'a full disk refuses new calls, lets live ones go on and end, and heals by itself',
  {
    skip: disk ? false : 'mounting a small file system takes root',
  },
  async () => {
    const world = await World.start({ DATA_DIR: disk });
    const { a, b, call } = await world.callOfTwo();
    const ballast = fill(disk);
    const [c, d] = world.people(2);
    // The log may have some room left: what fits is a call, what does not is none.
    const full = async () => {
      const { status, body, headers } = await c.rest('POST', '/start', {
        type: 'audio',
        participantIds: [d.id],
      });
      if (status === 201) await c.end(body.data.call);
      return status === 503 && { code: body.code, retry: headers.get('retry-after') };
    };
    const refusal = await eventually('a refusal', full, { within: 20_000, every: 1 });
    assert.equal(refusal.code, 'storage_full');
    assert.ok(Number(refusal.retry) > 0);
    assert.equal((await world.http('/ready')).status, 503);
    assert.equal((await world.http('/health')).status, 200);
    // The live call goes on, and ends.
    assert.equal((await a.details(call)).call.state, 'connected');
    await b.end(call);
    rmSync(ballast);
    await eventually('it is ready again', async () => (await world.http('/ready')).status === 200);
    await c.end(await c.start(d));
    const { calls } = await a.want('GET', '/history');
    assert.deepEqual([calls[0].id, calls[0].state, calls[0].endReason], [call.id, 'ended', 'normal']);
    assert.deepEqual(await world.service.stop(), { code: 0, signal: null });
  },
);
