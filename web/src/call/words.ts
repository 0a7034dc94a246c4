import { type Call, type EndReason, isIn, type Participant, type Recording, type Source } from '../contract';
import { durationWords, sizeWords } from '../lib/time';

/** A call that is over, as one of its people sees it. */
export interface Ended {
  call: Pick<Call, 'state' | 'endReason' | 'initiatorId' | 'isGroup' | 'duration' | 'startedAt'>;
  participants: readonly Pick<Participant, 'userId' | 'connectionState' | 'joinedAt'>[];
  endedBy?: string | null;
}

export interface Words {
  /** What happened, two to five words. */
  title: string;
  /** By whom and why, a sentence, or empty. */
  detail: string;
  /** Whether this was a call that this user never got to answer. */
  missed: boolean;
}

/** A call's end in words, from the side of `me`. */
export function endWords(ended: Ended, me: string, nameOf: (id: string) => string): Words {
  const { call } = ended;
  const mine = call.initiatorId === me;
  const who = mine ? listed(peopleBut(ended, me), nameOf) : nameOf(call.initiatorId);
  const missed = wasMissed(ended, me);
  const say = (title: string, detail: string): Words => ({ title, detail, missed });
  switch (call.state) {
    case 'busy':
      return say(
        'Busy',
        mine ? `${who} is in another call.` : `${who} called while you were in another call.`,
      );
    case 'declined':
      return say('Declined', mine ? `${who} declined.` : 'You declined.');
    case 'missed':
      return mine ? say('No answer', `${who} did not answer.`) : say('Missed call', `${who} called.`);
    case 'cancelled':
      return cancelled(call.endReason, mine, who, say);
    case 'failed':
      return say('Could not connect', failed(call.endReason));
    default:
      return missed
        ? say('Missed call', `${who} called; the others have talked.`)
        : talked(ended, me, nameOf, say);
  }
}

type Say = (title: string, detail: string) => Words;

function cancelled(reason: EndReason | null, mine: boolean, who: string, say: Say): Words {
  if (reason === 'network_error') {
    return mine
      ? say('Cancelled', 'Your connection was lost while it rang.')
      : say('Missed call', `${who} lost the connection while it rang.`);
  }
  return mine
    ? say('Cancelled', 'You hung up before an answer.')
    : say('Missed call', `${who} hung up before you answered.`);
}

function failed(reason: EndReason | null): string {
  return reason === 'timeout'
    ? 'No connection came about in time. A firewall may be in the way.'
    : 'The call broke off before it was connected.';
}

function talked(ended: Ended, me: string, nameOf: (id: string) => string, say: Say): Words {
  const by = ended.endedBy ?? null;
  switch (ended.call.endReason) {
    case 'network_error':
      return say('Connection lost', lostBy(by, me, nameOf));
    case 'timeout':
      return say('Call ended', 'It had reached the longest time a call may take.');
    default:
      return say('Call ended', by === null ? '' : by === me ? 'You hung up.' : `${nameOf(by)} hung up.`);
  }
}

function lostBy(by: string | null, me: string, nameOf: (id: string) => string): string {
  if (by === null) return 'A connection was lost and did not come back in time.';
  return by === me
    ? 'Your connection was lost and did not come back in time.'
    : `${nameOf(by)}'s connection was lost and did not come back in time.`;
}

/** Rung, never in it, and not by the own choice. */
export function wasMissed(ended: Pick<Ended, 'call' | 'participants'>, me: string): boolean {
  const own = ended.participants.find((one) => one.userId === me);
  if (own === undefined || ended.call.initiatorId === me || own.joinedAt !== null) return false;
  return own.connectionState !== 'declined' && own.connectionState !== 'removed';
}

function peopleBut(ended: Ended, me: string): string[] {
  return ended.participants.map((one) => one.userId).filter((id) => id !== me);
}

/** "Ada", "Ada and Grace", "Ada, Grace and 2 more". */
export function listed(ids: readonly string[], nameOf: (id: string) => string): string {
  const names = ids.map(nameOf);
  if (names.length <= 1) return names[0] ?? 'Nobody';
  if (names.length === 2) return `${names[0]} and ${names[1]}`;
  if (names.length === 3) return `${names[0]}, ${names[1]} and ${names[2]}`;
  return `${names[0]}, ${names[1]} and ${names.length - 2} more`;
}

