import { batch } from '@preact/signals';
import { refusalWords } from '../call/words';
import { idOfName } from '../lib/ids';
import { claimsOf } from '../lib/jwt';
import { browser, tab } from '../lib/keep';
import * as api from './api';
import { actAs } from './calls';
import { onCall, onConnect, onError, onLookedAt, onSync } from './events';
import { recallSeen, refreshHistory } from './history';
import * as media from './media';
import * as socket from './socket';
import { closeStage, relayed } from './stage';
import * as store from './store';

/** How long before its end a token is renewed, milliseconds; a short-lived one at half its life. */
const RENEW_MS = 60_000;
/** The longest wait a timer can hold, milliseconds. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;
/** Milliseconds between looks at who is online. */
const LOOK_MS = 3000;

/** A refusal this soon after a renewal means that the new token is no better, milliseconds. */
const REFUSED_AGAIN_MS = 10_000;

let renewedAt = 0;
let renewing: ReturnType<typeof setTimeout> | undefined;
let looking: ReturnType<typeof setInterval> | undefined;

/** Finds out how one signs in here, and goes on with this tab's session if it has one. */
export async function begin(): Promise<void> {
  media.recallChoice();
  media.watchDevices();
  socket.watchNetwork();
  addEventListener('visibilitychange', () => document.visibilityState === 'visible' && lookedAt());
  recallNames();
  recallRinging();
  setInterval(() => {
    store.now.value = Date.now();
  }, 250);
  await findWayIn();
  const kept = tab.read('session') as store.Session | null;
  if (kept !== null && claimsOf(kept.token) !== null) await enter(kept);
}

/** While nobody looked, nothing was looked for: who is online, and what became of our calls. */
function lookedAt(): void {
  if (store.session.value === null) return;
  void look(true);
  void onLookedAt();
}

/** Whether tokens are given by name here. No answer leaves it open. */
export async function findWayIn(): Promise<void> {
  try {
    seen(await api.usersOnline(true));
    store.byName.value = true;
  } catch (error) {
    store.byName.value = error instanceof api.Refused && error.code !== 'offline' ? false : null;
  }
}

/** Signs in by name. The words of what went wrong, or null. */
export async function signInAs(name: string): Promise<string | null> {
  const userId = idOfName(name);
  if (userId === '') return 'Enter a name with at least one letter or digit.';
  try {
    const token = await api.tokenFor(userId, name.trim());
    browser.write('name', name.trim());
    await enter(sessionOf(token, 'name', name.trim(), userId));
    return null;
  } catch (error) {
    return error instanceof api.Refused
      ? refusalWords(error.code, error.message)
      : 'That did not work. Try again.';
  }
}

/** Signs in with a token from elsewhere. The words of what went wrong, or null. */
export async function signInWith(text: string): Promise<string | null> {
  const token = text.trim().replace(/^Bearer\s+/i, '');
  const claims = claimsOf(token);
  if (claims === null)
    return 'That is not a JWT with a userId (or sub) in it. It has three parts with dots between.';
  if (claims.expiresAt < Date.now()) return 'That token has run out. Ask for a new one.';
  await enter(sessionOf(token, 'token', claims.username, claims.userId));
  return null;
}

function sessionOf(token: string, by: store.Session['by'], username: string, userId: string): store.Session {
  return { token, userId, username, by, expiresAt: claimsOf(token)?.expiresAt ?? Number.POSITIVE_INFINITY };
}

async function enter(session: store.Session): Promise<void> {
  batch(() => {
    store.session.value = session;
    store.line.value = {
      state: 'connecting',
      since: Date.now(),
      nextTry: null,
      transport: null,
      problem: null,
    };
  });
  tab.write('session', session);
  recallSeen(session.userId);
  store.learnName(session.userId, session.username);
  const deviceId = await device();
  actAs(deviceId);
  socket.open(deviceId, {
    onConnect: () => void onConnect(),
    onSync: (sync) => void onSync(sync),
    onCall,
    onError,
    onRelay: (kind, data) => {
      // Of a call that is being started the id is not known yet.
      if (data.callId !== store.currentId.value && store.busy.value !== 'starting') return;
      const payload = kind === 'ice_candidate' ? data.candidate : data[kind];
      relayed(data.callId, { userId: data.fromUserId, kind, payload });
    },
    onUnauthorized: () => void renewOrLeave(),
  });
  renewLater();
  startLooking();
  void refreshHistory();
}

