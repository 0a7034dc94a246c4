import type { CallView } from '../call/model';
import type { Slot } from '../call/negotiation';
import { OwnSettings } from '../call/own';
import { turnedOffWords } from '../call/words';
import { SOURCES, type Source } from '../contract';
import * as media from './media';
import { connected, send } from './socket';
import { currentId, current, nameOf, room, session, toast } from './store';

/** Our own microphone, camera and screen, as the service has them and as they are here. */

/** Milliseconds until it is looked again while the media server's room is not there to be believed. */
const LOOK_AGAIN_MS = 1000;

const SOURCE_OF: Record<Slot, Source> = { microphone: 'audio', camera: 'video', screen: 'screen_share' };

const own = new OwnSettings();
let timer: ReturnType<typeof setTimeout> | undefined;

/** This page has switched it. */
export function switched(source: Source): void {
  own.changed(source, Date.now());
}

/** What this page sends has begun or ended, and the media server tells the service of it. */
export function sent(slot: Slot): void {
  switched(SOURCE_OF[slot]);
}

/** The media is joined anew: all that is sent begins again. */
export function begun(): void {
  for (const source of SOURCES) switched(source);
}

export function forget(): void {
  clearTimeout(timer);
  own.forget();
}

/** The view of a call has changed; in the call of this tab somebody may have turned off what is ours. */
export function followOwn(before: CallView | null, after: CallView): void {
  const me = session.value?.userId ?? '';
  const [was, is] = [before?.participants.get(me), after.participants.get(me)];
  if (after.call.id !== currentId.value || was === undefined || is === undefined || was === is) return;
  own.heard(was, is, media.sources());
  look();
}

function look(): void {
  clearTimeout(timer);
  const due = own.due();
  if (due === null) return;
  // Without the room the media server takes back what we sent, and the service hears of that.
  const believed = room.value === null || room.value.state === 'up';
  if (believed) settle();
  const next = own.due();
  if (next !== null) {
    const wait = believed ? next - Date.now() : LOOK_AGAIN_MS;
    timer = setTimeout(look, Math.max(wait, 0));
  }
}

function settle(): void {
  const [on, at] = [media.sources(), Date.now()];
  for (const source of own.turnedOff(on, at)) turnOff(source);
  const callId = currentId.value;
  if (callId === null || !connected()) return;
  for (const source of own.wronglyOn(on, at)) void send(`call:toggle_${source}`, { callId, enabled: false });
}

/** The media server has muted a track of ours: it is off here too, and the service says the same by its own way. */
export function silenced(slot: Slot): void {
  turnOff(SOURCE_OF[slot]);
}

function turnOff(source: Source): void {
  if (!media.sources().has(source)) return;
  media.turnOff(source);
  const by = current.value?.call.initiatorId;
  toast(turnedOffWords(source, by === undefined || by === session.value?.userId ? null : nameOf(by)), 'bad');
}
