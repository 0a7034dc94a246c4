// Calls from browser to browser: what two and three people do with one another.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import {
  accept,
  call,
  lastCall,
  launch,
  PATIENCE,
  person,
  phase,
  received,
  secondDevice,
  sees,
  toldWhy,
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

async function people(...names) {
  const all = await Promise.all(names.map((name) => person(browser, name)));
  there.push(...all);
  return all;
}

describe('two people', () => {
  it('see and hear each other, and find the call in their history with its duration and reason', async () => {
    const [ada, grace] = await people('Ada', 'Grace');
    await call(ada, [grace]);
    assert.equal(await grace.page.getByTestId('incoming-name').textContent(), ada.name);
    assert.match(await grace.page.title(), new RegExp(`${ada.name} is calling`));
    await ada.page.locator(`[data-testid=asked-${grace.id}][data-state=ringing]`).waitFor();
    await accept(grace);
    await Promise.all([phase(ada, 'talking'), phase(grace, 'talking')]);
    await Promise.all([sees(ada, grace), sees(grace, ada)]);
    assert.equal(await grace.page.title(), 'Call console');
    await ada.page.getByTestId('call-clock').filter({ hasText: '0:02' }).waitFor();
    await ada.page.getByTestId('hang-up').click();
    await Promise.all([phase(ada, 'over'), phase(grace, 'over')]);
    await toldWhy(grace, `${ada.name} hung up.`);
    await toldWhy(ada, 'You hung up.');
    for (const one of [ada, grace]) {
      const found = await lastCall(one);
      assert.equal(found.state, 'ended');
      assert.equal(found.reason, 'normal');
      assert.ok(
        Number(found.duration) >= 2 && Number(found.duration) <= 30,
        `a duration of ${found.duration} s`,
      );
      assert.match(found.text, /Call ended · \d+ s/);
    }
    unharmed(ada, grace);
  });

  it('hear each other in an audio call, without a camera', async () => {
    const [ada, grace] = await people('Ada', 'Grace');
    await call(ada, [grace], 'audio');
    assert.equal(await grace.page.getByTestId('accept-audio').count(), 0);
    await accept(grace);
    await until('sound comes', async () => ((await received(ada))[grace.id]?.packets ?? 0) > 30);
    await grace.page.locator(`[data-testid=tile-${ada.id}][data-video=false]`).waitFor();
    unharmed(ada, grace);
  });

  it('may answer a video call without video, and turn the camera on later', async () => {
    const [ada, grace] = await people('Ada', 'Grace');
    await call(ada, [grace]);
    await grace.page.getByTestId('accept-audio').click();
    await phase(ada, 'talking');
    await ada.page.locator(`[data-testid=tile-${grace.id}][data-video=false]`).waitFor();
    await grace.page.keyboard.press('v');
    await ada.page.locator(`[data-testid=tile-${grace.id}][data-video=true]`).waitFor();
    await sees(ada, grace);
    await grace.page.keyboard.press('v');
    await ada.page.locator(`[data-testid=tile-${grace.id}][data-video=false]`).waitFor();
    unharmed(ada, grace);
  });

  it('see who is muted', async () => {
    const [ada, grace] = await people('Ada', 'Grace');
    await call(ada, [grace]);
    await accept(grace);
    await sees(ada, grace);
    await grace.page.getByTestId('mute').click();
    await ada.page.getByTestId(`muted-${grace.id}`).waitFor();
    assert.equal(await grace.page.getByTestId('mute').getAttribute('aria-pressed'), 'true');
    await grace.page.keyboard.press('m');
    await ada.page.getByTestId(`muted-${grace.id}`).waitFor({ state: 'detached' });
    unharmed(ada, grace);
  });

  it('are muted by the one who called, are told by whom, and can speak again', async () => {
    const [ada, grace] = await people('Ada', 'Grace');
    await call(ada, [grace]);
    await accept(grace);
    await sees(ada, grace);
    await ada.page.getByTestId('open-people').click();
    await ada.page.getByTestId(`mute-${grace.id}`).click();
    await grace.page
      .getByTestId('toast')
      .filter({ hasText: `${ada.name} muted you` })
      .waitFor();
    await grace.page.locator('[data-testid=mute][aria-pressed=true]').waitFor();
    await ada.page.getByTestId(`camera-off-${grace.id}`).click();
    await grace.page
      .getByTestId('toast')
      .filter({ hasText: `${ada.name} turned your camera off` })
      .waitFor();
    await ada.page.keyboard.press('Escape');
    await ada.page.locator(`[data-testid=tile-${grace.id}][data-audio=false][data-video=false]`).waitFor();
    // Who did not call can turn nobody off.
    await grace.page.getByTestId('open-people').click();
    await grace.page.getByTestId(`inside-${ada.id}`).waitFor();
    assert.equal(await grace.page.getByTestId(`mute-${ada.id}`).count(), 0);
    await grace.page.keyboard.press('Escape');
    await grace.page.getByTestId('mute').click();
    await ada.page.getByTestId(`muted-${grace.id}`).waitFor({ state: 'detached' });
    unharmed(ada, grace);
  });

  it('have no record button: nobody but themselves has what they say', async () => {
    const [ada, grace] = await people('Ada', 'Grace');
    await call(ada, [grace], 'audio');
    await accept(grace);
    await phase(ada, 'talking');
    assert.equal(await ada.page.getByTestId('record').count(), 0);
    unharmed(ada, grace);
  });

  it('see a shared screen beside the faces, until it is stopped', async () => {
    const [ada, grace] = await people('Ada', 'Grace');
    await call(ada, [grace]);
    await accept(grace);
    await sees(ada, grace);
    await grace.page.getByTestId('share').click();
    await ada.page.getByTestId(`screen-${grace.id}`).waitFor();
    await until(
      'frames as large as a screen come',
      async () => (await received(ada))[grace.id]?.biggest > 600,
    );
    const screen = await ada.page.getByTestId(`screen-${grace.id}`).boundingBox();
    const face = await ada.page.getByTestId(`tile-${grace.id}`).boundingBox();
    assert.ok(
      screen.width * screen.height > 3 * face.width * face.height,
      'the screen is far larger than a face',
    );
    await grace.page.getByTestId('share').click();
    await ada.page.getByTestId(`screen-${grace.id}`).waitFor({ state: 'detached' });
    unharmed(ada, grace);
  });

  it('who call each other at the same time are in one call', async () => {
    const [ada, grace] = await people('Ada', 'Grace');
    const buttons = [
      ada.page.getByTestId(`call-video-${grace.id}`),
      grace.page.getByTestId(`call-video-${ada.id}`),
    ];
    await Promise.all(buttons.map((button) => button.waitFor()));
    // Without a look whether the button can be reached: the other's call may ring over it by then, which is the point.
    await Promise.all(buttons.map((button) => button.evaluate((node) => node.click())));
    await Promise.all([phase(ada, 'talking'), phase(grace, 'talking')]);
    await Promise.all([sees(ada, grace), sees(grace, ada)]);
    const ids = await Promise.all([ada, grace].map((one) => one.page.evaluate(() => window.__call.callId)));
    assert.equal(ids[0], ids[1]);
    unharmed(ada, grace);
  });
});

