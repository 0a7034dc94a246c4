import { useSignal } from '@preact/signals';
import { startCall } from '../app/calls';
import { missedCount } from '../app/history';
import { signOut } from '../app/session';
import {
  busy,
  byName,
  current,
  currentId,
  history,
  line,
  nameOf,
  names,
  node,
  online,
  panel,
  picked,
  session,
  toast,
} from '../app/store';
import { lineWords } from '../call/words';
import { isAsked, isIn } from '../contract';
import { idOfName } from '../lib/ids';
import { Avatar, IconButton } from './bits';
import { History } from './History';
import { Icon } from './icons';

/** Me, people, history. */
export function Rail() {
  return (
    <nav class="rail" aria-label="People and history" data-testid="rail">
      <Me />
      <People />
      <History />
    </nav>
  );
}

function Me() {
  const own = session.value;
  if (own === null) return null;
  return (
    <header class="me" data-testid="me">
      <Avatar id={own.userId} size={40} />
      <div class="me-text">
        <strong data-testid="me-name">{own.username}</strong>
        <LineState />
      </div>
      <IconButton icon="leave" label="Sign out" testid="sign-out" onClick={() => signOut()} />
    </header>
  );
}

function LineState() {
  const { state, transport } = line.value;
  return (
    <span class={`line line-${state}`} data-testid="line" data-state={state} data-node={node.value}>
      <i aria-hidden="true" /> <span>{lineWords(state, transport, node.value)}</span>
    </span>
  );
}

interface Person {
  id: string;
  online: boolean;
}

/** Those who are online first, then those known from earlier; without a list from the service, those known. */
function peopleOf(me: string): Person[] {
  const here = new Map(online.value.map((user) => [user.userId, user]));
  const met = history.value.flatMap((call) => call.participants.map((one) => one.userId));
  const ids = new Set([...here.keys(), ...names.value.keys(), ...met, ...picked.value]);
  ids.delete(me);
  return [...ids]
    .map((id) => ({ id, online: here.has(id) }))
    .sort((a, b) => Number(b.online) - Number(a.online) || nameOf(a.id).localeCompare(nameOf(b.id)));
}

function People() {
  const me = session.value?.userId ?? '';
  const all = peopleOf(me);
  const here = all.filter((one) => one.online).length;
  return (
    <section class="people" aria-labelledby="people-head">
      <div class="section-head">
        <h2 id="people-head">People</h2>
        {byName.value === true && <span class="count">{here} online</span>}
      </div>
      {all.length === 0 ? (
        <p class="empty" data-testid="people-empty">
          {byName.value === true
            ? 'Nobody else is here yet. Open this page in a second tab and sign in under another name.'
            : 'This service does not tell who is online. Add somebody by user id.'}
        </p>
      ) : (
        <ul class="list" data-testid="people">
          {all.map((one) => (
            <PersonRow key={one.id} person={one} />
          ))}
        </ul>
      )}
      <AddPerson />
      {picked.value.size > 0 && <PickedBar />}
    </section>
  );
}

function PersonRow({ person: { id, online: here } }: { person: Person }) {
  const chosen = picked.value.has(id);
  const one = current.value?.participants.get(id);
  const taken = one !== undefined && (isIn(one) || isAsked(one));
  const inCall = currentId.value !== null;
  const name = nameOf(id);
  const pick = () => {
    const next = new Set(picked.value);
    if (!next.delete(id)) next.add(id);
    picked.value = next;
  };
  return (
    <li class={`person ${here ? '' : 'away'}`} data-testid={`person-${id}`} data-online={here}>
      <label class="pick">
        <input
          type="checkbox"
          checked={chosen}
          disabled={taken}
          onChange={pick}
          data-testid={`pick-${id}`}
          aria-label={`Pick ${name}`}
        />
        <Avatar id={id} online={here} />
        <span class="person-name">
          <span>{name}</span>
          <small>{personWords(taken, here)}</small>
        </span>
      </label>
      {!inCall && picked.value.size === 0 && (
        <>
          <IconButton
            icon="phone"
            label={`Call ${name}`}
            testid={`call-audio-${id}`}
            disabled={busy.value !== null}
            onClick={() => void startCall([id], 'audio')}
          />
          <IconButton
            icon="camera"
            label={`Video call ${name}`}
            testid={`call-video-${id}`}
            disabled={busy.value !== null}
            onClick={() => void startCall([id], 'video')}
          />
        </>
      )}
    </li>
  );
}

function personWords(taken: boolean, here: boolean): string {
  if (taken) return 'in this call';
  if (byName.value !== true) return 'known from earlier';
  return here ? 'online' : 'away';
}

function AddPerson() {
  const text = useSignal('');
  const add = (event: Event) => {
    event.preventDefault();
    const id = /^[A-Za-z0-9_.:@=-]{1,64}$/.test(text.value.trim()) ? text.value.trim() : idOfName(text.value);
    if (id === '' || id === session.value?.userId) {
      toast(id === '' ? 'Enter a name or a user id.' : 'That is you.', 'bad');
      return;
    }
    picked.value = new Set(picked.value).add(id);
    text.value = '';
  };
  return (
    <form class="add-person" onSubmit={add}>
      <Icon name="plus" size={16} />
      <input
        data-testid="add-person"
        aria-label="Add somebody by name or user id"
        placeholder="Somebody else, by name or user id"
        maxLength={64}
        value={text.value}
        onInput={(event) => {
          text.value = event.currentTarget.value;
        }}
      />
    </form>
  );
}

function PickedBar() {
  const ids = [...picked.value];
  const inCall = currentId.value !== null;
  const words = ids.length === 1 ? nameOf(ids[0] ?? '') : `${ids.length} people`;
  return (
    <div class="picked-bar" data-testid="picked-bar">
      <span>{words}</span>
      <IconButton
        icon="close"
        label="Pick nobody"
        testid="picked-clear"
        onClick={() => {
          picked.value = new Set();
        }}
      />
      {inCall ? (
        <button
          type="button"
          class="button accent"
          data-testid="picked-invite"
          onClick={() => void startCall(ids, 'audio')}
        >
          Invite
        </button>
      ) : (
        <>
          <IconButton
            icon="phone"
            tone="good"
            label={`Call ${words}`}
            testid="picked-audio"
            disabled={busy.value !== null}
            onClick={() => void startCall(ids, 'audio')}
          />
          <IconButton
            icon="camera"
            tone="accent"
            label={`Video call ${words}`}
            testid="picked-video"
            disabled={busy.value !== null}
            onClick={() => void startCall(ids, 'video')}
          />
        </>
      )}
    </div>
  );
}

/** The button that opens the rail on a phone. */
export function RailButton() {
  return (
    <IconButton
      icon="people"
      label="People and history"
      testid="open-rail"
      badge={missedCount.value}
      onClick={() => {
        panel.value = 'rail';
      }}
    />
  );
}
