import { describe, expect, it } from 'vitest';
import { applied, type CallView, others, viewOf, viewOfInvitation } from '../src/call/model';
import type { Call, CallEvent, Participant } from '../src/contract';

const AT = '2026-11-23T10:00:00.000Z';
const LATER = '2026-11-23T10:01:30.000Z';
const CALL = '0193-call';

function callOf(change: Partial<Call> = {}): Call {
  return {
    id: CALL,
    roomId: 'room_1',
    type: 'video',
    state: 'ringing',
    initiatorId: 'ada',
    chatId: null,
    isGroup: false,
    maxParticipants: 8,
    startedAt: null,
    endedAt: null,
    duration: null,
    endReason: null,
    recordingEnabled: false,
    recordingUrl: null,
    createdAt: AT,
    updatedAt: AT,
    epoch: 1,
    seq: 5,
    ...change,
  };
}

function one(userId: string, change: Partial<Participant> = {}): Participant {
  return {
    id: `p-${userId}`,
    callId: CALL,
    userId,
    role: userId === 'ada' ? 'initiator' : 'participant',
    joinedAt: null,
    leftAt: null,
    duration: null,
    connectionState: 'invited',
    audioEnabled: true,
    videoEnabled: true,
    screenShareEnabled: false,
    connectionQuality: null,
    ...change,
  };
}

const start = (): CallView =>
  viewOf(
    {
      call: callOf(),
      participants: [one('ada', { connectionState: 'connecting', joinedAt: AT }), one('grace')],
    },
    null,
    0,
  );

let seq = 5;
function told(view: CallView, event: string, data: object = {}, timestamp = LATER): CallView {
  seq += 1;
  return applied(view, { event, data: { callId: CALL, seq, timestamp, ...data } } as CallEvent, seq);
}
const state = (view: CallView, who: string) => view.participants.get(who)?.connectionState;

describe('an event', () => {
  it('rings, joins, connects and ends a call', () => {
    let view = told(start(), 'call:ringing', { userId: 'grace' });
    expect(state(view, 'grace')).toBe('ringing');
    view = told(view, 'call:participant_joined', {
      userId: 'grace',
      participant: one('grace', { connectionState: 'connecting', joinedAt: AT }),
    });
    expect(others(view, 'ada').map((it) => it.userId)).toEqual(['grace']);
    view = told(view, 'call:state_changed', {
      state: 'connected',
      startedAt: AT,
      participants: [
        one('ada', { connectionState: 'connected' }),
        one('grace', { connectionState: 'connected' }),
      ],
    });
    expect(view.call).toMatchObject({ state: 'connected', startedAt: AT });
    expect(state(view, 'ada')).toBe('connected');
    view = told(view, 'call:ended', { userId: 'grace', state: 'ended', reason: 'normal', duration: 90 });
    expect(view.call).toMatchObject({ state: 'ended', endReason: 'normal', duration: 90, endedAt: LATER });
    expect(view.endedBy).toBe('grace');
  });

  it('older than what is known changes nothing', () => {
    const view = start();
    const old = {
      event: 'call:declined',
      data: { callId: CALL, seq: 5, timestamp: AT, userId: 'grace' },
    } as CallEvent;
    expect(applied(view, old, 9)).toBe(view);
  });

  it.each([
    ['call:declined', { userId: 'grace' }, 'declined'],
    ['call:participant_left', { userId: 'grace', reason: 'normal' }, 'left'],
    ['call:participant_left', { userId: 'grace', reason: 'removed' }, 'removed'],
    [
      'call:participant_updated',
      { userId: 'grace', participant: one('grace', { connectionState: 'missed' }) },
      'missed',
    ],
  ])('%s %o makes the person %s', (event, data, expected) => {
    expect(state(told(start(), event, data), 'grace')).toBe(expected);
  });

  it('keeps somebody who comes late', () => {
    const view = told(start(), 'call:participant_joined', { userId: 'linus' });
    expect(view.participants.get('linus')).toMatchObject({ connectionState: 'connecting', joinedAt: LATER });
  });

  it.each([
    ['declined', 'declined'],
    ['busy', 'busy'],
    ['no_answer', 'missed'],
    ['cancelled', 'cancelled'],
    ['timeout', 'failed'],
    ['network_error', 'cancelled'],
  ])('call:ended for %s without a state is %s before anyone talked', (reason, expected) => {
    expect(told(start(), 'call:ended', { reason }).call.state).toBe(expected);
  });

  it('call:ended after talking is ended, its duration from the two times where none is said', () => {
    const view = told(start(), 'call:state_changed', { state: 'connected', startedAt: AT });
    expect(told(view, 'call:ended', { reason: 'timeout' }).call).toMatchObject({
      state: 'ended',
      duration: 90,
    });
  });
});

