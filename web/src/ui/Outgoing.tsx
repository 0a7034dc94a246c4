import { camera, current, nameOf, ringSeconds, serviceNow, session } from '../app/store';
import { standing } from '../call/words';
import { isAsked, type Participant } from '../contract';
import { Avatar, Countdown } from './bits';
import { Video } from './Video';

/** It rings at the others': who, what is known of each, and how long still. */
export function Outgoing() {
  const view = current.value;
  const me = session.value?.userId ?? '';
  if (view === null) return null;
  const asked = [...view.participants.values()].filter((one) => one.userId !== me);
  const began = Date.parse(view.call.createdAt);
  const until = began + ringSeconds.value * 1000;
  const left = Math.max(0, (until - serviceNow()) / 1000);
  return (
    <section class="outgoing" data-testid="outgoing" aria-labelledby="outgoing-head">
      {camera.value !== null && (
        <div class="outgoing-mirror">
          <Video track={camera.value} mirrored label="Your camera" testid="own-video" />
        </div>
      )}
      <h2 id="outgoing-head" class="only-reader">
        Calling
      </h2>
      <ul class="asked">
        {asked.map((one) => (
          <Asked key={one.userId} one={one} left={left} big={asked.length === 1} />
        ))}
      </ul>
    </section>
  );
}

function Asked({ one, left, big }: { one: Participant; left: number; big: boolean }) {
  const size = big ? 168 : 104;
  const rings = isAsked(one);
  return (
    <li
      class={`asked-one ${one.connectionState}`}
      data-testid={`asked-${one.userId}`}
      data-state={one.connectionState}
    >
      <span class="asked-face" style={{ width: `${size}px`, height: `${size}px` }}>
        {rings && <Countdown left={left} whole={ringSeconds.value} size={size} />}
        <Avatar id={one.userId} size={size - 24} />
      </span>
      <strong>{nameOf(one.userId)}</strong>
      <span class="asked-state">
        {standing(one)}
        {rings && left > 0 && <time aria-hidden="true">, {Math.ceil(left)} s left</time>}
      </span>
    </li>
  );
}