describe('a call that nobody takes', () => {
  it('is declined, and says so on both sides', async () => {
    const [ada, grace] = await people('Ada', 'Grace');
    await call(ada, [grace]);
    await grace.page.getByTestId('decline').click();
    await grace.page.getByTestId('incoming').waitFor({ state: 'detached' });
    await phase(ada, 'over');
    assert.equal(await ada.page.getByTestId('over-title').textContent(), 'Declined');
    assert.equal((await lastCall(ada)).reason, 'declined');
    assert.equal((await lastCall(grace)).reason, 'declined');
    assert.equal(await grace.page.getByTestId('missed-badge').count(), 0);
    unharmed(ada, grace);
  });

  it('is missed, with a badge until it has been seen', async () => {
    const [ada, grace] = await people('Ada', 'Grace');
    await call(ada, [grace]);
    // Until the service gives up: as long as the page says, however long it rings here.
    const left = Number.parseInt(await grace.page.getByTestId('incoming-left').textContent(), 10);
    const timeout = left * 1000 + PATIENCE;
    await grace.page.getByTestId('incoming').waitFor({ state: 'detached', timeout });
    await ada.page.locator('[data-testid=stage][data-phase=over]').waitFor({ timeout });
    assert.equal(await ada.page.getByTestId('over-title').textContent(), 'No answer');
    await grace.page.locator('[data-testid=missed-badge][data-count="1"]').waitFor();
    assert.equal((await lastCall(grace)).reason, 'no_answer');
    await grace.page.getByTestId('missed-badge').click();
    await grace.page.getByTestId('missed-badge').waitFor({ state: 'detached' });
    unharmed(ada, grace);
  });

  it('is taken back by the caller, and is missed by the other', async () => {
    const [ada, grace] = await people('Ada', 'Grace');
    await call(ada, [grace]);
    await ada.page.keyboard.press('Escape');
    await grace.page.getByTestId('incoming').waitFor({ state: 'detached' });
    await phase(ada, 'over');
    assert.equal((await lastCall(ada)).reason, 'cancelled');
    await grace.page.locator('[data-testid=missed-badge][data-count="1"]').waitFor();
    unharmed(ada, grace);
  });

  it('finds somebody who talks already busy', async () => {
    const [ada, grace, linus] = await people('Ada', 'Grace', 'Linus');
    await call(ada, [grace], 'audio');
    await accept(grace);
    await phase(ada, 'talking');
    await linus.page.getByTestId(`call-audio-${ada.id}`).click();
    await phase(linus, 'over');
    assert.equal(await linus.page.getByTestId('over-title').textContent(), 'Busy');
    unharmed(ada, grace, linus);
  });
});

