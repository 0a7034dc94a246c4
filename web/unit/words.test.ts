import { describe, expect, it } from 'vitest';
import { troubleWords } from '../src/call/devices';
import {
  type Ended,
  endWords,
  lineWords,
  listed,
  recordingLink,
  recordingWords,
  refusalWords,
  talkedFor,
  turnedOffWords,
} from '../src/call/words';
import type { CallState, ConnectionState, EndReason } from '../src/contract';

const NAMES: Record<string, string> = { ada: 'Ada', grace: 'Grace', linus: 'Linus' };
const nameOf = (id: string) => NAMES[id] ?? id;

function ended(
  state: CallState,
  endReason: EndReason,
  grace: ConnectionState,
  endedBy: string | null = null,
): Ended {
  const joinedAt = ['left', 'connected'].includes(grace) ? '2026-11-23T10:00:00.000Z' : null;
  return {
    call: { state, endReason, initiatorId: 'ada', isGroup: false, duration: 125, startedAt: joinedAt },
    participants: [
      { userId: 'ada', connectionState: 'left', joinedAt: '2026-11-23T10:00:00.000Z' },
      { userId: 'grace', connectionState: grace, joinedAt },
    ],
    endedBy,
  };
}

describe('the end of a call in words', () => {
  it.each([
    [ended('ended', 'normal', 'left', 'grace'), 'Call ended', 'Grace hung up.', 'Call ended', 'You hung up.'],
    [ended('ended', 'normal', 'left'), 'Call ended', '', 'Call ended', ''],
    [ended('declined', 'declined', 'declined'), 'Declined', 'Grace declined.', 'Declined', 'You declined.'],
    [
      ended('missed', 'no_answer', 'missed'),
      'No answer',
      'Grace did not answer.',
      'Missed call',
      'Ada called.',
    ],
    [
      ended('busy', 'busy', 'busy'),
      'Busy',
      'Grace is in another call.',
      'Busy',
      'Ada called while you were in another call.',
    ],
    [
      ended('cancelled', 'cancelled', 'missed'),
      'Cancelled',
      'You hung up before an answer.',
      'Missed call',
      'Ada hung up before you answered.',
    ],
    [
      ended('cancelled', 'network_error', 'missed'),
      'Cancelled',
      'Your connection was lost while it rang.',
      'Missed call',
      'Ada lost the connection while it rang.',
    ],
    [
      ended('ended', 'network_error', 'left', 'ada'),
      'Connection lost',
      'Your connection was lost and did not come back in time.',
      'Connection lost',
      "Ada's connection was lost and did not come back in time.",
    ],
  ])('%o', (what, hisTitle, hisDetail, herTitle, herDetail) => {
    expect(endWords(what, 'ada', nameOf)).toMatchObject({
      title: hisTitle,
      detail: hisDetail,
      missed: false,
    });
    expect(endWords(what, 'grace', nameOf)).toMatchObject({ title: herTitle, detail: herDetail });
  });

  it.each([
    ['missed', true],
    ['busy', true],
    ['declined', false],
    ['removed', false],
    ['left', false],
  ] as const)('is missed for one who was %s: %s', (state, missed) => {
    expect(endWords(ended('missed', 'no_answer', state), 'grace', nameOf).missed).toBe(missed);
  });

  it('never is an empty title', () => {
    const states: CallState[] = ['ended', 'failed', 'busy', 'declined', 'missed', 'cancelled'];
    const reasons: EndReason[] = [
      'normal',
      'timeout',
      'declined',
      'busy',
      'failed',
      'cancelled',
      'network_error',
      'no_answer',
    ];
    for (const state of states)
      for (const reason of reasons)
        for (const me of ['ada', 'grace', 'nobody'])
          expect(endWords(ended(state, reason, 'left'), me, nameOf).title).not.toBe('');
  });

  it('says for how long only where anyone talked', () => {
    expect(talkedFor({ duration: 125, startedAt: 'x' })).toBe('2 min 5 s');
    expect(talkedFor({ duration: 0, startedAt: null })).toBe('');
  });
});

it.each([
  [[], 'Nobody'],
  [['ada'], 'Ada'],
  [['ada', 'grace'], 'Ada and Grace'],
  [['ada', 'grace', 'linus'], 'Ada, Grace and Linus'],
  [['ada', 'grace', 'linus', 'x', 'y'], 'Ada, Grace and 3 more'],
])('%j are listed as %s', (ids, words) => {
  expect(listed(ids, nameOf)).toBe(words);
});

it('a refusal is never its code alone', () => {
  expect(refusalWords('call_full', 'x')).toBe('The call is full.');
  expect(refusalWords('invalid_request', 'type: audio or video')).toBe(
    'The service refused: type: audio or video',
  );
});

it('nodes that are apart are told as something that passes', () => {
  expect(refusalWords('cluster_unavailable', 'x')).toMatch(/cannot reach each other\. Try again/);
});

it.each([
  ['online', 'websocket', 'node-2', 'node-2 · websocket'],
  ['online', 'polling', null, 'polling'],
  ['online', null, 'node-2', 'node-2 · online'],
  ['lost', null, 'node-2', 'Reconnecting …'],
  ['connecting', null, null, 'Connecting …'],
] as const)('a line that is %s by %s to %s is told as %s', (state, transport, node, words) => {
  expect(lineWords(state, transport, node)).toBe(words);
});

it('a recording that cannot be had now is told in words', () => {
  expect(refusalWords('recording_unavailable', 'x')).toBe('Recording is not available right now.');
});

it.each([
  ['audio', 'Ada', 'Ada muted you'],
  ['audio', null, 'Your microphone was muted'],
  ['video', 'Ada', 'Ada turned your camera off'],
  ['screen_share', 'Ada', 'Ada stopped your screen from being shared'],
  ['screen_share', null, 'Your screen is no longer shared'],
] as const)('%s turned off by %s: %s', (source, by, words) => {
  expect(turnedOffWords(source, by)).toBe(words);
});

it.each([
  [{ status: 'recording', duration: null, fileSize: null }, 'Going on'],
  [{ status: 'processing', duration: 12, fileSize: null }, 'Being made ready, 12 s'],
  [{ status: 'completed', duration: 125, fileSize: 3_140_000 }, 'Ready, 2 min 5 s, 3.1 MB'],
  [{ status: 'failed', duration: null, fileSize: null }, 'Failed'],
] as const)('a recording %o is told as %s', (recording, words) => {
  expect(recordingWords(recording)).toBe(words);
});

it('a recording is linked to where the web has it, and to nothing else', () => {
  const link = (url: string | null) => recordingLink({ url });
  expect(link('https://files.example/r.mp4')).toBe('https://files.example/r.mp4');
  expect(link('javascript:alert(1)')).toBeNull();
  expect(link('files/r.mp4')).toBeNull();
  expect(link(null)).toBeNull();
});

it('a refused camera says how to allow it, and that the call goes on', () => {
  const { title, detail } = troubleWords({ what: 'camera', why: 'refused' });
  expect(title).toBe('The camera is blocked');
  expect(detail).toMatch(/goes on with your voice/);
  expect(detail).toMatch(/"Allow"/);
});
