import { describe, expect, it } from 'vitest';
import { type Box, gridBoxes, spotlightBoxes } from '../src/call/tiles';

const STAGES = [
  { name: 'a desk', width: 1100, height: 720 },
  { name: 'a desk with the inspector open', width: 660, height: 720 },
  { name: 'a phone', width: 374, height: 680 },
  { name: 'a wide strip', width: 900, height: 140 },
];

function inside(box: Box, width: number, height: number): boolean {
  return (
    box.x >= -0.01 &&
    box.y >= -0.01 &&
    box.x + box.width <= width + 0.01 &&
    box.y + box.height <= height + 0.01
  );
}

function apart(a: Box, b: Box, gap: number): boolean {
  const beside = a.x + a.width + gap <= b.x + 0.01 || b.x + b.width + gap <= a.x + 0.01;
  const above = a.y + a.height + gap <= b.y + 0.01 || b.y + b.height + gap <= a.y + 0.01;
  return beside || above;
}

const area = (boxes: Box[]) => boxes.reduce((sum, box) => sum + box.width * box.height, 0);

describe('the grid', () => {
  for (const { name, width, height } of STAGES) {
    for (let count = 1; count <= 8; count += 1) {
      it(`holds ${count} on ${name}: all inside, none over another, none a sliver`, () => {
        const boxes = gridBoxes(count, width, height, 8);
        expect(boxes).toHaveLength(count);
        for (const [i, box] of boxes.entries()) {
          expect(inside(box, width, height)).toBe(true);
          expect(box.width / box.height).toBeGreaterThanOrEqual(0.74);
          expect(box.width / box.height).toBeLessThanOrEqual(1.78);
          for (const other of boxes.slice(i + 1)) expect(apart(box, other, 8)).toBe(true);
        }
      });
    }
  }

  it('takes the whole stage for one on a stage of a fitting shape', () => {
    expect(gridBoxes(1, 1600, 900, 8)).toEqual([{ x: 0, y: 0, width: 1600, height: 900 }]);
  });

  it.each([
    { count: 2, width: 1100, height: 600, same: 'y' },
    { count: 2, width: 374, height: 680, same: 'x' },
  ] as const)(
    'puts $count beside each other on a wide stage and above each other on a tall one',
    ({ count, width, height, same }) => {
      const [first, second] = gridBoxes(count, width, height, 8);
      expect(first?.[same]).toBe(second?.[same]);
    },
  );

  it('uses no fewer pixels than any other number of columns would', () => {
    for (const { width, height } of STAGES) {
      for (let count = 1; count <= 8; count += 1) {
        const got = area(gridBoxes(count, width, height, 0));
        for (let columns = 1; columns <= count; columns += 1) {
          const rows = Math.ceil(count / columns);
          const one = gridBoxes(1, width / columns, height / rows, 0);
          expect(got).toBeGreaterThanOrEqual(area(one) * count - count);
        }
      }
    }
  });

  it('centres a last row that is not full', () => {
    const boxes = gridBoxes(3, 1000, 700, 8);
    const last = boxes[2] as Box;
    expect(last.x + last.width / 2).toBeCloseTo(500, 1);
  });

  it.each([
    [0, 100, 100],
    [3, 0, 100],
    [3, 100, -5],
  ])('has nothing to lay out for %i tiles on %i x %i', (count, width, height) => {
    expect(gridBoxes(count, width, height, 8)).toEqual([]);
  });
});

describe('a shared screen', () => {
  it.each(STAGES)('is larger than any face on $name, and nothing lies over another', ({ width, height }) => {
    for (let count = 1; count <= 8; count += 1) {
      const { main, faces } = spotlightBoxes(count, width, height, 8);
      expect(inside(main, width, height)).toBe(true);
      for (const face of faces) {
        expect(main.width * main.height).toBeGreaterThan(face.width * face.height);
        expect(inside(face, width, height)).toBe(true);
        expect(apart(face, main, 7.9)).toBe(true);
      }
    }
  });

  it('is as wide as a phone, and leaves what it cannot use to the faces', () => {
    const { main, faces } = spotlightBoxes(2, 374, 680, 8);
    expect(main).toMatchObject({ width: 374, height: 340 });
    expect(area(faces)).toBeGreaterThan(0.75 * 374 * (680 - 340 - 16));
  });

  it('has the stage to itself without faces', () => {
    expect(spotlightBoxes(0, 300, 200, 8)).toEqual({
      main: { x: 0, y: 0, width: 300, height: 200 },
      faces: [],
    });
  });
});