export function signOut(words: string | null = null): void {
  clearTimeout(renewing);
  clearInterval(looking);
  socket.close();
  closeStage();
  media.release();
  tab.write('session', null);
  tab.write('call', null);
  batch(() => {
    store.session.value = null;
    store.calls.value = new Map();
    store.currentId.value = null;
    store.ending.value = null;
    store.history.value = [];
    store.picked.value = new Set();
    store.panel.value = 'none';
  });
  if (words !== null) store.toast(words, 'bad');
}

/** One id for this tab across reloads; a copied tab, which has the same storage, gets its own. */
async function device(): Promise<string> {
  const kept = tab.read('device');
  if (typeof kept === 'string' && (await held(kept))) return kept;
  const fresh = crypto.randomUUID();
  tab.write('device', fresh);
  await held(fresh);
  return fresh;
}

/** Whether no other tab has that id; from then on it is ours. */
function held(id: string): Promise<boolean> {
  if (navigator.locks === undefined) return Promise.resolve(true);
  return new Promise((resolve) => {
    void navigator.locks.request(`call-console.${id}`, { ifAvailable: true }, (lock) => {
      resolve(lock !== null);
      // Held as long as the page lives.
      return lock === null ? undefined : new Promise<void>(() => {});
    });
  });
}

function renewLater(): void {
  clearTimeout(renewing);
  const session = store.session.value;
  if (session === null || !Number.isFinite(session.expiresAt)) return;
  const left = session.expiresAt - Date.now();
  const wait = Math.max(1000, Math.min(left - Math.min(RENEW_MS, left / 2), LONGEST_TIMER_MS));
  renewing = setTimeout(() => void renew(), wait);
}

/** A new token before the old one ends, for REST and for the socket that is open. */
async function renew(): Promise<boolean> {
  const session = store.session.value;
  if (session === null) return false;
  if (session.by === 'token') {
    store.toast('Your token ends within a minute: sign out and in again with a new one.', 'bad');
    return false;
  }
  try {
    const token = await api.tokenFor(session.userId, session.username);
    store.session.value = sessionOf(token, 'name', session.username, session.userId);
    tab.write('session', store.session.value);
    if (socket.connected()) await socket.send('auth:refresh', { token });
    return true;
  } catch {
    return false;
  } finally {
    renewLater();
  }
}

/** The service refused our token: another one, or out. One that is refused too ends the tries. */
async function renewOrLeave(): Promise<void> {
  const again = Date.now() - renewedAt < REFUSED_AGAIN_MS;
  if (!again && store.session.value?.by === 'name' && (await renew())) {
    renewedAt = Date.now();
    socket.tryNow();
  } else {
    signOut('Your sign-in is no longer valid. Sign in again.');
  }
}

function startLooking(): void {
  clearInterval(looking);
  looking = setInterval(() => {
    if (document.visibilityState === 'visible') void look(true);
  }, LOOK_MS);
  void look(true);
}

/** Who is online, where the service tells. */
export async function look(routine: boolean): Promise<void> {
  if (store.byName.value !== true) return;
  const users = await api.usersOnline(routine).catch(() => null);
  if (users !== null) seen(users);
}

function seen(users: Awaited<ReturnType<typeof api.usersOnline>>): void {
  batch(() => {
    store.online.value = users;
    for (const user of users) store.learnName(user.userId, user.username);
  });
  browser.write('names', [...store.names.value].slice(-MOST_NAMES));
}

/** How many names are kept between visits. */
const MOST_NAMES = 200;

/** How long it rings here, as an earlier visit has seen. */
function recallRinging(): void {
  const kept = browser.read('ringing');
  if (typeof kept === 'number' && kept > 0) store.ringSeconds.value = kept;
}

function recallNames(): void {
  const kept = browser.read('names');
  if (!Array.isArray(kept)) return;
  const pairs = kept.filter(
    (one): one is [string, string] => Array.isArray(one) && one.every((part) => typeof part === 'string'),
  );
  store.names.value = new Map(pairs);
}