describe('several', () => {
  it('three talk, one more may be asked in, and the initiator ends it for all', async () => {
    const [ada, grace, linus] = await people('Ada', 'Grace', 'Linus');
    await call(ada, [grace, linus]);
    await accept(grace, linus);
    await Promise.all([
      sees(ada, grace),
      sees(ada, linus),
      sees(grace, linus),
      sees(linus, grace),
      sees(grace, ada),
    ]);
    for (const one of [ada, grace, linus])
      await one.page.locator('[data-testid=tiles][data-count="3"]').waitFor();
    await linus.page.getByTestId('hang-up').click();
    await ada.page.locator('[data-testid=tiles][data-count="2"]').waitFor();
    await ada.page.getByTestId('open-people').click();
    await ada.page.getByTestId(`invite-${linus.id}`).click();
    await accept(linus);
    await ada.page.keyboard.press('Escape');
    await ada.page.locator('[data-testid=tiles][data-count="3"]').waitFor();
    await sees(ada, linus);
    await ada.page.getByTestId('hang-up').click();
    await Promise.all([phase(grace, 'over'), phase(linus, 'over')]);
    assert.equal((await lastCall(grace)).reason, 'normal');
    unharmed(ada, grace, linus);
  });

  it('one who is removed is told, and is gone for the others', async () => {
    const [ada, grace, linus] = await people('Ada', 'Grace', 'Linus');
    await call(ada, [grace, linus], 'audio');
    await accept(grace, linus);
    await ada.page.locator('[data-testid=tiles][data-count="3"]').waitFor();
    await ada.page.getByTestId('open-people').click();
    await ada.page.getByTestId(`remove-${linus.id}`).click();
    await phase(linus, 'over');
    assert.equal(await linus.page.getByTestId('over-title').textContent(), 'You were removed');
    await grace.page.locator('[data-testid=tiles][data-count="2"]').waitFor();
    unharmed(ada, grace, linus);
  });
});

describe('two devices of one person', () => {
  it('ring both; the one that did not answer stops and says so', async () => {
    const [ada, grace] = await people('Ada', 'Grace');
    const other = await secondDevice(browser, grace);
    there.push(other);
    await call(ada, [grace, other].slice(0, 1));
    await other.page.getByTestId('incoming').waitFor();
    await accept(grace);
    await other.page.getByTestId('incoming').waitFor({ state: 'detached' });
    await other.page.getByText('Answered on another device').first().waitFor();
    await sees(ada, grace);
    assert.equal(await other.page.getByTestId('missed-badge').count(), 0);
    unharmed(ada, grace, other);
  });

  it('hand the call over', async () => {
    const [ada, grace] = await people('Ada', 'Grace');
    const other = await secondDevice(browser, grace);
    there.push(other);
    await call(ada, [grace]);
    await accept(grace);
    await sees(ada, grace);
    await other.page.getByRole('button', { name: 'Continue here' }).click();
    await phase(other, 'talking');
    await sees(other, ada);
    await sees(ada, other);
    unharmed(ada, other);
  });
});