/** "2 min 5 s", or empty for a call nobody talked in. */
export function talkedFor(call: Pick<Call, 'duration' | 'startedAt'>): string {
  return call.startedAt === null || call.duration === null ? '' : durationWords(call.duration);
}

/** What is known of one person who was asked or is in a call. */
export function standing(one: Participant): string {
  if (isIn(one))
    return (
      { connecting: 'Connecting', connected: 'In the call', reconnecting: 'Reconnecting' }[
        one.connectionState as 'connecting'
      ] ?? ''
    );
  switch (one.connectionState) {
    case 'invited':
      return 'Calling';
    case 'ringing':
      return 'Ringing';
    case 'declined':
      return 'Declined';
    case 'missed':
      return 'No answer';
    case 'busy':
      return 'In another call';
    case 'removed':
      return 'Removed';
    default:
      return 'Left';
  }
}

/** What was turned off of ours, and by whom; null where that is not the one who started the call. */
export function turnedOffWords(source: Source, by: string | null): string {
  switch (source) {
    case 'audio':
      return by === null ? 'Your microphone was muted' : `${by} muted you`;
    case 'video':
      return by === null ? 'Your camera was turned off' : `${by} turned your camera off`;
    default:
      return by === null ? 'Your screen is no longer shared' : `${by} stopped your screen from being shared`;
  }
}

/** "Ready, 2 min 5 s, 3.1 MB": a recording, as far as it has come. */
export function recordingWords(recording: Pick<Recording, 'status' | 'duration' | 'fileSize'>): string {
  const state = {
    recording: 'Going on',
    processing: 'Being made ready',
    completed: 'Ready',
    failed: 'Failed',
  }[recording.status];
  const { duration, fileSize } = recording;
  return [
    state,
    ...(duration === null ? [] : [durationWords(duration)]),
    ...(fileSize === null ? [] : [sizeWords(fileSize)]),
  ].join(', ');
}

/** Where a recording may be had; null where there is none, or what is said is no address of the web. */
export function recordingLink(recording: Pick<Recording, 'url'>): string | null {
  return recording.url !== null && /^https?:\/\//i.test(recording.url) ? recording.url : null;
}

/** "node-1 · websocket", "Reconnecting …": the way to the service, and to which of its nodes where it has several. */
export function lineWords(
  state: 'connecting' | 'online' | 'lost',
  transport: string | null,
  node: string | null,
): string {
  switch (state) {
    case 'connecting':
      return 'Connecting …';
    case 'lost':
      return 'Reconnecting …';
    default:
      return [node, transport ?? 'online'].filter((it) => it !== null).join(' · ');
  }
}

/** What to do about a refusal of the service, never its code alone. */
export function refusalWords(code: string, error: string): string {
  const known: Record<string, string> = {
    already_in_call: 'You are in another call. Leave that one first.',
    busy: 'They are in another call.',
    call_full: 'The call is full.',
    call_over: 'That call is over.',
    cluster_unavailable: 'The servers of the service cannot reach each other. Try again in a moment.',
    conflict: 'That is so already, or the call has moved on. Look again.',
    draining: 'This server is being restarted. Try again in a moment.',
    media_unavailable: 'The media server cannot be reached. Try again in a moment.',
    forbidden: 'Only who started the call may do that.',
    no_media_server: 'Calls go from browser to browser here, and cannot be recorded.',
    not_found: 'That call does not exist any more.',
    not_invited: 'You were not asked into that call.',
    offline: 'The call service cannot be reached. Check the network and try again.',
    rate_limited: 'Too many tries at once. Wait a moment and try again.',
    recording_unavailable: 'Recording is not available right now.',
    removed: 'You were removed from that call.',
    storage_full: 'The server has no room left to record calls.',
    too_many_sockets: 'You are signed in on too many devices or tabs. Close one of them.',
    unauthorized: 'Your sign-in is no longer valid. Sign in again.',
  };
  return known[code] ?? `The service refused: ${error}`;
}
