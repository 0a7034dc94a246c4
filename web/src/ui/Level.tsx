import { useEffect, useRef } from 'preact/hooks';
import { Meter } from '../lib/sound';

/** Milliseconds between looks at the loudness. */
const EVERY_MS = 100;

/** How loud the microphone is, as a bar. */
export function Level({ track }: { track: MediaStreamTrack }) {
  const ref = useRef<HTMLElement>(null);
  useEffect(() => {
    const meter = new Meter(track);
    const timer = setInterval(() => {
      if (ref.current !== null) ref.current.style.transform = `scaleX(${meter.level()})`;
    }, EVERY_MS);
    return () => {
      clearInterval(timer);
      meter.close();
    };
  }, [track]);
  return (
    <span class="level" role="img" aria-label="Microphone level" data-testid="level">
      <i ref={ref} />
    </span>
  );
}
