import { io, type Socket } from 'socket.io-client';
import type {
  Answer,
  CallEvent,
  CallEvents,
  ClientEventName,
  ClientEvents,
  ErrorEvent,
  Relayed,
  RelayKind,
  SyncEvent,
} from '../contract';
import { record } from './recorder';
import { line, say, session } from './store';

export interface Handlers {
  onConnect(): void;
  onSync(sync: SyncEvent): void;
  onCall(event: CallEvent): void;
  onRelay(kind: RelayKind, relayed: Relayed): void;
  onError(error: ErrorEvent): void;
  /** The service refused the token. */
  onUnauthorized(): void;
}

/** Waits between tries, milliseconds; the last one again and again. */
const WAITS = [300, 1000, 2000, 4000, 5000];
/** How long an ack may take, milliseconds. */
const ACK_MS = 8000;

let socket: Socket | null = null;
let handlers: Handlers | null = null;
let tries = 0;
let timer: ReturnType<typeof setTimeout> | undefined;

/** Connects as the session's user; goes on trying until `close`. */
export function open(deviceId: string, to: Handlers): void {
  close();
  handlers = to;
  const made = io({
    auth: (give) => give({ token: session.value?.token, deviceId }),
    // Tries are ours, so that the page can say when the next one is.
    reconnection: false,
    autoConnect: false,
  });
  socket = made;
  listen(made, to);
  tryNow();
}

export function close(): void {
  clearTimeout(timer);
  socket?.removeAllListeners();
  socket?.offAny();
  socket?.disconnect();
  socket = null;
  handlers = null;
  tries = 0;
}

export function connected(): boolean {
  return socket?.connected === true;
}

/** Tries at once rather than when it is time. */
export function tryNow(): void {
  clearTimeout(timer);
  if (socket === null || socket.connected) return;
  line.value = { ...line.value, nextTry: null };
  socket.connect();
}

/** Sends an event and waits for its ack. */
export async function send<E extends ClientEventName, T = unknown>(
  event: E,
  data: ClientEvents[E],
): Promise<Answer<T>> {
  const settle = record({ channel: 'event', direction: 'out', name: event, data });
  if (socket === null || !socket.connected) {
    settle('not connected', true, undefined);
    return { success: false, error: 'not connected', code: 'internal' };
  }
  try {
    const answer = (await socket.timeout(ACK_MS).emitWithAck(event, data)) as Answer<T>;
    settle(answer.success ? 'ok' : answer.code, !answer.success, answer);
    return answer;
  } catch {
    settle('no ack', true, undefined);
    return { success: false, error: 'no answer', code: 'internal' };
  }
}

/** Sends a relay message, without waiting: its order counts, its answer does not. */
export function relay(kind: RelayKind, callId: string, targetUserId: string, payload: unknown): void {
  const field = kind === 'ice_candidate' ? 'candidate' : kind;
  const data = { callId, targetUserId, [field]: payload };
  record({ channel: 'event', direction: 'out', name: `webrtc:${kind}`, data });
  if (socket?.connected === true) socket.emit(`webrtc:${kind}`, data);
}

const CALL_EVENTS: readonly (keyof CallEvents)[] = [
  'call:ringing',
  'call:accepted',
  'call:declined',
  'call:handled_elsewhere',
  'call:cancelled',
  'call:ended',
  'call:ending_soon',
  'call:participant_joined',
  'call:participant_left',
  'call:participant_updated',
  'call:state_changed',
  'call:quality_changed',
  'call:ice_servers',
  'call:recording_started',
  'call:recording_stopped',
];

function listen(made: Socket, to: Handlers): void {
  made.onAny((name: string, data: unknown) => record({ channel: 'event', direction: 'in', name, data }));
  made.on('connect', () => onConnect(made, to));
  made.on('disconnect', (reason) => lost(reason));
  made.on('connect_error', (error: Error & { data?: { code?: string } }) => onRefused(error, to));
  made.on('call:sync', (sync: SyncEvent) => to.onSync(sync));
  made.on('call:error', (error: ErrorEvent) => to.onError(error));
  made.on('call:incoming', (data: CallEvents['call:incoming'], ack?: (answer: unknown) => void) => {
    // The ack tells the caller that this device rings.
    ack?.({ success: true });
    to.onCall({ event: 'call:incoming', data });
  });
  for (const event of CALL_EVENTS) made.on(event, (data: unknown) => to.onCall({ event, data } as CallEvent));
  for (const kind of ['offer', 'answer', 'ice_candidate'] as const) {
    made.on(`webrtc:${kind}`, (data: Relayed) => to.onRelay(kind, data));
  }
}

function onConnect(made: Socket, to: Handlers): void {
  const back = line.value.state === 'lost';
  tries = 0;
  const transport = () => made.io.engine.transport.name;
  line.value = { state: 'online', since: Date.now(), nextTry: null, transport: transport(), problem: null };
  record({
    channel: 'line',
    direction: 'in',
    name: 'connected',
    data: { sid: made.id, transport: transport() },
  });
  made.io.engine.once('upgrade', () => {
    line.value = { ...line.value, transport: transport() };
    record({ channel: 'line', direction: 'in', name: 'upgraded', data: { transport: transport() } });
  });
  if (back) say('Connected again');
  to.onConnect();
}

function onRefused(error: Error & { data?: { code?: string } }, to: Handlers): void {
  const code = error.data?.code ?? null;
  record({ channel: 'line', direction: 'in', name: 'refused', data: { message: error.message, code } })(
    'refused',
    true,
    undefined,
  );
  if (code === 'unauthorized') {
    to.onUnauthorized();
    return;
  }
  again(code === null ? null : code);
}

function lost(reason: string): void {
  if (socket === null) return;
  record({ channel: 'line', direction: 'in', name: 'lost', data: { reason } })('lost', true, undefined);
  if (line.value.state === 'online') say('Connection to the call service lost', true);
  again(null);
}

function again(problem: string | null): void {
  const wait = WAITS[Math.min(tries, WAITS.length - 1)] ?? 5000;
  tries += 1;
  const since = line.value.state === 'online' || line.value.since === 0 ? Date.now() : line.value.since;
  line.value = { state: 'lost', since, nextTry: Date.now() + wait, transport: null, problem };
  clearTimeout(timer);
  timer = setTimeout(tryNow, wait);
}

/** The network came back: no reason to wait. */
export function watchNetwork(): void {
  addEventListener('online', () => handlers !== null && tryNow());
}
