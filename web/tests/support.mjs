// What every browser test shares: the browser with false devices, people with fresh names, and looks at what a page holds.
// The service is started by whoever runs the tests; its address is in CALL_SERVICE_URL.
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { chromium } from 'playwright-core';

export const SERVICE = process.env.CALL_SERVICE_URL ?? 'http://127.0.0.1:3003';
const OUTPUT = process.env.OUTPUT;
const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';

/** How long a page may take for something that needs the service or media, milliseconds. */
export const PATIENCE = 12_000;

const FLAGS = [
  '--no-sandbox',
  '--disable-quic',
  '--disable-background-networking',
  '--disable-component-update',
  '--no-first-run',
  '--disable-gpu',
  '--mute-audio',
  '--autoplay-policy=no-user-gesture-required',
  '--allow-loopback-in-peer-connection',
];
const DEVICES = [
  '--use-fake-ui-for-media-stream',
  '--use-fake-device-for-media-stream=device-count=1,fps=10',
];
const REFUSED = [
  '--use-fake-ui-for-media-stream=deny',
  '--use-fake-device-for-media-stream=device-count=1,fps=10',
];

/** A browser whose devices are false ones, or (`refused`) one that refuses them all; `clip` is what its camera shows. */
export function launch({ refused = false, clip } = {}) {
  const film = clip === undefined ? [] : [`--use-file-for-fake-video-capture=${clip}`];
  return chromium.launch({
    executablePath: CHROMIUM,
    headless: true,
    args: [...FLAGS, ...(refused ? REFUSED : DEVICES), ...film],
  });
}

let last = 0;

/** A name nobody had before. */
export function fresh(name) {
  last += 1;
  return `${name} ${process.pid.toString(36)}${Date.now().toString(36).slice(-5)}${last}`;
}

/** The user id that the page makes of such a name. */
export function idOf(name) {
  return name.toLowerCase().replaceAll(' ', '-');
}

/**
 * A new person with a browser context of their own, on the page and signed in; `exact` for that very name, `script`
 * is run on the page before its own.
 */
export async function person(
  browser,
  name,
  { viewport = { width: 1280, height: 800 }, exact = false, script, ...options } = {},
) {
  const context = await browser.newContext({ viewport, ...options });
  const page = await context.newPage();
  const faults = [];
  page.on('pageerror', (error) => faults.push(String(error)));
  if (script !== undefined) await page.addInitScript(script);
  // A small picture: several of these share two cores.
  await page.addInitScript(() =>
    localStorage.setItem('call-console.devices', JSON.stringify({ detail: 'low' })),
  );
  const full = exact ? name : fresh(name);
  await signIn(page, full);
  return { context, page, name: full, id: idOf(full), faults };
}

/** A person's second device. */
export async function secondDevice(browser, of) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  const page = await context.newPage();
  await signIn(page, of.name);
  return { context, page, name: of.name, id: of.id, faults: [] };
}

const pages = new Set();

/** Goes to the page and signs in there; everybody else sees that at once. */
export async function signIn(page, name) {
  page.setDefaultTimeout(PATIENCE);
  await page.goto(SERVICE);
  await page.getByTestId('sign-in-name').fill(name);
  await page.getByTestId('sign-in-submit').click();
  await page.locator('[data-testid=stage][data-line=online]').waitFor();
  pages.add(page);
  page.once('close', () => pages.delete(page));
  await Promise.all([...pages].map(lookAgain));
}

/** A page looks who is online when somebody comes back to it: sooner than it is time again. */
function lookAgain(page) {
  const comeBack = () => document.dispatchEvent(new Event('visibilitychange', { bubbles: true }));
  // One that is being closed or loaded anew has no need to.
  return page.evaluate(comeBack).catch(() => undefined);
}

/** `from` calls `to`, all of whom see it ring. */
export async function call(from, to, kind = 'video') {
  if (to.length === 1) {
    await from.page.getByTestId(`call-${kind}-${to[0].id}`).click();
  } else {
    for (const one of to) await from.page.getByTestId(`pick-${one.id}`).check();
    await from.page.getByTestId(`picked-${kind}`).click();
  }
  await Promise.all([phase(from, 'ringing'), ...to.map((one) => one.page.getByTestId('incoming').waitFor())]);
}

export async function accept(...people) {
  for (const one of people) await one.page.getByTestId('accept').click();
}

/** Waits until the stage shows that phase. */
export function phase(one, name) {
  return one.page.locator(`[data-testid=stage][data-phase=${name}]`).waitFor();
}

