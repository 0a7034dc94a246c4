/** How the tiles of a call are laid out so that as much of the stage as can be is picture. All in CSS pixels. */

export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** Portrait tiles on a phone, wide ones on a desk, never a sliver. */
const NARROWEST = 3 / 4;
const WIDEST = 16 / 9;

/** One box per tile, in order; the last row is centred. */
export function gridBoxes(count: number, width: number, height: number, gap: number): Box[] {
  if (count < 1 || width <= 0 || height <= 0) return [];
  let best = { area: -1, columns: 1, tile: { width: 0, height: 0 } };
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns);
    const tile = fitted((width - gap * (columns - 1)) / columns, (height - gap * (rows - 1)) / rows);
    const area = tile.width * tile.height;
    if (area > best.area + 0.5) best = { area, columns, tile };
  }
  return place(count, best.columns, best.tile, width, height, gap);
}

function fitted(width: number, height: number): { width: number; height: number } {
  if (width <= 0 || height <= 0) return { width: 0, height: 0 };
  const ratio = width / height;
  if (ratio > WIDEST) return { width: height * WIDEST, height };
  if (ratio < NARROWEST) return { width, height: width / NARROWEST };
  return { width, height };
}

function place(
  count: number,
  columns: number,
  tile: { width: number; height: number },
  width: number,
  height: number,
  gap: number,
): Box[] {
  const rows = Math.ceil(count / columns);
  const top = (height - rows * tile.height - (rows - 1) * gap) / 2;
  return Array.from({ length: count }, (_, i) => {
    const row = Math.floor(i / columns);
    const inRow = row === rows - 1 ? count - row * columns : columns;
    const left = (width - inRow * tile.width - (inRow - 1) * gap) / 2;
    return {
      x: left + (i % columns) * (tile.width + gap),
      y: top + row * (tile.height + gap),
      width: tile.width,
      height: tile.height,
    };
  });
}

/** The least that faces get beside a shared screen on a wide stage, and below it on a tall one, as a share of the stage. */
const LEAST_BESIDE = 0.2;
const LEAST_BELOW = 0.24;
/** A screen's own shape: what is left of the stage beyond it is for faces rather than for black bars. */
const SCREEN = 16 / 9;
/** The least of the stage that a screen gets all the same: no face is larger than it. */
const LEAST_SCREEN = 0.5;

/** A shared screen as large as it can be with `faces` tiles in a strip beside it, or below on a tall stage. */
export function spotlightBoxes(
  faces: number,
  width: number,
  height: number,
  gap: number,
): { main: Box; faces: Box[] } {
  if (faces < 1) return { main: { x: 0, y: 0, width, height }, faces: [] };
  if (width >= height * 1.2) {
    const main = Math.min(width * (1 - LEAST_BESIDE) - gap, Math.max(height * SCREEN, width * LEAST_SCREEN));
    const boxes = gridBoxes(faces, width - main - gap, height, gap);
    return {
      main: { x: 0, y: 0, width: main, height },
      faces: boxes.map((box) => ({ ...box, x: box.x + main + gap })),
    };
  }
  const main = Math.min(height * (1 - LEAST_BELOW) - gap, Math.max(width / SCREEN, height * LEAST_SCREEN));
  const boxes = gridBoxes(faces, width, height - main - gap, gap);
  return {
    main: { x: 0, y: 0, width, height: main },
    faces: boxes.map((box) => ({ ...box, y: box.y + main + gap })),
  };
}
