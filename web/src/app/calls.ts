import { batch } from '@preact/signals';
import { applied, type CallView, viewOf, withRecording } from '../call/model';
import { endWords, listed, refusalWords, talkedFor } from '../call/words';
import type { Slot } from '../call/negotiation';
import type { CallAnswer, CallType, IceServer, MediaSettings, MediaToken, Source } from '../contract';
import { isIn, isLive } from '../contract';
import { tab } from '../lib/keep';
import * as api from './api';
import { earlyEvents } from './early';
import { refreshHistory } from './history';
import * as media from './media';
import * as own from './own';
import { connected, send } from './socket';
import { closeStage, openStage, staged, tellTurns } from './stage';
import * as store from './store';

/** What a person does with calls. Each tells what came of it in words. */

/** This tab, to the service; set when the session begins. */
let deviceId = '';

export function actAs(id: string): void {
  deviceId = id;
  tellTurns({ onTaken: stepAside, onShut: (callId, refused) => void shutOut(callId, refused), onUnsent });
}

function me(): string {
  return store.session.value?.userId ?? '';
}

/** Calls these people. */
export async function startCall(ids: readonly string[], type: CallType): Promise<void> {
  if (store.busy.value !== null || ids.length === 0) return;
  if (store.currentId.value !== null) {
    await invite(ids);
    return;
  }
  batch(() => {
    store.busy.value = 'starting';
    store.ending.value = null;
    store.panel.value = 'none';
  });
  try {
    await media.prepare({ audio: true, video: type === 'video' });
    const body = {
      type,
      participantIds: [...ids],
      audioEnabled: sounds(),
      videoEnabled: type === 'video' && pictures(),
    };
    const answer = await startOnce(body, crypto.randomUUID());
    const view = await api
      .call(answer.data.call.id)
      .catch(() => ({ call: answer.data.call, participants: [] }));
    await enter(view, answer.data.token, answer.data.iceServers, answer.status === 200);
    for (const one of answer.data.unavailable ?? [])
      store.toast(`${store.nameOf(one.userId)} cannot be called now`);
    store.picked.value = new Set();
  } catch (error) {
    await startFailed(error, ids, type);
  } finally {
    store.busy.value = null;
  }
}

/** Once more with the same key where no answer came: it is one call whichever of the two got through. */
async function startOnce(body: Parameters<typeof api.start>[0], key: string): ReturnType<typeof api.start> {
  try {
    return await api.start(body, key, deviceId);
  } catch (error) {
    if (error instanceof api.Refused && error.code === 'offline') return api.start(body, key, deviceId);
    throw error;
  }
}

async function startFailed(error: unknown, ids: readonly string[], type: CallType): Promise<void> {
  media.release();
  if (error instanceof api.Refused && error.code === 'busy') {
    const detail = `${listed(ids, store.nameOf)} ${ids.length === 1 ? 'is' : 'are'} in another call.`;
    store.ending.value = {
      callId: '',
      words: { title: 'Busy', detail, missed: false },
      talked: '',
      type,
      again: [...ids],
    };
    store.say(detail);
    await refreshHistory();
    return;
  }
  told(error);
}

function told(error: unknown): void {
  if (error instanceof api.Refused) store.toast(refusalWords(error.code, error.message), 'bad');
  else store.toast('Something went wrong on this page. Try again.', 'bad');
}

/** Answers a ringing call; one that this tab is in is left first. */
export async function accept(id: string, withVideo: boolean): Promise<void> {
  if (store.busy.value !== null) return;
  store.busy.value = 'joining';
  try {
    if (store.currentId.value !== null) await leave(store.currentId.value);
    const type = store.calls.value.get(id)?.call.type ?? 'audio';
    await media.prepare({ audio: true, video: withVideo && type === 'video' });
    await enterByJoin(id);
  } catch (error) {
    media.release();
    told(error);
    if (error instanceof api.Refused && ['call_over', 'not_found'].includes(error.code)) store.dropCall(id);
  } finally {
    store.busy.value = null;
  }
}

