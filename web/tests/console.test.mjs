// The page itself: who can use it, what the inspector shows, and what it looks like.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, afterEach, before, describe, it } from 'node:test';
import { CAST, clip, drawnScreen } from './pictures.mjs';
import { accept, call, launch, person, phase, SERVICE, sees, shot, unharmed, until } from './support.mjs';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const DESK = { width: 1440, height: 900 };
const PHONE = { width: 390, height: 844 };
const PICTURES = [
  { form: 'desk', colorScheme: 'light', names: ['Ada Lovelace', 'Grace Hopper', 'Emmy Noether'] },
  { form: 'desk', colorScheme: 'dark', names: ['Alan Turing', 'Mary Jackson', 'Donald Knuth'] },
  { form: 'phone', colorScheme: 'light', names: ['Barbara Liskov', 'Edsger Dijkstra', 'Radia Perlman'] },
  { form: 'phone', colorScheme: 'dark', names: ['Tony Hoare', 'Lynn Conway', 'Ken Thompson'] },
];

let browser;
const there = [];

before(async () => {
  browser = await launch();
});
after(() => browser?.close());
afterEach(async () => {
  await Promise.all(there.splice(0).map((one) => one.context.close()));
});

async function signedIn(name, options) {
  const one = await person(browser, name, options);
  there.push(one);
  return one;
}

/** Fails on anything that axe calls serious or critical. */
async function usable(one, what) {
  await one.page.evaluate(`${AXE};0`);
  const found = await one.page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  const bad = found.violations
    .filter((rule) => ['serious', 'critical'].includes(rule.impact))
    .map(
      (rule) =>
        `${rule.id}: ${rule.nodes.map((node) => `${node.html} ${node.any[0]?.message ?? ''}`).join(' | ')}`,
    );
  assert.deepEqual(bad, [], `serious hurdles ${what}`);
}

describe('anybody can use', () => {
  for (const colorScheme of ['light', 'dark']) {
    it(`the page in ${colorScheme}: way in, idle, ringing, in a call, over, inspector`, async () => {
      const context = await browser.newContext({ colorScheme });
      const page = await context.newPage();
      there.push({ context });
      await page.goto(SERVICE);
      await page.getByTestId('sign-in-name').waitFor();
      await usable({ page }, 'on the way in');
      const ada = await signedIn('Ada', { colorScheme, reducedMotion: 'reduce' });
      const grace = await signedIn('Grace', { colorScheme, reducedMotion: 'reduce' });
      await ada.page.getByTestId(`person-${grace.id}`).waitFor();
      await usable(ada, 'while idle');
      await call(ada, [grace]);
      await usable(ada, 'while it rings there');
      await usable(grace, 'while it rings here');
      await accept(grace);
      await sees(ada, grace);
      await grace.page.getByTestId('mute').click();
      await ada.page.getByTestId(`muted-${grace.id}`).waitFor();
      await usable(ada, 'in the call');
      await ada.page.getByTestId('toggle-inspector').click();
      for (const tab of ['log', 'timeline', 'quality']) {
        await ada.page.getByTestId(`tab-${tab}`).click();
        await usable(ada, `in the inspector's ${tab}`);
      }
      await ada.page.getByTestId('open-people').click();
      await usable(ada, 'in the list of people');
      await ada.page.keyboard.press('Escape');
      await ada.page.getByTestId('hang-up').click();
      await phase(grace, 'over');
      await usable(grace, 'when it is over');
      await grace.page.getByTestId('history-row').first().click();
      await usable(grace, 'in the history');
      unharmed(ada, grace);
    });
  }

  it('a call by keyboard and ear: announced, answered, muted and hung up without a pointer', async () => {
    const ada = await signedIn('Ada');
    const grace = await signedIn('Grace');
    await call(ada, [grace]);
    await until('it is announced', async () =>
      (await grace.page.getByTestId('live-urgent').textContent()).includes(
        `Incoming video call from ${ada.name}`,
      ),
    );
    // The card has the focus, but no button of it: a key meant for something else answers nothing.
    await grace.page.keyboard.press('Enter');
    assert.equal(await grace.page.locator('[data-testid=incoming]').count(), 1);
    for (let i = 0; i < 3; i += 1) await grace.page.keyboard.press('Tab');
    assert.equal(await grace.page.evaluate(() => document.activeElement.dataset.testid), 'accept');
    await grace.page.keyboard.press('Enter');
    await phase(grace, 'talking');
    await grace.page.keyboard.press('m');
    await ada.page.getByTestId(`muted-${grace.id}`).waitFor();
    await until('muting is said', async () =>
      /Microphone off/.test(await grace.page.getByTestId('live-polite').textContent()),
    );
    await grace.page.keyboard.press('Escape');
    assert.equal(await grace.page.evaluate(() => document.activeElement.dataset.testid), 'hang-up');
    await grace.page.keyboard.press('Enter');
    await phase(ada, 'over');
    unharmed(ada, grace);
  });
});

describe('the way in', () => {
  it('says what is wrong with a name, and is still signed in after a reload', async () => {
    const context = await browser.newContext();
    const page = await context.newPage();
    there.push({ context });
    await page.goto(SERVICE);
    await page.getByTestId('sign-in-name').fill('!!!');
    await page.getByTestId('sign-in-submit').click();
    assert.match(await page.getByTestId('sign-in-problem').textContent(), /at least one letter/);
    const ada = await signedIn('Ada');
    await ada.page.reload();
    await ada.page.locator('[data-testid=stage][data-line=online]').waitFor();
    assert.equal(await ada.page.getByTestId('me-name').textContent(), ada.name);
    await ada.page.getByTestId('sign-out').click();
    await ada.page.getByTestId('sign-in').waitFor();
    unharmed(ada);
  });
});

