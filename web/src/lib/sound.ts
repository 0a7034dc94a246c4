/** Sounds made by the page itself, and how loud a track is. */

let context: AudioContext | null = null;

/** The page's one audio context; it stays silent until the person has done something on the page. */
function audio(): AudioContext {
  context ??= new AudioContext();
  if (context.state === 'suspended') void context.resume().catch(() => {});
  return context;
}

/** Call on a click or key: from then on the page may make sound. */
export function unlock(): void {
  audio();
}

/** Hertz and seconds of each note; the pattern starts over every `every` seconds. */
interface Pattern {
  notes: readonly { hertz: number; at: number; long: number }[];
  every: number;
  loud: number;
}

const INCOMING: Pattern = {
  notes: [
    { hertz: 659.3, at: 0, long: 0.16 },
    { hertz: 784, at: 0.18, long: 0.16 },
    { hertz: 987.8, at: 0.36, long: 0.3 },
    { hertz: 784, at: 0.9, long: 0.16 },
    { hertz: 987.8, at: 1.08, long: 0.34 },
  ],
  every: 2.6,
  loud: 0.16,
};

const OUTGOING: Pattern = { notes: [{ hertz: 425, at: 0, long: 1 }], every: 4, loud: 0.05 };

/** Rings until the returned function is called. */
export function ring(kind: 'incoming' | 'outgoing'): () => void {
  const pattern = kind === 'incoming' ? INCOMING : OUTGOING;
  const out = audio().createGain();
  out.gain.value = pattern.loud;
  out.connect(audio().destination);
  play(pattern, out);
  const timer = setInterval(() => play(pattern, out), pattern.every * 1000);
  return () => {
    clearInterval(timer);
    out.disconnect();
  };
}

function play(pattern: Pattern, out: AudioNode): void {
  const made = audio();
  if (made.state !== 'running') return;
  for (const note of pattern.notes) {
    const from = made.currentTime + note.at;
    const tone = made.createOscillator();
    const shape = made.createGain();
    tone.frequency.value = note.hertz;
    shape.gain.setValueAtTime(0, from);
    shape.gain.linearRampToValueAtTime(1, from + 0.02);
    shape.gain.setValueAtTime(1, from + note.long - 0.06);
    shape.gain.linearRampToValueAtTime(0, from + note.long);
    tone.connect(shape).connect(out);
    tone.start(from);
    tone.stop(from + note.long);
  }
}

/** How loud a track is. */
export class Meter {
  private readonly source: MediaStreamAudioSourceNode;
  private readonly analyser: AnalyserNode;
  private readonly heard: Float32Array<ArrayBuffer>;

  constructor(readonly track: MediaStreamTrack) {
    this.source = audio().createMediaStreamSource(new MediaStream([track]));
    this.analyser = audio().createAnalyser();
    this.analyser.fftSize = 512;
    this.heard = new Float32Array(this.analyser.fftSize);
    this.source.connect(this.analyser);
  }

  /** 0 to 1, over the last 10 ms or so. */
  level(): number {
    this.analyser.getFloatTimeDomainData(this.heard);
    const square = this.heard.reduce((total, value) => total + value * value, 0) / this.heard.length;
    return Math.min(1, Math.sqrt(square) * 3);
  }

  close(): void {
    this.source.disconnect();
  }
}