async function enterByJoin(id: string): Promise<void> {
  store.currentId.value = id;
  store.ending.value = null;
  try {
    const answer = await api.join(id, { audioEnabled: sounds(), videoEnabled: pictures() }, deviceId);
    await enter(answer, answer.token, answer.iceServers, true);
  } catch (error) {
    store.currentId.value = null;
    throw error;
  }
}

async function enter(answer: CallAnswer, token: MediaToken, ice: IceServer[], first: boolean): Promise<void> {
  const { id } = answer.call;
  const before = store.calls.value.get(id) ?? null;
  const newer = before === null || answer.call.seq >= before.call.seq;
  const early = earlyEvents.take(id);
  const view = early.reduce(
    (known, event) => applied(known, event, Date.now()),
    newer ? viewOf(answer, before, Date.now()) : before,
  );
  batch(() => {
    store.putCall(view);
    store.currentId.value = id;
    store.ending.value = null;
    store.panel.value = 'none';
  });
  tab.write('call', id);
  void refreshHistory();
  if (isLive(view.call.state)) {
    void learnRecording(view);
    await openStage(id, token, ice, first);
  } else await finish(id, view.endedBy);
}

export async function decline(id: string): Promise<void> {
  store.dropCall(id);
  const answer = await send('call:decline', { callId: id });
  if (!answer.success) await api.end(id, 'declined').catch(told);
  await refreshHistory();
}

/** Hangs up, or takes back a call that still rings. */
export async function hangUp(): Promise<void> {
  const id = store.currentId.value;
  if (id === null || store.busy.value === 'leaving') return;
  store.busy.value = 'leaving';
  try {
    await leave(id);
  } finally {
    store.busy.value = null;
  }
}

async function leave(id: string): Promise<void> {
  const view = store.calls.value.get(id);
  const wasRinging = view !== undefined && view.call.startedAt === null;
  // The devices are let go at once: nobody waits for a server to stop being seen.
  closeStage();
  try {
    await api.end(id, wasRinging ? 'cancelled' : 'normal');
  } catch (error) {
    if (error instanceof api.Refused && error.code === 'offline')
      store.toast('You left; the service will notice soon.', 'plain');
  }
  await finish(id, me());
}

/** The call is over for this tab: says how it ended and lets everything go. */
export async function finish(id: string, by: string | null): Promise<void> {
  if (store.currentId.value !== id) return;
  const view = store.calls.value.get(id) ?? null;
  closeStage();
  media.release();
  tab.write('call', null);
  batch(() => {
    store.currentId.value = null;
    store.panel.value = 'none';
    if (view !== null) store.ending.value = endingOf(view, by);
  });
  const last = await api.call(id).catch(() => null);
  if (last !== null && store.ending.value?.callId === id) {
    store.ending.value = endingOf(viewOf(last, view, Date.now()), by);
  }
  if (view !== null && last !== null && !isLive(last.call.state)) store.dropCall(id);
  if (store.ending.value?.callId === id) {
    const { words, talked } = store.ending.value;
    store.say(`${words.title}. ${words.detail} ${talked === '' ? '' : `You talked for ${talked}.`}`);
  }
  await refreshHistory();
}

function endingOf(view: CallView, by: string | null): NonNullable<typeof store.ending.value> {
  const participants = [...view.participants.values()];
  const mine = view.participants.get(me());
  const left = isLive(view.call.state);
  const removed = mine?.connectionState === 'removed';
  const words = left
    ? {
        title: removed ? 'You were removed' : 'You left the call',
        detail: removed
          ? 'Who started the call took you out of it.'
          : 'The others go on. You may join again.',
        missed: false,
      }
    : endWords({ call: view.call, participants, endedBy: view.endedBy ?? by }, me(), store.nameOf);
  return {
    callId: view.call.id,
    words,
    talked: talkedFor(view.call),
    type: view.call.type,
    again: participants.map((one) => one.userId).filter((id) => id !== me()),
  };
}

