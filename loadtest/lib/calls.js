// REST, as a client uses it: each answer is checked, and what was not to be expected fails the run.
import { check } from 'k6';
import http from 'k6/http';
import { BASE } from './users.js';

const params = (person, name) => ({
  headers: { authorization: `Bearer ${person.token}`, 'content-type': 'application/json' },
  // One line in the figures for all calls.
  tags: { name },
});

function data(answer, what, status) {
  const fine = check(answer, { [`${what}: ${status}`]: (it) => it.status === status });
  return fine ? JSON.parse(answer.body).data : undefined;
}

const url = (path) => `${BASE}/api/v1/calls${path}`;
const wish = (others) => JSON.stringify({ type: 'audio', participantIds: others.map((it) => it.id) });

/** Starts a call and waits for the answer: `{call, token, iceServers}`. */
export const start = (person, others) =>
  data(http.post(url('/start'), wish(others), params(person, 'start')), 'start', 201);

/** The same, while this user's sockets go on. */
export const startMeanwhile = async (person, others) =>
  data(await http.asyncRequest('POST', url('/start'), wish(others), params(person, 'start')), 'start', 201);

export const join = (person, { id }) =>
  data(http.post(url(`/${id}/join`), null, params(person, 'join')), 'join', 200);

export const token = (person, { id }) =>
  data(http.post(url(`/${id}/token`), null, params(person, 'token')), 'token', 200);

export const look = (person, { id }) => data(http.get(url(`/${id}`), params(person, 'look')), 'look', 200);

export const history = (person) => data(http.get(url('/history'), params(person, 'history')), 'history', 200);

export function end(person, { id }) {
  const answer = http.post(url(`/${id}/end`), null, params(person, 'end'));
  check(answer, { 'end: 200': (it) => it.status === 200 });
}

/** Starts a call in a rush: whoever is asked to come again later is no failure. Gives the status. */
export function tryStart(person, others) {
  const answer = http.post(url('/start'), wish(others), {
    ...params(person, 'start'),
    responseCallback: http.expectedStatuses(201, 429, 503),
  });
  const isTold = (it) =>
    it.status === 201 || ((it.status === 429 || it.status === 503) && !!it.headers['Retry-After']);
  check(answer, { 'start: 201, or when to come again': isTold });
  return {
    status: answer.status,
    call: answer.status === 201 ? JSON.parse(answer.body).data.call : undefined,
  };
}
