// Calls through a LiveKit server: what is sent to a room, and what a page does when the room or the service says no.
// Only where LIVEKIT=1 says that the service under test has such a server.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import {
  accept,
  call,
  lastCall,
  launch,
  person,
  phase,
  received,
  secondDevice,
  sees,
  SERVICE,
  signIn,
  toldWhy,
  unharmed,
  until,
} from './support.mjs';

/** How long a room that was lost may take to be joined again, milliseconds: livekit-client tries by itself first. */
const MENDED_MS = 30_000;
/** Longer than the page waits before it believes that somebody else has turned off what is on, milliseconds. */
const SETTLED_MS = 4000;

let browser;
const there = [];

async function people(...names) {
  const all = await Promise.all(names.map((name) => person(browser, name)));
  there.push(...all);
  return all;
}

/** People who see and hear each other. */
async function talk(from, to, kind) {
  await call(from, to, kind);
  await accept(...to);
  const all = [from, ...to];
  const pairs = all.flatMap((at) => all.filter((one) => one !== at).map((one) => [at, one]));
  if (kind === 'audio') await Promise.all(pairs.map(([at, one]) => hears(at, one)));
  else await Promise.all(pairs.map(([at, one]) => sees(at, one)));
}

/** The same person on a new page of the same browser. */
async function anew({ context, name, id }) {
  const page = await context.newPage();
  await signIn(page, name);
  return { context, page, name, id, faults: [] };
}

/** Waits until sound from `from` comes at `at`. */
async function hears(at, from) {
  const packets = async () => (await received(at))[from.id]?.packets ?? 0;
  const first = await packets();
  await until(`${at.name} hears ${from.name}`, async () => (await packets()) > first + 20);
}

const connected = (one) => one.page.locator('[data-testid=call-state][data-state=connected]').waitFor();
const tile = (at, of, what) => at.page.locator(`[data-testid=tile-${of.id}]${what}`).waitFor();
const toast = (at, words) => at.page.getByTestId('toast').filter({ hasText: words }).first().waitFor();
const callId = (one) => one.page.evaluate(() => window.__call.callId);
const pressed = (one, testid) => one.page.getByTestId(testid).getAttribute('aria-pressed');

/** Whether the room says that this microphone is muted, as any client of it would see. */
const mutedInRoom = (at, of) =>
  at.page.evaluate(
    (id) =>
      window.__call.room().remoteParticipants.get(id)?.getTrackPublication('microphone')?.isMuted ?? null,
    of.id,
  );

/** Asks the service as that person, beside the page. */
const ask = (one, method, path) =>
  one.page.evaluate(
    async ([method, path]) => {
      const { token } = JSON.parse(sessionStorage.getItem('call-console.session'));
      const response = await fetch(`/api/v1/calls${path}`, {
        method,
        headers: { Authorization: `Bearer ${token}` },
      });
      return { status: response.status, ...(await response.json()) };
    },
    [method, path],
  );

/** Has the page's line to the room's signaling go through the test from now on: `cut` closes what is open, `open` lets it through or not. */
async function signaling(one) {
  const line = { open: true, sockets: new Set(), passes: [], cut: () => {} };
  line.cut = async () => {
    for (const socket of line.sockets) await socket.close({ code: 4000 }).catch(() => {});
    line.sockets.clear();
  };
  await one.page.routeWebSocket(/\/rtc/, (socket) => {
    line.passes.push(new URL(socket.url()).searchParams.get('access_token'));
    if (!line.open) return void socket.close({ code: 4000 });
    line.sockets.add(socket);
    socket.connectToServer();
  });
  return line;
}

