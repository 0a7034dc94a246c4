// Tokens as the messenger's backend would issue them, and the false ones that nobody should.
import { createHmac } from 'node:crypto';
import { SECRET } from './service.mjs';

const part = (it) => Buffer.from(typeof it === 'string' ? it : JSON.stringify(it)).toString('base64url');
const HASHES = { HS256: 'sha256', HS384: 'sha384', HS512: 'sha512' };

/** Seconds since 1970. */
export const seconds = () => Math.floor(Date.now() / 1000);

/** A token with exactly these claims, signed with `secret` by `alg`; `none` has no signature. */
export function sign(claims, { secret = SECRET, alg = 'HS256', header = {} } = {}) {
  const signed = `${part({ alg, typ: 'JWT', ...header })}.${part(claims)}`;
  const signature = HASHES[alg] ? createHmac(HASHES[alg], secret).update(signed).digest('base64url') : '';
  return `${signed}.${signature}`;
}

/** A good token for `userId`, for `ttl` seconds. */
export function tokenFor(userId, { ttl = 3600, name, ...options } = {}) {
  return sign({ userId, username: name, exp: seconds() + ttl }, options);
}
