import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import * as api from '../app/api';
import { comeBack, startCall } from '../app/calls';
import { markSeen, missedCount, olderHistory } from '../app/history';
import {
  calls,
  currentId,
  history,
  historyCursor,
  historyProblem,
  historyTotal,
  nameOf,
  now,
  opened,
  session,
} from '../app/store';
import {
  endWords,
  listed,
  recordingLink,
  recordingWords,
  standing,
  talkedFor,
  wasMissed,
} from '../call/words';
import { type HistoryCall, isIn, isLive, type QualitySummary, type Recording } from '../contract';
import { durationWords, whenWords } from '../lib/time';
import { Avatar, Dialog } from './bits';
import { Icon, type IconName } from './icons';

export function History() {
  const me = session.value?.userId ?? '';
  const missed = missedCount.value;
  return (
    <section class="history" aria-labelledby="history-head" data-testid="history">
      <div class="section-head">
        <h2 id="history-head">History</h2>
        {missed > 0 ? (
          <button
            type="button"
            class="missed-badge"
            data-testid="missed-badge"
            data-count={missed}
            onClick={markSeen}
          >
            {missed} missed
          </button>
        ) : (
          <span class="count">{historyTotal.value}</span>
        )}
      </div>
      {historyProblem.value !== null && (
        <p class="empty" role="status">
          {historyProblem.value}
        </p>
      )}
      {history.value.length === 0 && historyProblem.value === null && (
        <p class="empty">Calls will be listed here.</p>
      )}
      <ul class="list" data-testid="history-list">
        {history.value.map((call) => (
          <Row key={call.id} call={call} me={me} />
        ))}
      </ul>
      {historyCursor.value !== null && (
        <button
          type="button"
          class="button quiet wide"
          data-testid="history-older"
          onClick={() => void olderHistory()}
        >
          Older calls
        </button>
      )}
    </section>
  );
}

interface Told {
  icon: IconName;
  tone: string;
  who: string;
  what: string;
}

function toldOf(call: HistoryCall, me: string): Told {
  const ended = { call, participants: call.participants };
  const who = listed(
    call.participants.map((one) => one.userId).filter((id) => id !== me),
    nameOf,
  );
  if (isLive(call.state)) return { icon: 'sound', tone: 'live', who, what: 'Going on now' };
  const { title } = endWords(ended, me, nameOf);
  const talked = talkedFor(call);
  const missed = wasMissed(ended, me);
  const icon = missed ? 'missed' : call.initiatorId === me ? 'outgoing' : 'incoming';
  return {
    icon,
    tone: missed ? 'missed' : 'plain',
    who,
    what: talked === '' ? title : `${title} · ${talked}`,
  };
}

function Row({ call, me }: { call: HistoryCall; me: string }) {
  const told = toldOf(call, me);
  return (
    <li>
      <button
        type="button"
        class={`history-row ${told.tone}`}
        data-testid="history-row"
        data-call={call.id}
        data-state={call.state}
        data-reason={call.endReason}
        data-duration={call.duration}
        onClick={() => {
          opened.value = call.id;
          markSeen();
        }}
      >
        <Icon name={told.icon} size={18} />
        <span class="history-who">
          <span>{told.who}</span>
          <small>{told.what}</small>
        </span>
        <span class="history-when">
          <time dateTime={call.createdAt}>{whenWords(call.createdAt, now.value)}</time>
          <small>{call.type}</small>
        </span>
      </button>
    </li>
  );
}

