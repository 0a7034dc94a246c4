import type {
  ActiveAnswer,
  Answer,
  CallAnswer,
  EndReason,
  HistoryAnswer,
  JoinAnswer,
  JoinBody,
  MediaSettings,
  OnlineUser,
  QualityAnswer,
  QualitySummary,
  Recording,
  RecordingAnswer,
  RecordingsAnswer,
  StartAnswer,
  StartBody,
  TokenAnswer,
} from '../contract';
import { record } from './recorder';
import { session } from './store';

/** How long an answer may take, milliseconds. */
const TIMEOUT_MS = 15_000;

/** A refusal of the service, or none of its answers at all (`code` is then `offline`). */
export class Refused extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly status: number,
    readonly data: unknown,
  ) {
    super(message);
  }
}

interface Ask {
  method: 'GET' | 'POST' | 'PATCH';
  path: string;
  body?: unknown;
  headers?: Record<string, string>;
  routine?: boolean;
  /** Without the bearer token. */
  open?: boolean;
}

async function ask<T>(wish: Ask): Promise<{ status: number; data: T }> {
  const { response, body } = await fetched(wish);
  const answer = body as Answer<T> | null;
  if (answer?.success === true) return { status: response.status, data: answer.data };
  const code = answer?.code ?? (response.status === 404 ? 'not_found' : 'internal');
  throw new Refused(code, answer?.error ?? response.statusText, response.status, answer?.data);
}

async function fetched({
  method,
  path,
  body,
  headers,
  routine,
  open,
}: Ask): Promise<{ response: Response; body: unknown }> {
  const settle = record({
    channel: 'rest',
    direction: 'out',
    name: `${method} ${path}`,
    data: body,
    path,
    routine: routine ?? false,
  });
  const token = session.value?.token;
  try {
    const response = await fetch(path, {
      method,
      headers: {
        ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
        ...(open === true || token === undefined ? {} : { Authorization: `Bearer ${token}` }),
        ...headers,
      },
      signal: AbortSignal.timeout(TIMEOUT_MS),
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const parsed: unknown = await response.json().catch(() => null);
    settle(String(response.status), !response.ok, parsed);
    return { response, body: parsed };
  } catch (error) {
    settle('no answer', true, { error: String(error) });
    throw new Refused('offline', 'no answer', 0, null);
  }
}

const CALLS = '/api/v1/calls';

/** A token by name; `not_found` where the service gives none that way. */
export async function tokenFor(userId: string, username: string): Promise<string> {
  const answer = await ask<{ token: string }>({
    method: 'POST',
    path: '/dev/token',
    body: { userId, username },
    open: true,
  });
  return answer.data.token;
}

export async function usersOnline(routine: boolean): Promise<OnlineUser[]> {
  return (await ask<{ users: OnlineUser[] }>({ method: 'GET', path: '/dev/users', routine, open: true })).data
    .users;
}

/** Status 201 is a new call, 200 one that was there (the same key, or both called each other). */
export function start(
  body: StartBody,
  key: string,
  deviceId: string,
): Promise<{ status: number; data: StartAnswer }> {
  const headers = { 'Idempotency-Key': key, 'X-Device-Id': deviceId };
  return ask({ method: 'POST', path: `${CALLS}/start`, body, headers });
}

export async function join(id: string, body: JoinBody, deviceId: string): Promise<JoinAnswer> {
  const headers = { 'X-Device-Id': deviceId };
  return (await ask<JoinAnswer>({ method: 'POST', path: `${CALLS}/${id}/join`, body, headers })).data;
}

export async function end(id: string, reason: EndReason): Promise<void> {
  await ask({ method: 'POST', path: `${CALLS}/${id}/end`, body: { reason } });
}

export async function token(id: string): Promise<TokenAnswer> {
  return (await ask<TokenAnswer>({ method: 'POST', path: `${CALLS}/${id}/token` })).data;
}

export async function call(id: string): Promise<CallAnswer> {
  return (await ask<CallAnswer>({ method: 'GET', path: `${CALLS}/${id}` })).data;
}

export async function history(cursor: string | null, limit: number): Promise<HistoryAnswer> {
  const query = new URLSearchParams({ limit: String(limit), ...(cursor === null ? {} : { cursor }) });
  return (await ask<HistoryAnswer>({ method: 'GET', path: `${CALLS}/history?${query}` })).data;
}

export async function active(): Promise<ActiveAnswer['calls']> {
  return (await ask<ActiveAnswer>({ method: 'GET', path: `${CALLS}/active` })).data.calls;
}

export async function settings(id: string, change: Partial<MediaSettings>): Promise<void> {
  await ask({ method: 'PATCH', path: `${CALLS}/${id}/participant`, body: change });
}

/** Starts or stops recording the call. */
export async function setRecording(id: string, on: boolean): Promise<Recording> {
  const path = `${CALLS}/${id}/recording/${on ? 'start' : 'stop'}`;
  return (await ask<RecordingAnswer>({ method: 'POST', path })).data.recording;
}

export async function recordings(id: string): Promise<Recording[]> {
  return (await ask<RecordingsAnswer>({ method: 'GET', path: `${CALLS}/${id}/recordings` })).data.recordings;
}

export async function quality(id: string): Promise<QualitySummary[]> {
  const { data } = await ask<QualityAnswer | QualitySummary[]>({
    method: 'GET',
    path: `${CALLS}/${id}/quality`,
  });
  return Array.isArray(data) ? data : (data.participants ?? []);
}
