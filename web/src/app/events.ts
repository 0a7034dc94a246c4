import { applied, type CallView, viewOf, viewOfInvitation } from '../call/model';
import {
  type CallAnswer,
  type CallEvent,
  type ErrorEvent,
  type Invitation,
  isAsked,
  isIn,
  isLive,
  type ResumeAnswer,
  type SyncCall,
  type SyncEvent,
} from '../contract';
import { browser, tab } from '../lib/keep';
import * as api from './api';
import { comeBack, finish, holdPlace, learnRecording } from './calls';
import { earlyEvents } from './early';
import { refreshHistory } from './history';
import { send } from './socket';
import { followOwn } from './own';
import { gone, meetAll, mend, met, serve } from './stage';
import * as store from './store';

/** What the service tells us, and what follows on the page. */

function me(): string {
  return store.session.value?.userId ?? '';
}

/** The line is up: what happened in our call while it was down? Asked before the sync is read, as that moves the call on. */
export async function onConnect(): Promise<void> {
  const view = store.current.value;
  if (view === null) return;
  const answer = await send<'call:resume', ResumeAnswer>('call:resume', {
    callId: view.call.id,
    lastSeq: view.call.seq,
  });
  if (!answer.success || answer.data === undefined) return;
  if (answer.data.mode === 'state') await onState(answer.data);
  else for (const event of answer.data.events) onCall(event);
  mend();
}

async function onState(answer: CallAnswer): Promise<void> {
  const before = store.calls.value.get(answer.call.id) ?? null;
  const after = viewOf(answer, before, Date.now());
  store.putCall(after);
  followOwn(before, after);
  if (!isLive(answer.call.state)) await finish(answer.call.id, null);
  else if (store.currentId.value === answer.call.id) {
    meetAll(false);
    void learnRecording(after);
  }
}

/** Every live call of ours, on each connect: nothing that was missed while away stays unknown. */
export async function onSync(sync: SyncEvent): Promise<void> {
  learnSettings(sync);
  for (const answer of sync.calls) takeCall(answer);
  const live = new Set(sync.calls.map((one) => one.call.id));
  for (const [id, view] of store.calls.value) {
    if (!live.has(id) && isLive(view.call.state)) await goneMeanwhile(id);
  }
  void refreshHistory();
  if (store.current.value === null) await goOnAfterReload();
  else await goOn(store.current.value);
}

function learnSettings(sync: SyncEvent): void {
  // Another one after each connect, maybe.
  store.node.value = sync.node ?? null;
  store.skew.value = Date.parse(sync.timestamp) - Date.now();
  if (sync.qualityCheckInterval !== undefined) store.qualityInterval.value = sync.qualityCheckInterval;
  if (sync.ringingTimeout !== undefined) learnRinging(sync.ringingTimeout / 1000);
}

function takeCall(answer: SyncCall): void {
  const before = store.calls.value.get(answer.call.id) ?? null;
  if (before === null || answer.call.seq >= before.call.seq) {
    const after = viewOf(answer, before, Date.now());
    store.putCall(after);
    followOwn(before, after);
  }
  if (answer.invitation !== undefined) rungMeanwhile(answer.invitation);
}

async function goOn(mine: CallView): Promise<void> {
  void learnRecording(mine);
  await holdPlace(mine);
  meetAll(false);
  mend();
}

/** A reload in the middle of a call: go on where this tab was. */
async function goOnAfterReload(): Promise<void> {
  const was = tab.read('call');
  if (typeof was !== 'string') return;
  const own = store.calls.value.get(was)?.participants.get(me());
  if (own !== undefined && isIn(own)) await comeBack(was);
}

/** Rung before this device was there. */
function rungMeanwhile(invitation: Invitation): void {
  store.learnName(invitation.initiatorId, invitation.initiatorName);
  void send('call:ringing', { callId: invitation.callId });
  callsYou(invitation);
}

function callsYou(invitation: Invitation): void {
  const kind = invitation.type === 'video' ? 'video call' : 'audio call';
  store.say(`Incoming ${kind} from ${store.nameOf(invitation.initiatorId)}`, true);
}

async function goneMeanwhile(id: string): Promise<void> {
  if (store.currentId.value === id) await finish(id, null);
  store.dropCall(id);
}

/**
 * The page is looked at again, perhaps after the machine has slept with a line that only seems to be up: are
 * our calls what the page shows?
 */
export async function onLookedAt(): Promise<void> {
  if (store.session.value === null) return;
  const active = await api.active().catch(() => null);
  if (active === null) return;
  for (const { participants, initiator: _, ...call } of active) takeCall({ call, participants });
  const live = new Set(active.map((call) => call.id));
  for (const id of [...store.calls.value.keys()]) if (!live.has(id)) await goneMeanwhile(id);
}

export function onError(error: ErrorEvent): void {
  store.toast(`The service could not do that: ${error.error}`, 'bad');
}

