// What the cameras and screens of the pictures show: the false devices of Chromium are fit to count frames, not to look at.
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const WIDTH = 320;
const HEIGHT = 180;
const FRAMES = 20;

/** The three planes of a colour, 0 to 255 each (BT.601). */
function planes([r, g, b]) {
  return [
    0.257 * r + 0.504 * g + 0.098 * b + 16,
    -0.148 * r - 0.291 * g + 0.439 * b + 128,
    0.439 * r - 0.368 * g - 0.071 * b + 128,
  ];
}

const mix = (a, b, share) => a.map((one, i) => one + (b[i] - one) * Math.min(1, Math.max(0, share)));

/** The colour at a point of a frame: a person as a sign shows one, before a wall with light from one side. */
function colourAt(x, y, t, { wall, shirt, skin }) {
  const sway = 4 * Math.sin(2 * Math.PI * t);
  const lit = mix(
    wall,
    wall.map((one) => one * 0.45),
    (x / WIDTH) * 0.8 + (y / HEIGHT) * 0.35,
  );
  const edge = (distance) => 0.5 - distance / 3;
  const head = Math.hypot((x - 160 - sway) / 0.86, y - 74) - 35;
  const body = (Math.hypot((x - 160 - sway * 0.4) / 92, (y - 196) / 78) - 1) * 78;
  const shade = 1 - 0.28 * Math.min(1, Math.max(0, (x - 130) / 90));
  const dressed = mix(
    lit,
    shirt.map((one) => one * shade),
    edge(body),
  );
  return mix(
    dressed,
    skin.map((one) => one * shade),
    edge(head),
  );
}

function frame(t, colours) {
  const y = Buffer.alloc(WIDTH * HEIGHT);
  const u = Buffer.alloc((WIDTH * HEIGHT) / 4);
  const v = Buffer.alloc((WIDTH * HEIGHT) / 4);
  for (let row = 0; row < HEIGHT; row += 1) {
    for (let column = 0; column < WIDTH; column += 1) {
      const [luma, blue, red] = planes(colourAt(column, row, t, colours));
      y[row * WIDTH + column] = luma;
      const at = (row >> 1) * (WIDTH / 2) + (column >> 1);
      u[at] = blue;
      v[at] = red;
    }
  }
  return Buffer.concat([Buffer.from('FRAME\n'), y, u, v]);
}

/** A clip (Y4M) for `--use-file-for-fake-video-capture`; its path. */
export function clip(colours) {
  const frames = Array.from({ length: FRAMES }, (_, i) => frame(i / FRAMES, colours));
  const path = join(mkdtempSync(join(tmpdir(), 'call-console-')), 'camera.y4m');
  const head = Buffer.from(`YUV4MPEG2 W${WIDTH} H${HEIGHT} F10:1 Ip A1:1 C420\n`);
  writeFileSync(path, Buffer.concat([head, ...frames]));
  return path;
}

export const CAST = [
  { wall: [214, 192, 168], shirt: [36, 84, 148], skin: [232, 184, 150] },
  { wall: [138, 170, 178], shirt: [196, 92, 62], skin: [170, 116, 84] },
  { wall: [168, 160, 196], shirt: [46, 120, 88], skin: [240, 200, 168] },
];

/** Runs in the page: a shared screen is then a drawn one, with a chart on it. */
export function drawnScreen() {
  navigator.mediaDevices.getDisplayMedia = async () => {
    const canvas = Object.assign(document.createElement('canvas'), { width: 1280, height: 720 });
    const to = canvas.getContext('2d');
    const draw = () => {
      to.fillStyle = '#fbfbfd';
      to.fillRect(0, 0, 1280, 720);
      to.fillStyle = '#14171d';
      to.font = '600 44px sans-serif';
      to.fillText('Calls answered, by week', 80, 120);
      for (const [i, high] of [180, 220, 205, 290, 340, 320, 410, 450].entries()) {
        to.fillStyle = i === 7 ? '#2f5bea' : '#b9c8f8';
        to.fillRect(80 + i * 142, 640 - high, 100, high);
      }
      to.fillStyle = '#dfe2e9';
      to.fillRect(80, 640, 1120, 2);
    };
    draw();
    setInterval(draw, 200);
    return canvas.captureStream(5);
  };
}
