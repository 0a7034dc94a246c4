import { comeBack, startCall } from '../app/calls';
import { dropTrouble } from '../app/media';
import { tryNow } from '../app/socket';
import { retryMedia } from '../app/stage';
import {
  busy,
  calls,
  current,
  currentId,
  ending,
  inspecting,
  line,
  nameOf,
  now,
  panel,
  room,
  session,
  silenced,
  troubles,
} from '../app/store';
import { troubleWords } from '../call/devices';
import { others } from '../call/model';
import { roomWords } from '../call/room';
import { listed } from '../call/words';
import { isAsked, isIn, isLive } from '../contract';
import { clock } from '../lib/time';
import { Avatar, IconButton } from './bits';
import { ControlBar } from './ControlBar';
import { Idle } from './Idle';
import { Icon } from './icons';
import { Outgoing } from './Outgoing';
import { RailButton } from './Rail';
import { resumeSound } from './Sound';
import { Tiles } from './Tiles';

/** The middle of the page: the call, or what one may do instead. */
export function Stage() {
  return (
    <main class="stage" data-testid="stage" data-phase={phaseOf()} data-line={line.value.state}>
      <Head />
      <Notices />
      <Body />
      {current.value !== null && <ControlBar />}
    </main>
  );
}

type Phase = 'idle' | 'starting' | 'ringing' | 'alone' | 'talking' | 'over';

/** What the stage shows. */
export function phaseOf(): Phase {
  const view = current.value;
  const me = session.value?.userId ?? '';
  if (view === null) return busy.value === 'starting' ? 'starting' : ending.value !== null ? 'over' : 'idle';
  if (others(view, me).length > 0) return 'talking';
  return [...view.participants.values()].some((one) => one.userId !== me && isAsked(one))
    ? 'ringing'
    : 'alone';
}

function Body() {
  switch (phaseOf()) {
    case 'starting':
      return (
        <p class="stage-words" role="status">
          Getting camera and microphone …
        </p>
      );
    case 'ringing':
      return <Outgoing />;
    case 'talking':
    case 'alone':
      return <Tiles />;
    case 'over':
      return <Over />;
    default:
      return <Idle />;
  }
}

function Head() {
  const view = current.value;
  const me = session.value?.userId ?? '';
  return (
    <header class="stage-head">
      <span class="only-phone">
        <RailButton />
      </span>
      <div class="stage-title" data-testid="stage-title">
        {view === null ? (
          <h1>Call console</h1>
        ) : (
          <h1>
            {listed(
              others(view, me)
                .map((one) => one.userId)
                .concat(askedOf(me)),
              nameOf,
            )}
          </h1>
        )}
        {view !== null && (
          <span class="stage-facts">
            <CallClock />
            <RecordingBadge />
          </span>
        )}
      </div>
      <IconButton
        icon="inspect"
        label="Inspector"
        testid="toggle-inspector"
        expanded={inspecting.value}
        onClick={() => {
          inspecting.value = !inspecting.value;
        }}
      />
    </header>
  );
}

function askedOf(me: string): string[] {
  const all = [...(current.value?.participants.values() ?? [])];
  return all.filter((one) => one.userId !== me && isAsked(one)).map((one) => one.userId);
}

function CallClock() {
  const view = current.value;
  if (view === null) return null;
  const { state, startedAt, type } = view.call;
  const words = {
    ringing: 'Ringing',
    connecting: 'Connecting',
    reconnecting: 'Reconnecting',
    connected: 'Connected',
  }[state as 'ringing'];
  const ran = startedAt === null ? null : clock((now.value - Date.parse(startedAt)) / 1000);
  return (
    <span class={`call-state state-${state}`} data-testid="call-state" data-state={state}>
      <i aria-hidden="true" />
      {words ?? state}
      {ran !== null && <time data-testid="call-clock">{ran}</time>}
      <small>{type}</small>
    </span>
  );
}

/** For everybody in the call, from the first moment to the last. */
function RecordingBadge() {
  const recording = current.value?.recording ?? null;
  if (recording === null) return null;
  const by = recording.by === null ? undefined : `Started by ${nameOf(recording.by)}`;
  return (
    <span class="recording-badge" data-testid="recording-badge" data-tip={by}>
      <i aria-hidden="true" />
      Recording
    </span>
  );
}

/** Trouble, in words, with what to do. */
function Notices() {
  return (
    <div class="notices" aria-live="polite">
      {line.value.state === 'lost' && <LineLost />}
      <RoomTrouble />
      {silenced.value && (
        <div class="notice" data-testid="notice-silenced">
          <Icon name="sound" />
          <span>The browser holds back the sound until you click.</span>
          <button type="button" class="button small" onClick={resumeSound}>
            Turn sound on
          </button>
        </div>
      )}
      {troubles.value.map((trouble) => {
        const words = troubleWords(trouble);
        return (
          <div
            class="notice"
            key={trouble.what}
            data-testid={`notice-${trouble.what}`}
            data-why={trouble.why}
          >
            <Icon name={trouble.what === 'camera' ? 'cameraOff' : 'microphoneOff'} />
            <span>
              <strong>{words.title}.</strong> {words.detail}
            </span>
            <IconButton
              icon="close"
              label="Dismiss"
              testid={`dismiss-${trouble.what}`}
              onClick={() => dropTrouble(trouble.what)}
            />
          </div>
        );
      })}
    </div>
  );
}