/** Goes back into a live call: after a reload, from another device, or after having left. */
export async function comeBack(id: string): Promise<void> {
  if (store.busy.value !== null || store.currentId.value !== null) return;
  store.busy.value = 'joining';
  try {
    const { audio, video } = media.recallSent(id) ?? sentElsewhere(id);
    if (!audio) {
      media.turnOff('audio');
      store.toast('You are muted, as you were before');
    }
    await media.prepare({ audio: true, video });
    await enterByJoin(id);
    await tellSettings();
  } catch (error) {
    media.release();
    tab.write('call', null);
    told(error);
  } finally {
    store.busy.value = null;
  }
}

/** What another device of ours sends in that call; where none is in it the service's word is no wish of ours. */
function sentElsewhere(id: string): media.Sent {
  const view = store.calls.value.get(id);
  const mine = view?.participants.get(me());
  if (mine?.connectionState === 'connected') return { audio: mine.audioEnabled, video: mine.videoEnabled };
  return { audio: true, video: view?.call.type === 'video' };
}

/** Another device of ours has taken the call over: this one leaves it without ending anything. */
function stepAside(id: string): void {
  const view = store.calls.value.get(id);
  if (store.currentId.value !== id || view === undefined) return;
  closeStage();
  media.release();
  tab.write('call', null);
  const words = {
    title: 'You continued this call on another device',
    detail: 'Microphone and camera are off here. You may come back.',
    missed: false,
  };
  batch(() => {
    store.currentId.value = null;
    store.panel.value = 'none';
    store.ending.value = { ...endingOf(view, null), words, talked: '', taken: true };
  });
  store.say(`${words.title}. ${words.detail}`, true);
}

/** The media can no longer be joined: we lost our place and take it again, or the call is over for us. */
async function shutOut(id: string, refused: api.Refused): Promise<void> {
  const view = store.calls.value.get(id);
  if (store.currentId.value !== id || view === undefined) return;
  if (refused.code === 'not_joined') {
    await takePlace(id);
    return;
  }
  const answer = await api.call(id).catch(() => null);
  if (answer !== null) store.putCall(viewOf(answer, view, Date.now()));
  else if (refused.code === 'removed') store.putCall(withoutMe(view));
  await finish(id, null);
}

function withoutMe(view: CallView): CallView {
  const mine = view.participants.get(me());
  if (mine === undefined) return view;
  const participants = new Map(view.participants).set(me(), { ...mine, connectionState: 'removed' });
  return { ...view, participants };
}

/** After the line was gone: our place is still ours, or is taken again. */
export async function holdPlace(view: CallView): Promise<void> {
  const mine = view.participants.get(me());
  if (mine !== undefined && isIn(mine) && staged()) return;
  await takePlace(view.call.id);
}

async function takePlace(id: string): Promise<void> {
  try {
    await enterByJoin(id);
  } catch (error) {
    store.currentId.value = id;
    await finish(id, null);
    told(error);
  }
}

export async function invite(ids: readonly string[]): Promise<void> {
  const callId = store.currentId.value;
  if (callId === null || ids.length === 0) return;
  const answer = await send('call:invite', { callId, participantIds: [...ids] });
  if (answer.success) store.toast(`Calling ${listed(ids, store.nameOf)}`);
  else store.toast(refusalWords(answer.code, answer.error), 'bad');
  store.picked.value = new Set();
}

export async function remove(userId: string): Promise<void> {
  const callId = store.currentId.value;
  if (callId === null) return;
  const answer = await send('call:remove_participant', { callId, userId });
  if (!answer.success) store.toast(refusalWords(answer.code, answer.error), 'bad');
}

/** Turns a device of somebody else off; only they can turn it on again. */
export async function muteParticipant(userId: string, source: Source): Promise<void> {
  const callId = store.currentId.value;
  if (callId === null) return;
  const answer = await send('call:mute_participant', { callId, userId, source });
  if (!answer.success) store.toast(refusalWords(answer.code, answer.error), 'bad');
}

