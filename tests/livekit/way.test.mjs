// The way to LiveKit is slow, broken or gone: what its API looks like from behind a proxy that does that.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { LiveKit, LiveKitApi } from '../support/livekit.mjs';
import { Toxiproxy } from '../support/toxiproxy.mjs';

const livekit = await LiveKit.start();
const toxiproxy = await Toxiproxy.start();
const way = await toxiproxy.before(livekit.ports.port);
after(() => Promise.all([livekit.stop(), toxiproxy.stop()]));
const api = new LiveKitApi({ url: `http://${way.host}`, key: livekit.key, secret: livekit.secret });

async function took(work) {
  const begun = performance.now();
  await work();
  return performance.now() - begun;
}

test('slow, and quick again', async () => {
  await api.createRoom('there');
  const heal = await way.add('latency', { latency: 400 });
  const slow = await took(() => api.rooms());
  await heal();
  const quick = await took(() => api.rooms());
  assert.ok(slow >= 400 && quick < slow, `${slow} ms, then ${quick} ms`);
});

test('silent, cut, and closed', async () => {
  await way.add('timeout', { timeout: 0 });
  await assert.rejects(api.ask('RoomService', 'ListRooms', {}, { within: 300 }), { name: 'TimeoutError' });
  await way.clear();
  await way.add('reset_peer', { timeout: 0 });
  await assert.rejects(api.rooms(), (error) => /ECONNRESET|SOCKET/.test(error.cause?.code));
  await way.clear();
  await way.close();
  await assert.rejects(api.rooms(), (error) => error.cause?.code === 'ECONNREFUSED');
  await way.open();
  assert.equal((await api.rooms()).length, 1);
});