describe('a recording', () => {
  const recordingId = 'r-1';

  it('goes on from its start to its stop, and is known by who began it', () => {
    let view = told(start(), 'call:recording_started', { userId: 'ada', recordingId });
    expect(view.call.recordingEnabled).toBe(true);
    expect(view.recording).toEqual({ by: 'ada' });
    view = told(view, 'call:recording_stopped', { userId: null, recordingId });
    expect(view.recording).toBeNull();
  });

  it('is still known after a fresh word of the service, unless that knows of none', () => {
    const view = told(start(), 'call:recording_started', { userId: 'ada', recordingId });
    const participants = [...view.participants.values()];
    const again = (recordingEnabled: boolean) =>
      viewOf({ call: callOf({ recordingEnabled, seq: view.call.seq }), participants }, view, 0).recording;
    expect(again(true)).toEqual({ by: 'ada' });
    expect(again(false)).toBeNull();
  });

  it('that is over does not begin again because the call was once recorded', () => {
    let view = told(start(), 'call:recording_started', { userId: 'ada', recordingId });
    view = told(view, 'call:recording_stopped', { userId: 'ada', recordingId });
    const participants = [...view.participants.values()];
    const call = callOf({ recordingEnabled: true, seq: view.call.seq });
    expect(viewOf({ call, participants }, view, 0).recording).toBeNull();
    expect(viewOf({ call, participants }, null, 0).recording).toBeNull();
  });
});

it('fresh servers change nothing but the number of the last event', () => {
  const before = start();
  const after = told(before, 'call:ice_servers', { iceServers: [{ urls: ['turn:turn.example'] }] });
  expect(after).toEqual({ ...before, call: { ...before.call, seq, updatedAt: LATER } });
});

describe('the story', () => {
  it('has each change of a state once', () => {
    let view = told(start(), 'call:ringing', { userId: 'grace' });
    view = told(view, 'call:quality_changed', { userId: 'grace', quality: 'good', previous: null });
    view = told(view, 'call:declined', { userId: 'grace' });
    expect(view.story.map(({ who, state: to }) => `${who ?? 'call'} ${to}`)).toEqual([
      'call ringing',
      'ada connecting',
      'grace invited',
      'grace ringing',
      'grace declined',
    ]);
  });

  it('goes on over a fresh word of the service', () => {
    const view = told(start(), 'call:ringing', { userId: 'grace' });
    const again = viewOf(
      { call: callOf({ state: 'connected', seq: 20 }), participants: [...view.participants.values()] },
      view,
      50,
    );
    expect(again.story.at(-1)).toEqual({ at: 50, who: null, state: 'connected' });
    expect(again.story).toHaveLength(view.story.length + 1);
  });
});

describe('an invitation', () => {
  const invitation = {
    callId: CALL,
    roomId: 'room_1',
    type: 'audio' as const,
    initiatorId: 'ada',
    initiatorName: 'Ada',
    chatId: null,
    isGroup: true,
    participants: ['grace', 'linus'],
    expiresAt: LATER,
  };

  it('is a call that rings, with all of its people', () => {
    const view = viewOfInvitation(invitation, 3, 0);
    expect([...view.participants.keys()].sort()).toEqual(['ada', 'grace', 'linus']);
    expect(view.call).toMatchObject({ state: 'ringing', type: 'audio', isGroup: true, seq: 3 });
    expect(state(view, 'ada')).toBe('connecting');
    expect(view.participants.get('grace')?.videoEnabled).toBe(false);
  });

  it('in a sync is kept', () => {
    const view = viewOf({ call: callOf(), participants: [one('grace')], invitation }, null, 0);
    expect(view.invitation?.expiresAt).toBe(LATER);
  });
});
