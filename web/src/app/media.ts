import { batch, effect } from '@preact/signals';
import { acquire, DETAILS, type Detail, type Trouble, troubleWords, type Wish } from '../call/devices';
import type { Source } from '../contract';
import { browser } from '../lib/keep';
import { camera, choice, devices, microphone, muted, screen, session, toast, troubles } from './store';

/** Asked once a device is there and before it is shown to anybody: whether it is still wanted. */
type Consent = () => Promise<boolean>;

const wanted: Consent = () => Promise.resolve(true);

/** Gets what is wished for and not there yet; what cannot be had is told, and the rest goes on. */
export async function prepare(wish: Wish, consent: Consent = wanted): Promise<void> {
  const need = {
    audio: wish.audio && microphone.value?.readyState !== 'live',
    video: wish.video && camera.value?.readyState !== 'live',
  };
  if (!need.audio && !need.video) return;
  const got = await acquire(need, choice.value);
  const any = got.microphone !== null || got.camera !== null;
  if (any && !(await consent())) {
    got.microphone?.stop();
    got.camera?.stop();
    return;
  }
  batch(() => {
    if (got.microphone !== null) setMicrophone(got.microphone);
    if (got.camera !== null) setCamera(got.camera);
    const asked = new Set<Trouble['what']>([
      ...(need.audio ? ['microphone' as const] : []),
      ...(need.video ? ['camera' as const] : []),
    ]);
    troubles.value = [...troubles.value.filter((one) => !asked.has(one.what)), ...got.troubles];
  });
  for (const trouble of got.troubles) toast(troubleWords(trouble).title, 'bad');
  await listDevices();
}

/** Lets go of every device. */
export function release(): void {
  for (const held of [microphone, camera, screen]) {
    held.value?.stop();
    held.value = null;
  }
  batch(() => {
    muted.value = false;
    troubles.value = [];
  });
}

export function dropTrouble(what: Trouble['what']): void {
  troubles.value = troubles.value.filter((one) => one.what !== what);
}

function setMicrophone(track: MediaStreamTrack): void {
  if (microphone.value !== track) microphone.value?.stop();
  track.enabled = !muted.value;
  track.onended = () => lostDevice('microphone', track);
  microphone.value = track;
}

function setCamera(track: MediaStreamTrack): void {
  if (camera.value !== track) camera.value?.stop();
  track.contentHint = 'motion';
  track.onended = () => lostDevice('camera', track);
  camera.value = track;
}

/** Unplugged, or taken back by the browser. */
function lostDevice(what: Trouble['what'], track: MediaStreamTrack): void {
  const held = what === 'camera' ? camera : microphone;
  if (held.value !== track) return;
  held.value = null;
  troubles.value = [...troubles.value.filter((one) => one.what !== what), { what, why: 'missing' }];
  toast(what === 'camera' ? 'The camera was disconnected' : 'The microphone was disconnected', 'bad');
}

/** Mutes or unmutes; gets the microphone if there was none. True if sound goes out afterwards. */
export async function toggleMicrophone(): Promise<boolean> {
  if (microphone.value === null) {
    muted.value = false;
    await prepare({ audio: true, video: false });
    return microphone.value !== null;
  }
  muted.value = !muted.value;
  microphone.value.enabled = !muted.value;
  return !muted.value;
}

/** Off lets go of the camera, so that its light goes out. True if a picture goes out afterwards. */
export async function toggleCamera(consent: Consent): Promise<boolean> {
  if (camera.value !== null) {
    letGo(camera);
    return false;
  }
  await prepare({ audio: false, video: true }, consent);
  return camera.value !== null;
}

function letGo(held: typeof camera): void {
  held.value?.stop();
  held.value = null;
}

/** Whether we are heard and seen. */
export interface Sent {
  audio: boolean;
  video: boolean;
}

const keyOfSent = (): string => `sent.${session.value?.userId ?? ''}`;