/** One event of a call. */
export function onCall(event: CallEvent): void {
  const { callId, seq } = event.data;
  const before = store.calls.value.get(callId) ?? null;
  if (event.event === 'call:incoming') {
    onIncoming(event.data);
    return;
  }
  if (event.event === 'call:handled_elsewhere') {
    elsewhere(callId, 'Answered on another device');
    return;
  }
  if (before === null) {
    earlyEvents.keep(callId, event);
    return;
  }
  const fresh = seq > before.call.seq;
  const after = applied(before, event, Date.now());
  if (fresh) {
    store.putCall(after);
    followOwn(before, after);
  }
  if (after.call.id === store.currentId.value) follow(event);
  else asides(event);
}

function onIncoming(data: Extract<CallEvent, { event: 'call:incoming' }>['data']): void {
  const { invitation } = data;
  store.learnName(invitation.initiatorId, invitation.initiatorName);
  learnRinging((Date.parse(invitation.expiresAt) - Date.parse(data.timestamp)) / 1000);
  const before = store.calls.value.get(data.callId) ?? null;
  if (data.callId === store.currentId.value) return;
  const seq = Math.max(data.seq, before?.call.seq ?? 0);
  const view = viewOfInvitation(invitation, seq, Date.now());
  store.putCall(before === null ? view : { ...view, story: before.story });
  callsYou(invitation);
}

/** A caller is not told until when it rings: what we were told when we were called holds for all. */
function learnRinging(seconds: number): void {
  if (!Number.isFinite(seconds) || seconds <= 0) return;
  store.ringSeconds.value = Math.round(seconds);
  browser.write('ringing', store.ringSeconds.value);
}

function elsewhere(callId: string, words: string): void {
  // While this device joins, or calls the one who calls it, the answer may well be its own.
  if (callId === store.currentId.value || store.busy.value !== null) return;
  const view = store.calls.value.get(callId);
  if (view?.invitation == null) return;
  store.putCall({ ...view, invitation: null });
  store.toast(words);
  void refresh(callId);
}

/** The service's own word on a call that this tab only looks at. */
async function refresh(callId: string): Promise<void> {
  const answer = await api.call(callId).catch(() => null);
  if (answer === null || !isLive(answer.call.state)) {
    if (callId !== store.currentId.value) store.dropCall(callId);
  } else {
    const before = store.calls.value.get(callId) ?? null;
    if (answer.call.seq >= (before?.call.seq ?? 0)) store.putCall(viewOf(answer, before, Date.now()));
  }
}

/** An event of a call that this tab is not in: it rings here, or another device has it. */
function asides(event: CallEvent): void {
  const { callId } = event.data;
  switch (event.event) {
    case 'call:accepted':
      if (event.data.userId === me()) elsewhere(callId, 'Answered on another device');
      break;
    case 'call:declined':
      if (event.data.userId === me()) elsewhere(callId, 'Declined on another device');
      break;
    case 'call:participant_updated':
      if (event.data.userId === me() && event.data.participant.connectionState === 'missed') missed(callId);
      break;
    case 'call:cancelled':
    case 'call:ended':
      missed(callId);
      store.dropCall(callId);
      break;
    default:
  }
}

function missed(callId: string): void {
  const view = store.calls.value.get(callId);
  const own = view?.participants.get(me());
  if (view?.invitation != null && own !== undefined && (isAsked(own) || own.connectionState === 'missed')) {
    store.toast(`Missed call from ${store.nameOf(view.call.initiatorId)}`);
    store.putCall({ ...view, invitation: null });
  }
  void refreshHistory();
}

/** An event of the call that this tab is in. */
function follow(event: CallEvent): void {
  const name = 'userId' in event.data && event.data.userId != null ? store.nameOf(event.data.userId) : '';
  switch (event.event) {
    case 'call:participant_joined':
      if (event.data.userId === me()) break;
      met(event.data.userId);
      store.say(`${name} joined`);
      break;
    case 'call:participant_left':
      left(event.data.userId, event.data.reason ?? null);
      break;
    case 'call:participant_updated':
      updated(event.data.participant);
      break;
    case 'call:declined':
      store.toast(`${name} declined`);
      break;
    case 'call:ending_soon':
      store.toast('This call ends in a minute: it has reached its longest time.', 'bad');
      break;
    case 'call:state_changed':
      if (event.data.state === 'connected') store.say('Connected');
      break;
    case 'call:ice_servers':
      serve(event.data.iceServers);
      break;
    case 'call:recording_started':
      store.toast(`Recording started by ${name}`);
      break;
    case 'call:recording_stopped':
      store.toast('Recording stopped');
      break;
    case 'call:ended':
      void finish(event.data.callId, event.data.userId ?? null);
      break;
    default:
  }
}

function left(userId: string, reason: string | null): void {
  const callId = store.currentId.value;
  if (userId !== me()) {
    gone(userId);
    store.toast(`${store.nameOf(userId)} ${reason === 'removed' ? 'was removed' : 'left'}`);
    return;
  }
  if (callId !== null && store.busy.value !== 'leaving') void finish(callId, null);
}

function updated(one: { userId: string; connectionState: string }): void {
  if (one.userId === me()) return;
  const name = store.nameOf(one.userId);
  if (one.connectionState === 'missed') store.toast(`${name} did not answer`);
  if (one.connectionState === 'reconnecting') store.say(`${name} has lost the connection`);
}
