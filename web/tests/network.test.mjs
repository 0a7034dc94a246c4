// A network that goes away and comes back, a page that is loaded anew, a camera that is refused.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import {
  accept,
  call,
  fails,
  lastCall,
  launch,
  person,
  phase,
  round,
  sees,
  unharmed,
  until,
} from './support.mjs';

let browser;
const there = [];

before(async () => {
  browser = await launch();
});
after(() => browser?.close());
afterEach(async () => {
  await Promise.all(there.splice(0).map((one) => one.context.close()));
});

async function pair(script) {
  const all = await Promise.all([person(browser, 'Ada'), person(browser, 'Grace', { script })]);
  there.push(...all);
  return all;
}

async function talk(ada, grace) {
  await call(ada, [grace]);
  await accept(grace);
  await Promise.all([sees(ada, grace), sees(grace, ada)]);
}

describe('a network that is cut', () => {
  it('is told, comes back by itself, and the call has gone on', async () => {
    const [ada, grace] = await pair();
    await talk(ada, grace);
    await grace.context.setOffline(true);
    await grace.page.getByTestId('notice-line').waitFor();
    await ada.page.locator(`[data-testid=tile-${grace.id}][data-state=reconnecting]`).waitFor();
    assert.equal(await ada.page.getByTestId(`tile-state-${grace.id}`).textContent(), 'Reconnecting …');
    await grace.context.setOffline(false);
    await grace.page.locator('[data-testid=stage][data-line=online]').waitFor();
    await ada.page.locator(`[data-testid=tile-${grace.id}][data-state=connected]`).waitFor();
    await Promise.all([sees(ada, grace), sees(grace, ada)]);
    await grace.page.getByTestId('mute').click();
    await ada.page.getByTestId(`muted-${grace.id}`).waitFor();
    unharmed(ada, grace);
  });

  it('hides nothing that happened meanwhile', async () => {
    const [ada, grace] = await pair();
    await talk(ada, grace);
    await grace.context.setOffline(true);
    await grace.page.getByTestId('notice-line').waitFor();
    await ada.page.getByTestId('hang-up').click();
    await phase(ada, 'over');
    await grace.context.setOffline(false);
    await phase(grace, 'over');
    assert.equal((await lastCall(grace)).reason, 'normal');
    unharmed(ada, grace);
  });
});

describe('media that is lost', () => {
  it('is mended by a new offer', async () => {
    const [ada, grace] = await pair();
    await talk(ada, grace);
    // A reload of the other side is the hardest: all it had is gone, and it has another fingerprint.
    await grace.page.reload();
    await phase(grace, 'talking');
    await Promise.all([sees(grace, ada), sees(ada, grace)]);
    assert.equal(await ada.page.getByTestId('call-state').getAttribute('data-state'), 'connected');
    unharmed(ada, grace);
  });

  it('is mended after a restart of ICE from both sides at once', async () => {
    const [ada, grace] = await pair();
    await talk(ada, grace);
    const ended = await Promise.all([ada, grace].map(round));
    await Promise.all([fails(ada), fails(grace)]);
    for (const [i, one] of [ada, grace].entries())
      await until(`${one.name} has new addresses`, async () => (await round(one)) !== ended[i]);
    await until('both are stable again', async () => {
      const states = await Promise.all(
        [ada, grace].map((one) => one.page.evaluate(() => window.__call.peers()[0].pc.signalingState)),
      );
      return states.every((state) => state === 'stable');
    });
    await Promise.all([sees(ada, grace), sees(grace, ada)]);
    unharmed(ada, grace);
  });
});

/** Runs in the page: of its offers only the first gets to the service. */
function offerOnce() {
  const { send } = WebSocket.prototype;
  window.offers = 0;
  WebSocket.prototype.send = function (data) {
    if (String(data).includes('"webrtc:offer"')) window.offers += 1;
    if (!String(data).includes('"webrtc:offer"') || window.offers === 1) send.call(this, data);
  };
}

describe('an offer that comes early', () => {
  it('before the caller knows of its own call is answered once it does', async () => {
    const [ada, grace] = await pair(offerOnce);
    // The look at the new call, after which the page is in it.
    let goOn;
    const held = new Promise((resolve) => (goOn = resolve));
    const look = ({ pathname }) => /^\/api\/v1\/calls\/[0-9a-f]{8}-[^/]+$/.test(pathname);
    await ada.page.route(look, async (route) => {
      await held;
      await route.continue();
    });
    await ada.page.getByTestId(`call-video-${grace.id}`).click();
    await accept(grace);
    await until('Grace has offered', () => grace.page.evaluate(() => window.offers === 1));
    await phase(ada, 'starting');
    await pause(300);
    goOn();
    await Promise.all([sees(ada, grace), sees(grace, ada)]);
    unharmed(ada, grace);
  });
});

describe('devices that are refused', () => {
  it('are told in words, and the call goes on to listen and look', async () => {
    const refusing = await launch({ refused: true });
    try {
      const [ada, linus] = await Promise.all([person(browser, 'Ada'), person(refusing, 'Linus')]);
      there.push(ada);
      await call(ada, [linus]);
      await accept(linus);
      await linus.page.locator('[data-testid=notice-camera][data-why=refused]').waitFor();
      assert.match(await linus.page.getByTestId('notice-camera').textContent(), /The camera is blocked/);
      await sees(linus, ada);
      await ada.page.locator(`[data-testid=tile-${linus.id}][data-video=false][data-audio=false]`).waitFor();
      unharmed(ada, linus);
    } finally {
      await refusing.close();
    }
  });
});