/** Whether a call that is or was recorded is so now, where its events may have been missed. */
export async function learnRecording(view: CallView): Promise<void> {
  if (!view.call.recordingEnabled || !isLive(view.call.state)) return;
  const all = await api.recordings(view.call.id).catch(() => null);
  const now = store.calls.value.get(view.call.id);
  // An event that came meanwhile knows better.
  if (all === null || now === undefined || now.recording !== view.recording) return;
  const goesOn = all.some((one) => one.status === 'recording');
  if (goesOn !== (now.recording !== null)) store.putCall(withRecording(now, goesOn ? { by: null } : null));
}

/** Starts recording the call, or stops it. */
export async function toggleRecording(): Promise<void> {
  const view = store.current.value;
  if (view === null || store.recordingAsked.value) return;
  store.recordingAsked.value = true;
  try {
    // Everybody in the call, this page too, hears of it by an event.
    await api.setRecording(view.call.id, view.recording === null);
  } catch (error) {
    told(error);
  } finally {
    store.recordingAsked.value = false;
  }
}

export async function toggleMicrophone(): Promise<void> {
  own.switched('audio');
  const on = await media.toggleMicrophone();
  store.say(on ? 'Microphone on' : 'Microphone off');
  await tell('call:toggle_audio', { audioEnabled: on });
}

export async function toggleCamera(): Promise<void> {
  const change = (on: boolean) => tell('call:toggle_video', { videoEnabled: on });
  const on = await media.toggleCamera(announcing(() => change(true)));
  store.say(on ? 'Camera on' : 'Camera off');
  // One that is on was announced before it was shown.
  if (!on) await change(false);
}

export async function toggleScreen(): Promise<void> {
  const change = (on: boolean) => tell('call:toggle_screen_share', { screenShareEnabled: on });
  const before = store.screen.value !== null;
  const on = await media.toggleScreen(
    () => void change(false),
    announcing(() => change(true)),
  );
  if (before === on) return;
  store.say(on ? 'Your screen is shared' : 'Your screen is no longer shared');
  if (!on) await change(false);
}

/**
 * The service is told before anything is sent: in an audio call it is what has the media server take a camera or a
 * screen. False if we are in another call by then, or in none.
 */
function announcing(tellIt: () => Promise<void>): () => Promise<boolean> {
  const callId = store.currentId.value;
  return async () => {
    await tellIt();
    return store.currentId.value === callId;
  };
}

/** The media server did not take it: it is off again, here and for the others. */
function onUnsent(slot: Slot): void {
  const name = { microphone: 'microphone', camera: 'camera', screen: 'screen' }[slot];
  store.toast(`The media server does not take your ${name}. Try turning it on again.`, 'bad');
  switch (slot) {
    case 'microphone':
      media.turnOff('audio');
      void tell('call:toggle_audio', { audioEnabled: false });
      break;
    case 'camera':
      media.turnOff('video');
      void tell('call:toggle_video', { videoEnabled: false });
      break;
    default:
      media.turnOff('screen_share');
      void tell('call:toggle_screen_share', { screenShareEnabled: false });
  }
}

type Toggle = 'call:toggle_audio' | 'call:toggle_video' | 'call:toggle_screen_share';

const SOURCE_OF: Record<Toggle, Source> = {
  'call:toggle_audio': 'audio',
  'call:toggle_video': 'video',
  'call:toggle_screen_share': 'screen_share',
};

/** By the socket; by REST where the socket is away. */
async function tell(event: Toggle, change: Partial<MediaSettings>): Promise<void> {
  const callId = store.currentId.value;
  if (callId === null) return;
  const enabled = Object.values(change)[0] === true;
  own.switched(SOURCE_OF[event]);
  if (connected() && (await send(event, { callId, enabled })).success) return;
  await api.settings(callId, change).catch(told);
}

async function tellSettings(): Promise<void> {
  const callId = store.currentId.value;
  if (callId === null) return;
  await api
    .settings(callId, { audioEnabled: sounds(), videoEnabled: pictures(), screenShareEnabled: false })
    .catch(told);
}

function sounds(): boolean {
  return store.microphone.value !== null && !store.muted.value;
}

function pictures(): boolean {
  return store.camera.value !== null;
}
