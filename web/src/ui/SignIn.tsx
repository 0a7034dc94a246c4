import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { findWayIn, signInAs, signInWith } from '../app/session';
import { byName, online } from '../app/store';
import { browser } from '../lib/keep';
import { Avatar } from './bits';
import { Icon } from './icons';

/** How long between looks for a service that did not answer, milliseconds. */
const LOOK_AGAIN_MS = 2000;

export function SignIn() {
  useEffect(() => {
    const timer = setInterval(() => byName.value === null && void findWayIn(), LOOK_AGAIN_MS);
    return () => clearInterval(timer);
  }, []);
  return (
    <main class="sign-in" data-testid="sign-in">
      <div class="sign-in-card">
        <img src="/favicon.svg" width="48" height="48" alt="" />
        <h1>Call console</h1>
        <p class="lead">Make a call between two tabs, and watch what the call service does.</p>
        {byName.value === null && <Waiting />}
        {byName.value === true && <ByName />}
        {byName.value === false && <ByToken />}
      </div>
    </main>
  );
}

function Waiting() {
  return (
    <p class="notice" role="status" data-testid="sign-in-waiting">
      <Icon name="warning" /> Waiting for the call service to answer …
    </p>
  );
}

function ByName() {
  const kept = browser.read('name');
  const taken = online.value.some((user) => user.username === kept);
  // A second tab of this browser is most likely to be somebody else.
  const name = useSignal(typeof kept === 'string' && !taken ? kept : '');
  const problem = useSignal<string | null>(null);
  const waits = useSignal(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    waits.value = true;
    problem.value = await signInAs(name.value);
    waits.value = false;
  };
  return (
    <form onSubmit={submit} noValidate>
      <label for="name">Your name</label>
      <input
        id="name"
        data-testid="sign-in-name"
        autocomplete="nickname"
        maxLength={60}
        placeholder="for example Ada"
        value={name.value}
        aria-describedby={problem.value === null ? undefined : 'sign-in-problem'}
        aria-invalid={problem.value !== null}
        onInput={(event) => {
          name.value = event.currentTarget.value;
        }}
      />
      <Problem text={problem.value} />
      <button class="button accent wide" type="submit" data-testid="sign-in-submit" disabled={waits.value}>
        Sign in
      </button>
      <OnlineNow />
    </form>
  );
}

function OnlineNow() {
  const users = online.value;
  if (users.length === 0)
    return <p class="hint">Open this page in a second tab under another name to have somebody to call.</p>;
  return (
    <div class="online-now">
      <span class="faces">
        {users.slice(0, 5).map((user) => (
          <Avatar key={user.userId} id={user.userId} size={28} />
        ))}
      </span>
      <span>{users.length === 1 ? '1 person is online' : `${users.length} people are online`}</span>
    </div>
  );
}

function ByToken() {
  const text = useSignal('');
  const problem = useSignal<string | null>(null);
  const submit = async (event: Event) => {
    event.preventDefault();
    problem.value = await signInWith(text.value);
  };
  return (
    <form onSubmit={submit} noValidate>
      <label for="token">Token (JWT)</label>
      <textarea
        id="token"
        data-testid="sign-in-token"
        rows={5}
        spellcheck={false}
        autocomplete="off"
        placeholder="eyJhbGciOi…"
        value={text.value}
        aria-describedby={problem.value === null ? 'token-hint' : 'sign-in-problem'}
        aria-invalid={problem.value !== null}
        onInput={(event) => {
          text.value = event.currentTarget.value;
        }}
      />
      <p class="hint" id="token-hint">
        This service runs in production: it gives no tokens by name. Paste one that your messenger's backend
        has signed. It stays in this tab.
      </p>
      <Problem text={problem.value} />
      <button class="button accent wide" type="submit" data-testid="sign-in-submit">
        Sign in
      </button>
    </form>
  );
}

function Problem({ text }: { text: string | null }) {
  return (
    <p class="problem" id="sign-in-problem" role="alert" data-testid="sign-in-problem" hidden={text === null}>
      {text}
    </p>
  );
}
