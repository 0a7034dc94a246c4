/** The id a name gets: the characters an id may have, and a short hash where some had to go. */
export function idOfName(name: string): string {
  const plain = name.trim().normalize('NFKD').replace(/\p{M}/gu, '').toLowerCase();
  const kept = plain.replace(/[^a-z0-9_.-]+/g, '-').replace(/^-+|-+$/g, '');
  const lost = /[^\p{ASCII}]/u.test(plain);
  const id = lost ? `${kept}${kept === '' ? '' : '-'}${hash(plain).toString(36)}` : kept;
  return id.slice(0, MAX_ID);
}

/** The longest user id, in characters. */
export const MAX_ID = 64;

/** FNV-1a over UTF-16 units, 32 bits: stable across tabs and visits. */
export function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) {
    value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  }
  return value >>> 0;
}

/** One or two letters for an avatar. */
export function initials(name: string): string {
  const words = name.split(/[\s_.:@=-]+/u).filter((word) => word !== '');
  const first = [...(words[0] ?? '?')][0] ?? '?';
  const last = words.length > 1 ? ([...(words.at(-1) ?? '')][0] ?? '') : '';
  return (first + last).toUpperCase();
}

/** The hue (degrees) of a user's avatar. */
export function hueOf(id: string): number {
  // 24 steps keep neighbours apart; the hash alone makes near twins.
  return (hash(id) % 24) * 15;
}