describe('the inspector', () => {
  it('shows each event and REST call, filters, opens the JSON, pauses, clears and exports', async () => {
    const ada = await signedIn('Ada');
    const grace = await signedIn('Grace');
    await ada.page.getByTestId('toggle-inspector').click();
    await call(ada, [grace], 'audio');
    await accept(grace);
    await phase(ada, 'talking');
    const row = (name) => ada.page.locator(`[data-testid=log-row][data-name="${name}"]`);
    for (const name of [
      'POST /api/v1/calls/start',
      'call:ringing',
      'call:accepted',
      'call:state_changed',
      'webrtc:offer',
    ]) {
      await row(name).first().waitFor();
    }
    await ada.page.getByTestId('log-filter').fill('start');
    await until('only the start is left', async () => (await ada.page.getByTestId('log-row').count()) === 1);
    await row('POST /api/v1/calls/start').click();
    const json = await ada.page.getByTestId('log-detail').textContent();
    assert.match(json, new RegExp(`"${grace.id}"`));
    assert.match(json, /"roomId": "room_/);
    const saved = ada.page.waitForEvent('download');
    await ada.page.getByTestId('log-export').click();
    const entries = JSON.parse(readFileSync(await (await saved).path(), 'utf8'));
    assert.equal(entries.length, 1);
    assert.equal(entries[0].status, '201');
    await ada.page.getByTestId('log-filter').fill('');
    await ada.page.getByTestId('log-pause').click();
    await ada.page.getByTestId('log-clear').click();
    await grace.page.getByTestId('mute').click();
    await ada.page.getByTestId(`muted-${grace.id}`).waitFor();
    assert.equal(await ada.page.getByTestId('log-row').count(), 0);
    await ada.page.getByTestId('tab-timeline').click();
    await ada.page
      .getByTestId('timeline')
      .getByRole('img', { name: /^Call: .*connected/ })
      .waitFor();
    await ada.page.getByTestId('tab-quality').click();
    await ada.page.getByTestId('quality-summary').waitFor();
    unharmed(ada, grace);
  });

  it('shows the sample that is sent of the connection', async () => {
    const ada = await signedIn('Ada');
    const grace = await signedIn('Grace');
    await ada.page.getByTestId('toggle-inspector').click();
    await call(ada, [grace]);
    await accept(grace);
    const sent = ada.page.locator('[data-testid=log-row][data-name="call:quality_update"]').first();
    await sent.waitFor();
    await until('it is acknowledged', async () => (await sent.textContent()).includes('ok'));
    await ada.page.getByRole('img', { name: /Connection (excellent|good|fair|poor): jitter/ }).waitFor();
    unharmed(ada, grace);
  });
});

describe('pictures are kept of', () => {
  // Three browsers, so that three cameras show three people.
  let cast;
  before(async () => {
    cast = await Promise.all(CAST.map((colours) => launch({ clip: clip(colours) })));
  });
  after(() => Promise.all((cast ?? []).map((one) => one.close())));

  async function actor(i, name, options) {
    const one = await person(cast[i], name, { exact: true, reducedMotion: 'reduce', ...options });
    there.push(one);
    return one;
  }

  /** The page before anyone has signed in. */
  async function wayIn(name, options) {
    const context = await cast[0].newContext(options);
    there.push({ context });
    const page = await context.newPage();
    await page.goto(SERVICE);
    await page.getByTestId('sign-in-name').waitFor();
    await shot({ page }, name);
  }

  for (const { form, colorScheme, names } of PICTURES) {
    it(`a call on a ${form} in ${colorScheme}`, async () => {
      const phone = form === 'phone';
      const options = phone
        ? { viewport: PHONE, colorScheme, hasTouch: true, isMobile: true }
        : { viewport: DESK, colorScheme };
      const keep = (one, what) => shot(one, `${form}-${colorScheme}-${what}`);
      await wayIn(`${form}-${colorScheme}-1-sign-in`, options);
      const ada = await actor(0, names[0], options);
      const grace = await actor(1, names[1], { colorScheme });
      const emmy = await actor(2, names[2], { colorScheme });
      await grace.page.addInitScript(drawnScreen);
      await grace.page.evaluate(drawnScreen);
      if (phone) await ada.page.getByTestId('choose-people').click();
      for (const one of [grace, emmy]) {
        await ada.page.locator(`[data-testid=person-${one.id}][data-online=true]`).waitFor();
      }
      await keep(ada, '2-people');
      await call(ada, [grace, emmy]);
      await keep(ada, '3-ringing');
      await accept(grace);
      await sees(ada, grace);
      await accept(emmy);
      await sees(ada, emmy);
      await emmy.page.getByTestId('mute').click();
      await ada.page.getByTestId(`muted-${emmy.id}`).waitFor();
      if (!phone) await ada.page.getByTestId('toggle-inspector').click();
      await until('the bars are there', async () => (await ada.page.locator('.tile .bars').count()) >= 2);
      await keep(ada, '4-call');
      await grace.page.getByTestId('share').click();
      await ada.page.locator(`[data-testid=screen-video-${grace.id}].shown`).waitFor();
      await keep(ada, '5-screen');
      const fits = await ada.page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth);
      assert.ok(fits, 'nothing sticks out to the side');
      await ada.page.getByTestId('hang-up').click();
      await phase(ada, 'over');
      await keep(ada, '6-over');
      await grace.page.getByTestId(`call-video-${ada.id}`).click();
      await ada.page.getByTestId('incoming').waitFor();
      await keep(ada, '7-incoming');
      await grace.page.getByTestId('hang-up').click();
      await ada.page.getByTestId('incoming').waitFor({ state: 'detached' });
      unharmed(ada, grace, emmy);
    });
  }
});