/** The words are said by the live region once; what counts down here is for the eye. */
function RoomTrouble() {
  if (room.value?.state !== 'trouble') return null;
  const { why, nextTry } = room.value.trouble;
  const { title, detail } = roomWords(why);
  const next =
    nextTry === null
      ? 'Trying now.'
      : `Next try in ${Math.max(0, Math.ceil((nextTry - now.value) / 1000))} s.`;
  return (
    <div class="notice bad" data-testid="notice-media" data-why={why}>
      <Icon name="warning" />
      <span aria-hidden="true">
        <strong>{title}.</strong> {detail} {next}
      </span>
      <button type="button" class="button small" data-testid="retry-media" onClick={retryMedia}>
        Try again now
      </button>
    </div>
  );
}

function LineLost() {
  const { since, nextTry, problem } = line.value;
  const lost = clock((now.value - since) / 1000);
  const next =
    nextTry === null ? 'trying now' : `next try in ${Math.max(0, Math.ceil((nextTry - now.value) / 1000))} s`;
  const many = problem === 'too_many_sockets';
  return (
    <div class="notice bad" data-testid="notice-line">
      <Icon name="warning" />
      <span aria-hidden="true">
        <strong>{many ? 'Too many tabs or devices' : 'No connection to the call service'}</strong>{' '}
        {many ? 'are signed in as you; close one.' : `for ${lost};`} {next}.
        {currentId.value !== null && ' Sound and picture go on as long as they can.'}
      </span>
      <span class="only-reader">No connection to the call service. It is tried again by itself.</span>
      <button type="button" class="button small" data-testid="try-now" onClick={tryNow}>
        Try now
      </button>
    </div>
  );
}

function Over() {
  const ended = ending.value;
  if (ended === null) return null;
  const live = calls.value.get(ended.callId);
  const still =
    live !== undefined &&
    isLive(live.call.state) &&
    live.participants.get(session.value?.userId ?? '')?.connectionState !== 'removed';
  return (
    <section class="over" data-testid="over" aria-labelledby="over-head">
      <span class="faces">
        {ended.again.slice(0, 4).map((id) => (
          <Avatar key={id} id={id} size={64} />
        ))}
      </span>
      <h2 id="over-head" data-testid="over-title">
        {ended.words.title}
      </h2>
      <p data-testid="over-detail">{ended.words.detail}</p>
      {ended.talked !== '' && (
        <p class="over-talked" data-testid="over-talked">
          You talked for {ended.talked}.
        </p>
      )}
      <div class="over-actions">
        {still ? (
          <button
            type="button"
            class="button accent"
            data-testid="rejoin"
            onClick={() => void comeBack(ended.callId)}
          >
            {ended.taken === true ? 'Come back' : 'Join again'}
          </button>
        ) : (
          <button
            type="button"
            class="button accent"
            data-testid="call-again"
            onClick={() => void startCall(ended.again, ended.type)}
          >
            <Icon name={ended.type === 'video' ? 'camera' : 'phone'} size={18} /> Call again
          </button>
        )}
        <button
          type="button"
          class="button"
          data-testid="over-close"
          onClick={() => {
            ending.value = null;
          }}
        >
          Close
        </button>
      </div>
    </section>
  );
}

/** Calls of mine that go on without this tab. */
export function LiveCalls() {
  const me = session.value?.userId ?? '';
  const live = [...calls.value.values()].filter(
    (view) =>
      view.invitation === null &&
      isLive(view.call.state) &&
      view.call.id !== currentId.value &&
      !gone(view.participants.get(me)?.connectionState),
  );
  if (live.length === 0) return null;
  return (
    <ul class="live-calls" data-testid="live-calls">
      {live.map((view) => {
        const own = view.participants.get(me);
        const elsewhere = own !== undefined && isIn(own);
        return (
          <li key={view.call.id}>
            <Icon name="sound" />
            <span>
              <strong>
                {listed(
                  [...view.participants.keys()].filter((id) => id !== me),
                  nameOf,
                )}
              </strong>
              <small>
                {elsewhere
                  ? 'You are in this call on another device or tab.'
                  : 'This call goes on; you may join.'}
              </small>
            </span>
            <button
              type="button"
              class="button accent small"
              data-testid={`come-back-${view.call.id}`}
              onClick={() => void comeBack(view.call.id)}
            >
              {elsewhere ? 'Continue here' : 'Join'}
            </button>
          </li>
        );
      })}
    </ul>
  );
}

function gone(state: string | undefined): boolean {
  return state === undefined || state === 'removed' || state === 'declined';
}

/** Opens the people and the history on a phone. */
export function openRail(): void {
  panel.value = 'rail';
}
