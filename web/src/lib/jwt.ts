export interface Claims {
  userId: string;
  username: string;
  /** Milliseconds since the epoch; infinite where the token has no end. */
  expiresAt: number;
}

/** What a token says of its bearer, unchecked (the service checks it); null if it is not a JWT. */
export function claimsOf(token: string): Claims | null {
  const parts = token.trim().split('.');
  if (parts.length !== 3) return null;
  try {
    const text = atob((parts[1] ?? '').replace(/-/g, '+').replace(/_/g, '/'));
    const bytes = Uint8Array.from(text, (c) => c.charCodeAt(0));
    const body: unknown = JSON.parse(new TextDecoder().decode(bytes));
    if (typeof body !== 'object' || body === null) return null;
    const claims = body as Record<string, unknown>;
    const userId = claims.userId ?? claims.sub;
    if (typeof userId !== 'string' || userId === '') return null;
    const username = typeof claims.username === 'string' ? claims.username : userId;
    const exp = claims.exp;
    return { userId, username, expiresAt: typeof exp === 'number' ? exp * 1000 : Number.POSITIVE_INFINITY };
  } catch {
    return null;
  }
}