describe('through LiveKit', { skip: process.env.LIVEKIT !== '1' && 'LIVEKIT is not 1' }, () => {
  before(async () => {
    browser = await launch();
  });
  after(() => browser?.close());
  afterEach(async () => {
    await Promise.all(there.splice(0).map((one) => one.context.close()));
  });

  describe('two people', () => {
    it('see and hear each other, and one who hangs up ends it for both', async () => {
      const [ada, grace] = await people('Ada', 'Grace');
      const sent = [];
      for (const one of [ada, grace])
        one.page.on('websocket', (socket) => socket.on('framesent', ({ payload }) => sent.push(payload)));
      await talk(ada, [grace]);
      await Promise.all([connected(ada), connected(grace)]);
      assert.ok(await ada.page.evaluate(() => window.__call.room().state === 'connected'));
      assert.equal(await ada.page.evaluate(() => window.__call.peers().length), 0);
      await until('the clock runs', async () =>
        /0:0[1-9]/.test(await ada.page.getByTestId('call-clock').textContent()),
      );
      await grace.page.getByTestId('hang-up').click();
      await Promise.all([phase(ada, 'over'), phase(grace, 'over')]);
      await toldWhy(ada, `${grace.name} hung up.`);
      for (const one of [ada, grace]) assert.equal((await lastCall(one)).reason, 'normal');
      // The service learns from the media server who is there.
      assert.equal(sent.filter((frame) => String(frame).includes('call:connected')).length, 0);
      unharmed(ada, grace);
    });

    it('see who is muted, in the page and in the room', async () => {
      const [ada, grace] = await people('Ada', 'Grace');
      await talk(ada, [grace]);
      await grace.page.getByTestId('mute').click();
      await ada.page.getByTestId(`muted-${grace.id}`).waitFor();
      await until('the room says so too', () => mutedInRoom(ada, grace));
      await grace.page.getByTestId('mute').click();
      await ada.page.getByTestId(`muted-${grace.id}`).waitFor({ state: 'detached' });
      await until('the room says so too', async () => (await mutedInRoom(ada, grace)) === false);
      await hears(ada, grace);
      unharmed(ada, grace);
    });

    it('switch their own devices off and on without being told that somebody else did', async () => {
      const [ada, grace] = await people('Ada', 'Grace');
      await talk(ada, [grace]);
      for (let i = 0; i < 3; i += 1) {
        await grace.page.getByTestId('mute').click();
        await grace.page.getByTestId('camera').click();
        await pause(250);
        await grace.page.getByTestId('camera').click();
        await grace.page.getByTestId('mute').click();
        await pause(250);
      }
      const told = [];
      const end = Date.now() + SETTLED_MS;
      while (Date.now() < end) {
        told.push(...(await grace.page.getByTestId('toast').allTextContents()));
        await pause(200);
      }
      assert.deepEqual(told, []);
      assert.equal(await pressed(grace, 'mute'), 'false');
      assert.equal(await pressed(grace, 'camera'), 'false');
      await tile(ada, grace, '[data-audio=true][data-video=true]');
      await sees(ada, grace);
      unharmed(ada, grace);
    });

    it('see a shared screen, until it is stopped', async () => {
      const [ada, grace] = await people('Ada', 'Grace');
      await talk(ada, [grace]);
      await grace.page.getByTestId('share').click();
      await ada.page.getByTestId(`screen-${grace.id}`).waitFor();
      await until(
        'frames as large as a screen come',
        async () => (await received(ada))[grace.id]?.biggest > 600,
      );
      await grace.page.getByTestId('share').click();
      await ada.page.getByTestId(`screen-${grace.id}`).waitFor({ state: 'detached' });
      await sees(ada, grace);
      unharmed(ada, grace);
    });

    it('begin with sound alone, and may show themselves and a screen later', async () => {
      const [ada, grace] = await people('Ada', 'Grace');
      await talk(ada, [grace], 'audio');
      await tile(ada, grace, '[data-video=false]');
      await grace.page.getByTestId('camera').click();
      await tile(ada, grace, '[data-video=true]');
      await sees(ada, grace);
      await ada.page.getByTestId('share').click();
      await grace.page.getByTestId(`screen-${ada.id}`).waitFor();
      await until('the screen comes', async () => (await received(grace))[ada.id]?.biggest > 600);
      await pause(SETTLED_MS);
      assert.equal(await pressed(grace, 'camera'), 'false');
      assert.equal(await pressed(ada, 'share'), 'true');
      unharmed(ada, grace);
    });
  });

  describe('the initiator', () => {
    it('mutes somebody, who is told by whom and can speak again', async () => {
      const [ada, grace] = await people('Ada', 'Grace');
      await talk(ada, [grace]);
      await ada.page.getByTestId('open-people').click();
      await ada.page.getByTestId(`mute-${grace.id}`).click();
      await toast(grace, `${ada.name} muted you`);
      await grace.page.locator('[data-testid=mute][aria-pressed=true]').waitFor();
      await ada.page.getByTestId(`mute-${grace.id}`).waitFor({ state: 'detached' });
      await until('the room says so too', () => mutedInRoom(ada, grace));
      await ada.page.keyboard.press('Escape');
      await ada.page.getByTestId(`muted-${grace.id}`).waitFor();
      await grace.page.getByTestId('mute').click();
      await ada.page.getByTestId(`muted-${grace.id}`).waitFor({ state: 'detached' });
      await hears(ada, grace);
      await pause(SETTLED_MS);
      assert.equal(await pressed(grace, 'mute'), 'false');
      unharmed(ada, grace);
    });

    it('turns a camera and a screen off', async () => {
      const [ada, grace] = await people('Ada', 'Grace');
      await talk(ada, [grace]);
      await grace.page.getByTestId('share').click();
      await ada.page.getByTestId(`screen-${grace.id}`).waitFor();
      await ada.page.getByTestId('open-people').click();
      await ada.page.getByTestId(`share-off-${grace.id}`).click();
      await toast(grace, `${ada.name} stopped your screen from being shared`);
      await ada.page.getByTestId(`camera-off-${grace.id}`).click();
      await toast(grace, `${ada.name} turned your camera off`);
      await ada.page.keyboard.press('Escape');
      await ada.page.getByTestId(`screen-${grace.id}`).waitFor({ state: 'detached' });
      await tile(ada, grace, '[data-video=false]');
      assert.equal(await pressed(grace, 'camera'), 'true');
      assert.equal(await grace.page.getByTestId('share').getAttribute('aria-pressed'), 'false');
      await grace.page.getByTestId('camera').click();
      await sees(ada, grace);
      unharmed(ada, grace);
    });

    it('removes somebody, who is told and cannot come back', async () => {
      const [ada, grace, linus] = await people('Ada', 'Grace', 'Linus');
      await talk(ada, [grace, linus]);
      const id = await callId(linus);
      await ada.page.getByTestId('open-people').click();
      await ada.page.getByTestId(`remove-${linus.id}`).click();
      await phase(linus, 'over');
      assert.equal(await linus.page.getByTestId('over-title').textContent(), 'You were removed');
      assert.equal(await linus.page.getByTestId('rejoin').count(), 0);
      for (const path of [`/${id}/join`, `/${id}/token`]) {
        const { status, code } = await ask(linus, 'POST', path);
        assert.equal(status, 403, path);
        assert.equal(code, 'removed', path);
      }
      await grace.page.locator('[data-testid=tiles][data-count="2"]').waitFor();
      await until('the room is without them', async () =>
        grace.page.evaluate((gone) => !window.__call.room().remoteParticipants.has(gone), linus.id),
      );
      await sees(grace, ada);
      unharmed(ada, grace, linus);
    });

    it('ends it for all', async () => {
      const [ada, grace, linus] = await people('Ada', 'Grace', 'Linus');
      await talk(ada, [grace, linus], 'audio');
      await ada.page.getByTestId('hang-up').click();
      await Promise.all([phase(ada, 'over'), phase(grace, 'over'), phase(linus, 'over')]);
      for (const one of [grace, linus]) {
        await toldWhy(one, `${ada.name} hung up.`);
        assert.equal(await one.page.getByTestId('notice-media').count(), 0);
      }
      assert.equal((await lastCall(grace)).reason, 'normal');
      unharmed(ada, grace, linus);
    });

    it('alone may record, is told in words where that cannot be, and finds recordings in the history', async () => {
      const [ada, grace] = await people('Ada', 'Grace');
      await talk(ada, [grace], 'audio');
      assert.equal(await grace.page.getByTestId('record').count(), 0);
      // Whether there is a recorder behind the media server is not this test's matter.
      const refused = { success: false, error: 'no recorder', code: 'recording_unavailable' };
      await ada.page.route('**/recording/start', (route) => route.fulfill({ status: 503, json: refused }));
      await ada.page.getByTestId('record').click();
      await toast(ada, 'Recording is not available right now');
      assert.equal(await ada.page.getByTestId('recording-badge').count(), 0);
      await ada.page.getByTestId('hang-up').click();
      await lastCall(ada);
      const known = { callId: '', startedAt: '2026-11-20T10:00:00.000Z', endedAt: null, s3Key: null };
      const recordings = [
        {
          ...known,
          id: 'a',
          status: 'completed',
          duration: 65,
          fileSize: 2_400_000,
          url: `${SERVICE}/a.mp4`,
        },
        { ...known, id: 'b', status: 'processing', duration: null, fileSize: null, url: null },
      ];
      await ada.page.route('**/recordings', (route) =>
        route.fulfill({ json: { success: true, data: { recordings } } }),
      );
      await ada.page.getByTestId('history-row').first().click();
      const done = ada.page.locator('[data-testid=detail-recording][data-status=completed]');
      await done.getByText('Ready, 1 min 5 s, 2.4 MB').waitFor();
      assert.equal(await done.getByRole('link').getAttribute('href'), `${SERVICE}/a.mp4`);
      const underWay = ada.page.locator('[data-testid=detail-recording][data-status=processing]');
      assert.equal(await underWay.getByRole('link').count(), 0);
      unharmed(ada, grace);
    });
  });

  it('four people all see each other', async () => {
    const [ada, grace, linus, mary] = await people('Ada', 'Grace', 'Linus', 'Mary');
    await talk(ada, [grace, linus, mary]);
    for (const one of [ada, grace, linus, mary])
      await one.page.locator('[data-testid=tiles][data-count="4"]').waitFor();
    unharmed(ada, grace, linus, mary);
  });

  describe('one who drops', () => {
    it('out of the network comes back by itself', async () => {
      const [ada, grace] = await people('Ada', 'Grace');
      await talk(ada, [grace]);
      const id = await callId(ada);
      await grace.context.setOffline(true);
      await grace.page.getByTestId('notice-line').waitFor();
      await grace.context.setOffline(false);
      await grace.page.locator('[data-testid=stage][data-line=online]').waitFor();
      await Promise.all([sees(ada, grace), sees(grace, ada), connected(ada)]);
      assert.equal(await callId(grace), id);
      await grace.page.getByTestId('mute').click();
      await ada.page.getByTestId(`muted-${grace.id}`).waitFor();
      unharmed(ada, grace);
    });

    it('by a reload comes back by itself', async () => {
      const [ada, grace] = await people('Ada', 'Grace');
      await talk(ada, [grace]);
      const id = await callId(ada);
      await grace.page.reload();
      await phase(grace, 'talking');
      assert.equal(await callId(grace), id);
      await Promise.all([sees(ada, grace), sees(grace, ada)]);
      await pause(SETTLED_MS);
      assert.equal(await pressed(grace, 'camera'), 'false');
      unharmed(ada, grace);
    });

    it('by a reload is as mute and as dark as before', async () => {
      const [ada, grace] = await people('Ada', 'Grace');
      await talk(ada, [grace]);
      await grace.page.getByTestId('mute').click();
      await grace.page.getByTestId('camera').click();
      await tile(ada, grace, '[data-audio=false][data-video=false]');
      await grace.page.reload();
      await phase(grace, 'talking');
      await until('the microphone is there', () => mutedInRoom(ada, grace));
      await pause(SETTLED_MS);
      await tile(ada, grace, '[data-audio=false][data-video=false]');
      assert.equal(await pressed(grace, 'mute'), 'true');
      assert.equal(await pressed(grace, 'camera'), 'true');
      unharmed(ada, grace);
    });

    it('with the page closed comes back into the same call from a new one', async () => {
      const [ada, grace] = await people('Ada', 'Grace');
      await talk(ada, [grace]);
      const id = await callId(ada);
      await grace.page.close();
      const again = await anew(grace);
      await again.page.getByTestId(`come-back-${id}`).click();
      await phase(again, 'talking');
      await Promise.all([sees(ada, again), sees(again, ada), connected(ada)]);
      assert.equal(await callId(again), id);
      unharmed(ada, again);
    });
  });

  it('a second device takes over, and the first says so and may come back', async () => {
    const [ada, grace] = await people('Ada', 'Grace');
    const other = await secondDevice(browser, grace);
    there.push(other);
    await talk(ada, [grace]);
    await other.page.getByRole('button', { name: 'Continue here' }).click();
    await phase(other, 'talking');
    await Promise.all([sees(other, ada), sees(ada, other)]);
    await phase(grace, 'over');
    assert.equal(
      await grace.page.getByTestId('over-title').textContent(),
      'You continued this call on another device',
    );
    assert.equal(await grace.page.getByTestId('rejoin').textContent(), 'Come back');
    await grace.page.getByTestId('rejoin').click();
    await phase(grace, 'talking');
    await Promise.all([sees(grace, ada), sees(ada, grace)]);
    await phase(other, 'over');
    await connected(ada);
    unharmed(ada, grace, other);
  });

  describe('a room', () => {
    it('whose signaling is cut goes on', async () => {
      const [ada, grace] = await people('Ada', 'Grace');
      const line = await signaling(grace);
      await talk(ada, [grace]);
      await line.cut();
      await until('it is mended', () => line.sockets.size > 0, { patience: MENDED_MS });
      await Promise.all([sees(ada, grace), sees(grace, ada)]);
      await grace.page.getByTestId('mute').click();
      await until('the room hears of a mute', () => mutedInRoom(ada, grace));
      unharmed(ada, grace);
    });

    it('that lets nobody in is told in words, and is joined with a fresh pass', async () => {
      const [ada, grace] = await people('Ada', 'Grace');
      const line = await signaling(grace);
      line.open = false;
      await call(ada, [grace]);
      await accept(grace);
      const notice = grace.page.getByTestId('notice-media');
      await notice.waitFor();
      assert.match(
        await notice.textContent(),
        /^The media server .+\. .+\. (Trying now|Next try in \d+ s)\./,
      );
      assert.match(await grace.page.getByTestId('live-urgent').textContent(), /The media server/);
      line.open = true;
      // It may be trying by itself just now: then nothing is left to press.
      const joined = notice.waitFor({ state: 'detached' });
      await Promise.race([grace.page.getByTestId('retry-media').click(), joined]);
      await joined;
      const [first, last] = [line.passes[0], line.passes.at(-1)];
      assert.ok(first && last && first !== last, 'it is joined with a fresh pass');
      await Promise.all([sees(ada, grace), sees(grace, ada)]);
      unharmed(ada, grace);
    });

    it('that lets one go is joined again with a fresh pass', async () => {
      const [ada, grace] = await people('Ada', 'Grace');
      await talk(ada, [grace]);
      const id = await callId(ada);
      const renewed = grace.page.waitForRequest((it) => it.method() === 'POST' && /\/token$/.test(it.url()));
      await grace.page.evaluate(() => window.__call.room().simulateScenario('server-leave'));
      await renewed;
      await grace.page.getByTestId('notice-media').waitFor({ state: 'detached', timeout: MENDED_MS });
      await Promise.all([sees(ada, grace), sees(grace, ada)]);
      assert.equal(await callId(grace), id);
      await pause(SETTLED_MS);
      assert.equal(await pressed(grace, 'mute'), 'false');
      assert.equal(await pressed(grace, 'camera'), 'false');
      unharmed(ada, grace);
    });
  });
});