/** Keeps what is sent in that call, for this browser to go on with, until the returned function is called. */
export function keepSent(callId: string): () => void {
  return effect(() => {
    const on = sources();
    const audio = on.has('audio') || microphone.value === null;
    browser.write(keyOfSent(), { callId, audio, video: on.has('video') });
  });
}

/** What this browser sent in that call before its page was loaded anew, or closed. */
export function recallSent(callId: string): Sent | null {
  const kept = browser.read(keyOfSent()) as (Partial<Sent> & { callId?: unknown }) | null;
  if (kept?.callId !== callId) return null;
  return { audio: kept.audio !== false, video: kept.video === true };
}

/** What is on here, for the others to hear or see. */
export function sources(): Set<Source> {
  const on = new Set<Source>();
  if (microphone.value !== null && !muted.value) on.add('audio');
  if (camera.value !== null) on.add('video');
  if (screen.value !== null) on.add('screen_share');
  return on;
}

/** Turns one of them off, whoever asks for it. */
export function turnOff(source: Source): void {
  if (source === 'video') letGo(camera);
  else if (source === 'screen_share') letGo(screen);
  else {
    muted.value = true;
    if (microphone.value !== null) microphone.value.enabled = false;
  }
}

export const canShareScreen = (): boolean => typeof navigator.mediaDevices?.getDisplayMedia === 'function';

/** True if a screen is shared afterwards. `onStop` is called when the browser's own button ends it. */
export async function toggleScreen(onStop: () => void, consent: Consent): Promise<boolean> {
  if (screen.value !== null) {
    letGo(screen);
    return false;
  }
  try {
    const stream = await navigator.mediaDevices.getDisplayMedia({
      video: { frameRate: { ideal: 15 } },
      audio: false,
    });
    const track = stream.getVideoTracks()[0] ?? null;
    if (track === null) return false;
    if (!(await consent())) {
      track.stop();
      return false;
    }
    track.contentHint = 'detail';
    track.onended = () => {
      if (screen.value !== track) return;
      screen.value = null;
      onStop();
    };
    screen.value = track;
    return true;
  } catch (error) {
    const refused = error instanceof Error && error.name === 'NotAllowedError';
    toast(refused ? 'No screen was shared' : 'The screen could not be shared', 'plain');
    return false;
  }
}

export async function listDevices(): Promise<void> {
  devices.value = (await navigator.mediaDevices?.enumerateDevices().catch(() => [])) ?? [];
}

export function watchDevices(): void {
  navigator.mediaDevices?.addEventListener('devicechange', () => void listDevices());
}

/** Takes another device, at once where one of its kind is in use. */
export async function choose(kind: 'microphone' | 'camera' | 'speaker', id: string): Promise<void> {
  choice.value = { ...choice.value, [kind]: id === '' ? null : id };
  browser.write('devices', choice.value);
  await swap(kind);
}

export async function chooseDetail(detail: Detail): Promise<void> {
  choice.value = { ...choice.value, detail };
  browser.write('devices', choice.value);
  await swap('camera');
}

async function swap(kind: 'microphone' | 'camera' | 'speaker'): Promise<void> {
  if (kind === 'speaker') return;
  const held = kind === 'microphone' ? microphone : camera;
  if (held.value === null) return;
  const wish = { audio: kind === 'microphone', video: kind === 'camera' };
  const got = await acquire(wish, choice.value);
  batch(() => {
    if (got.microphone !== null) setMicrophone(got.microphone);
    if (got.camera !== null) setCamera(got.camera);
    troubles.value = got.troubles;
  });
}

/** The devices chosen on an earlier visit. */
export function recallChoice(): void {
  const kept = browser.read('devices') as Partial<typeof choice.value> | null;
  if (kept === null) return;
  const text = (value: unknown) => (typeof value === 'string' ? value : null);
  const detail = DETAILS.find((one) => one === kept.detail) ?? choice.value.detail;
  choice.value = {
    microphone: text(kept.microphone),
    camera: text(kept.camera),
    speaker: text(kept.speaker),
    detail,
  };
}
