import { useEffect, useRef } from 'preact/hooks';
import { choice, remote, silenced } from '../app/store';

/** The others' voices. They stand apart from the tiles, so that a new layout never cuts a word. */
export function Sound() {
  return (
    <div hidden data-testid="sound">
      {[...remote.value].map(([userId, tracks]) => {
        const track = tracks.get('microphone');
        return track === undefined ? null : <Voice key={userId} userId={userId} track={track} />;
      })}
    </div>
  );
}

function Voice({ userId, track }: { userId: string; track: MediaStreamTrack }) {
  const ref = useRef<HTMLAudioElement>(null);
  const { speaker } = choice.value;
  useEffect(() => {
    const audio = ref.current;
    if (audio === null) return;
    audio.srcObject = new MediaStream([track]);
    play(audio);
    return () => {
      audio.srcObject = null;
    };
  }, [track]);
  useEffect(() => {
    // Not every browser can choose; the system's own speaker is used there.
    void ref.current?.setSinkId?.(speaker ?? '').catch(() => {});
  }, [speaker]);
  // A live voice has no captions.
  return <audio ref={ref} autoplay data-testid={`voice-${userId}`} data-voice="" />;
}

function play(audio: HTMLAudioElement): void {
  void audio.play().catch((error: unknown) => {
    if (error instanceof Error && error.name === 'NotAllowedError') silenced.value = true;
  });
}

/** After a click the browser lets sound through. */
export function resumeSound(): void {
  silenced.value = false;
  for (const audio of document.querySelectorAll<HTMLAudioElement>('audio[data-voice]')) play(audio);
}