/** Waits until the page says how the call ended in these words: at first it may not know that it is over for all. */
export function toldWhy(one, words) {
  return until(
    `${one.name} is told: ${words}`,
    async () => (await one.page.getByTestId('over-detail').textContent()) === words,
  );
}

/** Waits until `look` gives something true; fails with `what`. */
export async function until(what, look, { patience = PATIENCE, every = 150 } = {}) {
  const end = Date.now() + patience;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > end) assert.fail(`not in ${patience} ms: ${what}`);
    await pause(every);
  }
}

/**
 * What a page has received from each other person: decoded frames and sound packets, all tracks that are there now.
 * From peer to peer a connection has them, in a room of the media server each track of a participant.
 */
export function received(one) {
  return one.page.evaluate(async () => {
    const total = (stats, key) => stats.reduce((sum, stat) => sum + (stat[key] ?? 0), 0);
    const sources = () => {
      const room = window.__call.room();
      if (room === null)
        return window.__call
          .peers()
          .map(({ userId, pc }) => ({ userId, pc, reports: () => [pc.getStats()] }));
      return [...room.remoteParticipants.values()].map((from) => ({
        userId: from.identity,
        pc: { connectionState: room.state },
        reports: () => [...from.trackPublications.values()].map(({ track }) => track?.getRTCStatsReport()),
      }));
    };
    const sums = async ({ userId, pc, reports }) => {
      const all = (await Promise.all(reports())).flatMap((report) => [...(report?.values() ?? [])]);
      const inbound = all.filter((stat) => stat.type === 'inbound-rtp');
      const video = inbound.filter((stat) => stat.kind === 'video');
      const audio = inbound.filter((stat) => stat.kind === 'audio');
      const biggest = Math.max(0, ...video.map((stat) => stat.frameWidth ?? 0));
      const frames = total(video, 'framesDecoded');
      return [
        userId,
        { frames, packets: total(audio, 'packetsReceived'), biggest, state: pc.connectionState },
      ];
    };
    return Object.fromEntries(await Promise.all(sources().map(sums)));
  });
}

/** Waits until frames and sound from `from` grow at `at`. */
export async function sees(at, from) {
  let sums;
  const what = `${at.name} decodes frames and hears ${from.name}`;
  const first = await until(what, async () => {
    sums = (await received(at))[from.id];
    return sums !== undefined && sums.frames > 0 && sums.packets > 0 && sums;
  }).catch((error) => {
    error.message += `: ${JSON.stringify(sums)}`;
    throw error;
  });
  await until(`the picture of ${from.name} moves at ${at.name}`, async () => {
    sums = (await received(at))[from.id];
    return sums !== undefined && sums.frames > first.frames + 3 && sums.packets > first.packets + 10;
  });
}

/** Has a page take its connection to the other for failed, long enough that it mends it. */
export function fails(one) {
  return one.page.evaluate(async () => {
    const [{ pc }] = window.__call.peers();
    Object.defineProperty(pc, 'connectionState', { configurable: true, get: () => 'failed' });
    pc.onconnectionstatechange();
    await new Promise((resolve) => setTimeout(resolve, 100));
    delete pc.connectionState;
  });
}

/** What tells one round of finding addresses from the next. */
export function round(one) {
  return one.page.evaluate(() => {
    const { sdp } = window.__call.peers()[0].pc.currentLocalDescription;
    return /a=ice-ufrag:(\S+)/.exec(sdp)[1];
  });
}

/** The newest line of a page's history, once it says that the call is over. */
export async function lastCall(one) {
  return until(`${one.name} finds the call in the history`, async () => {
    const row = one.page.getByTestId('history-row').first();
    if ((await row.count()) === 0) return null;
    const found = await row.evaluate((node) => ({ ...node.dataset, text: node.textContent }));
    return found.reason === undefined || found.reason === '' ? null : found;
  });
}

/** Keeps a picture of the page where OUTPUT says, as test output. */
export async function shot(one, name) {
  if (OUTPUT === undefined) return;
  mkdirSync(OUTPUT, { recursive: true });
  // No tooltip in it.
  await one.page.mouse.move(1, 1);
  await one.page.screenshot({ path: join(OUTPUT, `${name}.png`) });
}

/** Fails if a page had an error nobody caught. */
export function unharmed(...people) {
  for (const one of people) assert.deepEqual(one.faults, [], `errors on the page of ${one.name}`);
}
