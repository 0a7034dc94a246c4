import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';

interface VideoProps {
  track: MediaStreamTrack;
  label: string;
  testid: string;
  mirrored?: boolean;
  /** Whole picture rather than a filled tile. */
  whole?: boolean;
}

/** A picture without sound (sound has elements of its own); unseen until its first frame is there. */
export function Video({ track, label, testid, mirrored = false, whole = false }: VideoProps) {
  const ref = useRef<HTMLVideoElement>(null);
  const shown = useSignal(false);
  useEffect(() => {
    const video = ref.current;
    if (video === null) return;
    shown.value = false;
    video.srcObject = new MediaStream([track]);
    // Refused only while hidden or before a click: it starts by itself then.
    void video.play().catch(() => {});
    return () => {
      video.srcObject = null;
    };
  }, [track]);
  return (
    <video
      ref={ref}
      class={`video ${mirrored ? 'mirrored' : ''} ${whole ? 'whole' : ''} ${shown.value ? 'shown' : ''}`}
      data-testid={testid}
      aria-label={label}
      autoplay
      muted
      playsInline
      onResize={() => {
        shown.value = true;
      }}
      onLoadedData={() => {
        shown.value = true;
      }}
    />
  );
}
