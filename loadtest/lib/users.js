// Users as the messenger's backend would vouch for them.
import crypto from 'k6/crypto';
import encoding from 'k6/encoding';

/** Where the service is. */
export const BASE = __ENV.BASE_URL || 'http://127.0.0.1:3000';
const SECRET = __ENV.JWT_SECRET || 'secret';
const TTL_SECONDS = 6 * 3600;

const part = (it) => encoding.b64encode(JSON.stringify(it), 'rawurl');

/** A token that says who somebody is. */
export function tokenOf(userId) {
  const exp = Math.floor(Date.now() / 1000) + TTL_SECONDS;
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ userId, exp })}`;
  return `${signed}.${crypto.hmac('sha256', SECRET, signed, 'base64rawurl')}`;
}

/** One of many runs against the same service. */
const RUN = Math.floor(Math.random() * 1e9).toString(36);
let made = 0;

/** Somebody who has never been seen before: `{id, token}`. */
export function person() {
  made += 1;
  const id = `load-${RUN}-${__VU}-${made}`;
  return { id, token: tokenOf(id) };
}
