// What tests leave to chance, and waits.

/** A whole number from 0, below that. */
export const random = (below) => Math.floor(Math.random() * below);

export const pick = (list) => list[random(list.length)];

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** A list in any order. */
export const shuffled = (list) =>
  list
    .map((it) => [Math.random(), it])
    .sort(([a], [b]) => a - b)
    .map(([, it]) => it);