/** One call of the history, whole. */
export function HistoryDetail() {
  const call = history.value.find((one) => one.id === opened.value);
  const me = session.value?.userId ?? '';
  if (call === undefined) return null;
  const close = () => {
    opened.value = null;
  };
  const words = endWords({ call, participants: call.participants }, me, nameOf);
  const live = isLive(call.state);
  const again = call.participants.map((one) => one.userId).filter((id) => id !== me);
  return (
    <Dialog label={live ? 'Going on now' : words.title} testid="history-detail" onClose={close}>
      <p class="detail-words">{live ? 'This call has not ended.' : words.detail}</p>
      <dl class="facts">
        <Fact name="Began" value={new Date(call.createdAt).toLocaleString('en-GB')} />
        <Fact
          name="Talked for"
          value={call.startedAt === null ? 'never connected' : durationWords(call.duration ?? 0)}
        />
        <Fact name="Kind" value={`${call.type}, ${call.isGroup ? 'group' : 'one to one'}`} />
        <Fact
          name="Ended"
          value={live ? 'not yet' : `${call.state}, ${call.endReason ?? 'no reason given'}`}
        />
        <Fact name="Call id" value={call.id} mono />
      </dl>
      <Participants call={call} />
      <Recordings callId={call.id} />
      <div class="dialog-actions">
        {live && calls.value.has(call.id) && currentId.value === null && (
          <button type="button" class="button accent" onClick={() => act(close, () => comeBack(call.id))}>
            Join
          </button>
        )}
        {!live && currentId.value === null && (
          <>
            <button
              type="button"
              class="button"
              data-testid="detail-audio"
              onClick={() => act(close, () => startCall(again, 'audio'))}
            >
              <Icon name="phone" size={18} /> Call again
            </button>
            <button
              type="button"
              class="button accent"
              data-testid="detail-video"
              onClick={() => act(close, () => startCall(again, 'video'))}
            >
              <Icon name="camera" size={18} /> Video call
            </button>
          </>
        )}
      </div>
    </Dialog>
  );
}

function act(close: () => void, what: () => Promise<void>): void {
  close();
  void what();
}

function Fact({ name, value, mono = false }: { name: string; value: string; mono?: boolean }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd class={mono ? 'mono' : ''}>{value}</dd>
    </div>
  );
}

function Participants({ call }: { call: HistoryCall }) {
  const quality = useSignal<readonly QualitySummary[]>([]);
  useEffect(() => {
    void api.quality(call.id).then(
      (found) => {
        quality.value = found;
      },
      () => {
        // A call without samples is shown without them.
      },
    );
  }, [call.id]);
  return (
    <ul class="list detail-people">
      {call.participants.map((one) => (
        <li key={one.userId} class="person">
          <Avatar id={one.userId} />
          <span class="person-name">
            <span>{nameOf(one.userId)}</span>
            <small>
              {one.joinedAt === null || isIn(one)
                ? standing(one)
                : `In it for ${durationWords(one.duration ?? 0)}`}
            </small>
          </span>
          <small class="detail-quality">
            {qualityWords(quality.value.find((found) => found.userId === one.userId))}
          </small>
        </li>
      ))}
    </ul>
  );
}

function Recordings({ callId }: { callId: string }) {
  const found = useSignal<readonly Recording[]>([]);
  useEffect(() => {
    found.value = [];
    void api.recordings(callId).then(
      (recordings) => {
        found.value = recordings;
      },
      () => {
        // Where calls cannot be recorded there is nothing to show.
      },
    );
  }, [callId]);
  if (found.value.length === 0) return null;
  return (
    <>
      <h3>{found.value.length === 1 ? 'Recording' : 'Recordings'}</h3>
      <ul class="list">
        {found.value.map((one) => (
          <li key={one.id} class="person" data-testid="detail-recording" data-status={one.status}>
            <Icon name="record" />
            <span class="person-name">
              <span>{recordingWords(one)}</span>
              <small>{new Date(one.startedAt).toLocaleString('en-GB')}</small>
            </span>
            <RecordingLink recording={one} />
          </li>
        ))}
      </ul>
    </>
  );
}

function RecordingLink({ recording }: { recording: Recording }) {
  const link = recordingLink(recording);
  if (link === null) return null;
  return (
    <a class="button small" href={link} target="_blank" rel="noreferrer">
      <Icon name="download" size={16} /> Open
    </a>
  );
}

function qualityWords(found: QualitySummary | undefined): string {
  if (found === undefined) return '';
  return [
    `MOS ${found.meanOpinionScore.toFixed(1)}`,
    `${Math.round(found.roundTripTime.average)} ms`,
    `${found.packetLoss.average.toFixed(1)} % lost`,
  ].join(' · ');
}
