import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import {
  camera,
  current,
  microphone,
  muted,
  nameOf,
  pairs,
  remote,
  samples,
  screen,
  session,
  speaking,
} from '../app/store';
import { others } from '../call/model';
import { bars, rate } from '../call/quality';
import { type Box, gridBoxes, spotlightBoxes } from '../call/tiles';
import { standing } from '../call/words';
import { isAsked, type Participant, type Quality } from '../contract';
import { Avatar, Bars } from './bits';
import { Icon } from './icons';
import { Video } from './Video';

/** Pixels between tiles. */
const GAP = 8;

/** A tile: a face, or a screen that somebody shares. */
interface Shown {
  key: string;
  userId: string;
  screen: boolean;
}

/** Everybody in the call, laid out so that the pictures are as large as can be. */
export function Tiles() {
  const ref = useRef<HTMLDivElement>(null);
  const size = useSignal({ width: 0, height: 0 });
  useEffect(() => {
    const place = ref.current;
    if (place === null) return;
    const watch = new ResizeObserver(() => {
      size.value = { width: place.clientWidth, height: place.clientHeight };
    });
    watch.observe(place);
    return () => watch.disconnect();
  }, []);
  const shown = shownNow();
  const { width, height } = size.value;
  const boxes = laidOut(shown, width, height);
  return (
    <div class="tiles" ref={ref} data-testid="tiles" data-count={shown.length}>
      <ul>
        {shown.map((one) => {
          const box = boxes.get(one.key);
          return box === undefined ? null : <Tile key={one.key} shown={one} box={box} />;
        })}
      </ul>
    </div>
  );
}

function shownNow(): Shown[] {
  const view = current.value;
  const me = session.value?.userId ?? '';
  if (view === null) return [];
  const rung = [...view.participants.values()].filter((one) => one.userId !== me && isAsked(one));
  const people = [...others(view, me), ...rung];
  const faces = [...people.map((one) => one.userId), me].map((userId) => ({
    key: userId,
    userId,
    screen: false,
  }));
  const screens = people.filter(
    (one) => one.screenShareEnabled && remote.value.get(one.userId)?.has('screen') === true,
  );
  const shared = screens.map(({ userId }) => ({ key: `${userId}/screen`, userId, screen: true }));
  const own = screen.value === null ? [] : [{ key: `${me}/screen`, userId: me, screen: true }];
  return [...shared, ...own, ...faces];
}

function laidOut(shown: readonly Shown[], width: number, height: number): Map<string, Box> {
  const screens = shown.filter((one) => one.screen);
  const faces = shown.filter((one) => !one.screen);
  const first = screens[0];
  if (first === undefined) return paired(faces, gridBoxes(faces.length, width, height, GAP));
  const small = [...screens.slice(1), ...faces];
  const { main, faces: boxes } = spotlightBoxes(small.length, width, height, GAP);
  return paired(small, boxes).set(first.key, main);
}

function paired(shown: readonly Shown[], boxes: readonly Box[]): Map<string, Box> {
  return new Map(
    shown.flatMap((one, i) => {
      const box = boxes[i];
      return box === undefined ? [] : [[one.key, box] as const];
    }),
  );
}

function Tile({ shown: { userId, screen: isScreen }, box }: { shown: Shown; box: Box }) {
  const own = userId === session.value?.userId;
  const one = current.value?.participants.get(userId);
  const track = trackOf(userId, own, isScreen, one);
  const kind = isScreen ? 'screen' : 'tile';
  const label = labelOf(userId, own, isScreen);
  const style = {
    transform: `translate(${box.x}px, ${box.y}px)`,
    width: `${box.width}px`,
    height: `${box.height}px`,
  };
  return (
    <li
      class={`tile ${isScreen ? 'is-screen' : ''} ${!isScreen && speaking.value.has(userId) ? 'speaks' : ''}`}
      style={style}
      data-testid={`${kind}-${userId}`}
      data-audio={audioOn(own, one)}
      data-video={track !== null}
      data-state={one?.connectionState}
      data-pair={pairs.value.get(userId)}
    >
      {track === null ? (
        <Avatar id={userId} size={Math.max(40, Math.min(box.width, box.height) * 0.36)} />
      ) : (
        <Video
          track={track}
          mirrored={own && !isScreen}
          whole={isScreen}
          label={label}
          testid={`${kind}-video-${userId}`}
        />
      )}
      {isScreen ? (
        <ScreenFoot label={label} />
      ) : (
        <FaceFoot userId={userId} own={own} one={one} label={label} />
      )}
    </li>
  );
}

function labelOf(userId: string, own: boolean, isScreen: boolean): string {
  if (isScreen) return own ? 'Your screen' : `${nameOf(userId)}'s screen`;
  return own ? `${nameOf(userId)} (you)` : nameOf(userId);
}

function ScreenFoot({ label }: { label: string }) {
  return (
    <div class="tile-foot">
      <Icon name="screen" size={16} />
      <span class="tile-name">{label}</span>
    </div>
  );
}

interface FaceProps {
  userId: string;
  own: boolean;
  one: Participant | undefined;
  label: string;
}

function FaceFoot({ userId, own, one, label }: FaceProps) {
  return (
    <>
      <TileState one={one} own={own} />
      <div class="tile-foot">
        {!audioOn(own, one) && (
          <span class="tile-muted" role="img" aria-label="Microphone off" data-testid={`muted-${userId}`}>
            <Icon name="microphoneOff" size={16} />
          </span>
        )}
        <span class="tile-name">{label}</span>
        <TileBars userId={userId} own={own} said={one?.connectionQuality ?? null} />
      </div>
    </>
  );
}

function trackOf(
  userId: string,
  own: boolean,
  isScreen: boolean,
  one: Participant | undefined,
): MediaStreamTrack | null {
  if (own) return isScreen ? screen.value : camera.value;
  const tracks = remote.value.get(userId);
  if (isScreen) return tracks?.get('screen') ?? null;
  return one?.videoEnabled === true ? (tracks?.get('camera') ?? null) : null;
}

function audioOn(own: boolean, one: Participant | undefined): boolean {
  return own ? microphone.value !== null && !muted.value : one?.audioEnabled === true;
}

/** Over the tile: what is wrong, or still under way. */
function TileState({ one, own }: { one: Participant | undefined; own: boolean }) {
  if (one === undefined || own) return null;
  const pair = pairs.value.get(one.userId);
  const words = isAsked(one)
    ? standing(one)
    : one.connectionState === 'reconnecting' || pair === 'lost'
      ? 'Reconnecting …'
      : pair === 'connected'
        ? null
        : 'Connecting …';
  if (words === null) return null;
  return (
    <span class="tile-state" data-testid={`tile-state-${one.userId}`}>
      {words}
    </span>
  );
}

function TileBars({ userId, own, said }: { userId: string; own: boolean; said: Quality | null }) {
  const last = samples.value.at(-1)?.of;
  const sample = own ? undefined : last?.get(userId);
  const quality = sample === undefined ? said : rate(sample);
  if (quality === null) return null;
  const figures =
    sample === undefined
      ? ''
      : `: jitter ${Math.round(sample.jitter)} ms, loss ${sample.packetLoss.toFixed(1)} %, round trip ${Math.round(sample.roundTripTime)} ms`;
  return <Bars count={bars(quality)} label={`Connection ${quality}${figures}`} />;
}
