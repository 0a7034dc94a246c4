/** What the page keeps between visits. Storage may be forbidden: then it keeps nothing and goes on. */

function read(storage: () => Storage, key: string): unknown {
  try {
    const text = storage().getItem(`call-console.${key}`);
    return text === null ? null : JSON.parse(text);
  } catch {
    return null;
  }
}

function write(storage: () => Storage, key: string, value: unknown): void {
  try {
    if (value === null) storage().removeItem(`call-console.${key}`);
    else storage().setItem(`call-console.${key}`, JSON.stringify(value));
  } catch {
    // Nothing kept, nothing lost but comfort.
  }
}

/** Of this browser, all tabs. */
export const browser = {
  read: (key: string) => read(() => localStorage, key),
  write: (key: string, value: unknown) => write(() => localStorage, key, value),
};

/** Of this tab alone, across reloads: two tabs may be two users. */
export const tab = {
  read: (key: string) => read(() => sessionStorage, key),
  write: (key: string, value: unknown) => write(() => sessionStorage, key, value),
};
