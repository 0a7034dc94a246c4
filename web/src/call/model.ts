import {
  type Call,
  type CallEvent,
  type CallEvents,
  type Invitation,
  isIn,
  isLive,
  type Participant,
  type SyncCall,
} from '../contract';

/** What this page knows of one call: the service's last word, patched by each event since. */
export interface CallView {
  readonly call: Call;
  readonly participants: ReadonlyMap<string, Participant>;
  /** Only where this user was rung: until when, and by whom. */
  readonly invitation: Invitation | null;
  /** Each change of a state, for the timeline. `who` is null for the call itself. */
  readonly story: readonly Moment[];
  /** Who ended it, where an event said so. */
  readonly endedBy: string | null;
  /** The recording that goes on, as far as this page knows; `by` is null where nobody said who began it. */
  readonly recording: { readonly by: string | null } | null;
}

export interface Moment {
  at: number;
  who: string | null;
  state: string;
}

/** A view from a REST answer or a sync, keeping what `before` knew and those do not say. */
export function viewOf(answer: SyncCall, before: CallView | null, at: number): CallView {
  const participants = new Map(answer.participants.map((one) => [one.userId, one]));
  return told(
    before,
    {
      call: answer.call,
      participants,
      invitation: answer.invitation ?? before?.invitation ?? null,
      story: before?.story ?? [],
      endedBy: before?.endedBy ?? null,
      // That a call is said to be recorded may mean that it once was.
      recording: answer.call.recordingEnabled ? (before?.recording ?? null) : null,
    },
    at,
  );
}

/** A call known from its ring alone. */
export function viewOfInvitation(invitation: Invitation, seq: number, at: number): CallView {
  const ids = invitation.participants.map((one) => (typeof one === 'string' ? one : one.userId));
  const known = invitation.participants.filter((one) => typeof one !== 'string');
  const all = new Set([invitation.initiatorId, ...ids]);
  const participants = new Map([...all].map((id) => [id, blank(invitation.callId, id, invitation)]));
  for (const one of known) participants.set(one.userId, one);
  const now = new Date(at).toISOString();
  const call: Call = {
    id: invitation.callId,
    roomId: invitation.roomId,
    type: invitation.type,
    state: 'ringing',
    initiatorId: invitation.initiatorId,
    chatId: invitation.chatId,
    isGroup: invitation.isGroup,
    maxParticipants: 0,
    startedAt: null,
    endedAt: null,
    duration: null,
    endReason: null,
    recordingEnabled: false,
    recordingUrl: null,
    createdAt: now,
    updatedAt: now,
    epoch: 0,
    seq,
  };
  return told(null, { call, participants, invitation, story: [], endedBy: null, recording: null }, at);
}

function blank(callId: string, userId: string, of: { initiatorId: string; type: Call['type'] }): Participant {
  const initiator = userId === of.initiatorId;
  return {
    id: '',
    callId,
    userId,
    role: initiator ? 'initiator' : 'participant',
    joinedAt: null,
    leftAt: null,
    duration: null,
    connectionState: initiator ? 'connecting' : 'invited',
    audioEnabled: true,
    videoEnabled: of.type === 'video',
    screenShareEnabled: false,
    connectionQuality: null,
  };
}

/** The view after one event. An event older than the view (its `seq`) changes nothing. */
export function applied(view: CallView, { event, data }: CallEvent, at: number): CallView {
  if (data.seq <= view.call.seq) return view;
  const next = { ...view, call: { ...view.call, seq: data.seq, updatedAt: data.timestamp } };
  return told(view, patched(next, { event, data } as CallEvent), at);
}

