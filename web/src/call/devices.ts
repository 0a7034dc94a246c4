/** The camera and microphone of this machine, and clear words where they cannot be had. */

export interface Wish {
  audio: boolean;
  video: boolean;
}

export interface Choice {
  microphone: string | null;
  camera: string | null;
  speaker: string | null;
  detail: Detail;
}

/** How large a picture the camera is asked for. */
export const DETAILS = ['high', 'standard', 'low'] as const;
export type Detail = (typeof DETAILS)[number];

const PICTURE: Record<Detail, { width: number; height: number; frameRate: number }> = {
  high: { width: 1280, height: 720, frameRate: 30 },
  standard: { width: 640, height: 360, frameRate: 24 },
  low: { width: 320, height: 180, frameRate: 10 },
};

export interface Trouble {
  what: 'camera' | 'microphone';
  why: 'refused' | 'missing' | 'in_use' | 'insecure' | 'unknown';
}

export interface Got {
  microphone: MediaStreamTrack | null;
  camera: MediaStreamTrack | null;
  troubles: Trouble[];
}

/** Asks for both at once (one question to the person); where that fails, for each, so that one without the other is had. */
export async function acquire(wish: Wish, choice: Choice): Promise<Got> {
  if (navigator.mediaDevices === undefined)
    return { microphone: null, camera: null, troubles: wanted(wish, 'insecure') };
  if (wish.audio && wish.video) {
    try {
      const stream = await navigator.mediaDevices.getUserMedia({
        audio: audio(choice),
        video: video(choice),
      });
      return {
        microphone: stream.getAudioTracks()[0] ?? null,
        camera: stream.getVideoTracks()[0] ?? null,
        troubles: [],
      };
    } catch {
      // One of the two is refused or missing: asked for apart, the other may be had.
    }
  }
  const microphone = wish.audio ? await one('microphone', choice) : null;
  const camera = wish.video ? await one('camera', choice) : null;
  return {
    microphone: microphone?.track ?? null,
    camera: camera?.track ?? null,
    troubles: [microphone?.trouble, camera?.trouble].filter((trouble) => trouble != null),
  };
}

async function one(
  what: Trouble['what'],
  choice: Choice,
): Promise<{ track: MediaStreamTrack | null; trouble: Trouble | null }> {
  const constraints = what === 'microphone' ? { audio: audio(choice) } : { video: video(choice) };
  try {
    const stream = await navigator.mediaDevices.getUserMedia(constraints);
    return { track: stream.getTracks()[0] ?? null, trouble: null };
  } catch (error) {
    return { track: null, trouble: { what, why: whyOf(error) } };
  }
}

function wanted(wish: Wish, why: Trouble['why']): Trouble[] {
  const found: Trouble[] = [];
  if (wish.audio) found.push({ what: 'microphone', why });
  if (wish.video) found.push({ what: 'camera', why });
  return found;
}

function whyOf(error: unknown): Trouble['why'] {
  switch (error instanceof Error ? error.name : '') {
    case 'NotAllowedError':
    case 'SecurityError':
      return 'refused';
    case 'NotFoundError':
    case 'OverconstrainedError':
      return 'missing';
    case 'NotReadableError':
    case 'AbortError':
      return 'in_use';
    default:
      return 'unknown';
  }
}

function audio(choice: Choice): MediaTrackConstraints {
  return {
    echoCancellation: true,
    noiseSuppression: true,
    autoGainControl: true,
    ...(choice.microphone === null ? {} : { deviceId: { ideal: choice.microphone } }),
  };
}

function video(choice: Choice): MediaTrackConstraints {
  const { width, height, frameRate } = PICTURE[choice.detail];
  return {
    width: { ideal: width },
    height: { ideal: height },
    frameRate: { ideal: frameRate },
    ...(choice.camera === null ? {} : { deviceId: { ideal: choice.camera } }),
  };
}

/** What happened and what to do about it. */
export function troubleWords({ what, why }: Trouble): { title: string; detail: string } {
  const name = what === 'camera' ? 'camera' : 'microphone';
  const onward =
    what === 'camera'
      ? 'The call goes on with your voice alone.'
      : 'You hear the others; they do not hear you.';
  switch (why) {
    case 'refused':
      return {
        title: `The ${name} is blocked`,
        detail: `${onward} To allow it, click the icon left of the address, set the ${name} to "Allow", then turn it on again here.`,
      };
    case 'missing':
      return { title: `No ${name} found`, detail: `${onward} Plug one in and turn it on again here.` };
    case 'in_use':
      return {
        title: `The ${name} is in use`,
        detail: `${onward} Close the other program that uses it, then turn it on again here.`,
      };
    case 'insecure':
      return {
        title: `The ${name} needs a secure page`,
        detail: `${onward} Open this page by https, or by localhost.`,
      };
    default:
      return {
        title: `The ${name} did not start`,
        detail: `${onward} Try turning it on again, or choose another one.`,
      };
  }
}