function patched(view: CallView, { event, data }: CallEvent): CallView {
  switch (event) {
    case 'call:incoming':
      return rungAgain(view, data.invitation);
    case 'call:ringing':
      return person(view, data.userId, (one) =>
        one.connectionState === 'invited' ? { connectionState: 'ringing' } : {},
      );
    case 'call:accepted':
      return view;
    case 'call:declined':
      return person(view, data.userId, () => ({ connectionState: 'declined' }));
    case 'call:participant_joined':
      return person(view, data.userId, (one) => ({
        ...joined(one, data.timestamp),
        ...data.participant,
      }));
    case 'call:participant_left':
      return person(view, data.userId, () => ({
        connectionState: data.reason === 'removed' ? 'removed' : 'left',
        leftAt: data.timestamp,
        screenShareEnabled: false,
      }));
    case 'call:participant_updated':
      return person(view, data.userId, () => data.participant);
    case 'call:quality_changed':
      return person(view, data.userId, () => ({ connectionQuality: data.quality }));
    case 'call:recording_started':
      return { ...withRecording(view, { by: data.userId }), call: { ...view.call, recordingEnabled: true } };
    case 'call:recording_stopped':
      return withRecording(view, null);
    case 'call:state_changed':
      return stateChanged(view, data);
    case 'call:cancelled':
      return over(view, 'cancelled', data.reason ?? 'cancelled', data);
    case 'call:ended':
      return over(view, data.state ?? finalOf(view, data.reason), data.reason, data);
    default:
      return view;
  }
}

/** The view with that recording going on, or none. */
export function withRecording(view: CallView, recording: CallView['recording']): CallView {
  return { ...view, recording };
}

function joined(one: Participant, at: string): Partial<Participant> {
  return { connectionState: 'connecting', joinedAt: one.joinedAt ?? at, leftAt: null };
}

function rungAgain(view: CallView, invitation: Invitation): CallView {
  const fresh = viewOfInvitation(invitation, view.call.seq, Date.now());
  const participants = new Map([...fresh.participants, ...view.participants]);
  return { ...view, invitation, participants, call: { ...view.call, isGroup: invitation.isGroup } };
}

function stateChanged(view: CallView, data: CallEvents['call:state_changed']): CallView {
  const { state } = data;
  const startedAt = data.startedAt ?? view.call.startedAt ?? (state === 'connected' ? data.timestamp : null);
  const participants = new Map(view.participants);
  for (const one of data.participants ?? []) participants.set(one.userId, one);
  return { ...view, participants, call: { ...view.call, state, startedAt } };
}

/** The state a reason of an end belongs to, where the event does not name the state. */
function finalOf(view: CallView, reason: Call['endReason']): Call['state'] {
  if (!isLive(view.call.state)) return view.call.state;
  switch (reason) {
    case 'declined':
      return 'declined';
    case 'busy':
      return 'busy';
    case 'no_answer':
      return 'missed';
    case 'cancelled':
      return 'cancelled';
    case 'failed':
      return 'failed';
    case 'timeout':
      return view.call.startedAt === null ? 'failed' : 'ended';
    default:
      return view.call.startedAt === null && reason === 'network_error' ? 'cancelled' : 'ended';
  }
}

function over(
  view: CallView,
  state: Call['state'],
  endReason: Call['endReason'],
  data: { timestamp: string; userId?: string | null; duration?: number | null },
): CallView {
  const { startedAt } = view.call;
  const ran = startedAt === null ? 0 : (Date.parse(data.timestamp) - Date.parse(startedAt)) / 1000;
  const call = {
    ...view.call,
    state,
    endReason,
    endedAt: data.timestamp,
    duration: data.duration ?? Math.round(ran),
  };
  return { ...view, call, endedBy: data.userId ?? view.endedBy };
}

function person(
  view: CallView,
  userId: string,
  change: (one: Participant) => Partial<Participant>,
): CallView {
  const one = view.participants.get(userId) ?? blank(view.call.id, userId, view.call);
  const participants = new Map(view.participants).set(userId, { ...one, ...change(one) });
  return { ...view, participants };
}

/** `next` with its story told on: each state that differs from `before` is a moment. */
function told(before: CallView | null, next: CallView, at: number): CallView {
  const moments: Moment[] = [];
  if (before?.call.state !== next.call.state) moments.push({ at, who: null, state: next.call.state });
  for (const [who, one] of next.participants) {
    if (before?.participants.get(who)?.connectionState !== one.connectionState) {
      moments.push({ at, who, state: one.connectionState });
    }
  }
  return moments.length === 0 ? next : { ...next, story: [...next.story, ...moments] };
}

/** Those in the call now but `me`, in the order they joined. */
export function others(view: CallView, me: string): Participant[] {
  return [...view.participants.values()]
    .filter((one) => one.userId !== me && isIn(one))
    .sort((a, b) => (a.joinedAt ?? '').localeCompare(b.joinedAt ?? ''));
}
