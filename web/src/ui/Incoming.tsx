import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { accept, decline } from '../app/calls';
import { busy, currentId, nameOf, ringing, serviceNow } from '../app/store';
import type { CallView } from '../call/model';
import { listed } from '../call/words';
import { ring } from '../lib/sound';
import { Avatar, Countdown } from './bits';
import { Icon } from './icons';

/** Every call that rings here, over everything else, with its tone. */
export function Incoming() {
  const rings = ringing.value.length > 0;
  useEffect(() => (rings ? ring('incoming') : undefined), [rings]);
  return rings ? <Card all={ringing.value} /> : null;
}

function Card({ all }: { all: readonly CallView[] }) {
  const ref = useRef<HTMLDialogElement>(null);
  // In a call the page stays in use: one may go on talking while it rings.
  const beside = currentId.value !== null;
  useEffect(() => {
    const dialog = ref.current;
    if (dialog === null) return;
    if (beside) dialog.show();
    else dialog.showModal();
    // Not on a button: a key pressed for something else must not answer.
    dialog.focus();
    return () => dialog.close();
  }, [beside]);
  return (
    <dialog
      ref={ref}
      class={`incoming ${beside ? 'beside' : ''}`}
      role="alertdialog"
      aria-label="Incoming call"
      data-testid="incoming"
      tabIndex={-1}
      onCancel={(event) => event.preventDefault()}
    >
      {all.map((view) => (
        <OneCall key={view.call.id} view={view} />
      ))}
    </dialog>
  );
}

function OneCall({ view }: { view: CallView }) {
  const { id, type, initiatorId, isGroup } = view.call;
  const until = Date.parse(view.invitation?.expiresAt ?? view.call.createdAt);
  const whole = useSignal(Math.max(1, (until - serviceNow()) / 1000));
  const left = Math.max(0, (until - serviceNow()) / 1000);
  const name = nameOf(initiatorId);
  const rest = [...view.participants.keys()].filter((one) => one !== initiatorId);
  const inCall = currentId.value !== null;
  const waits = busy.value !== null;
  return (
    <article class="incoming-call" data-testid={`incoming-${id}`}>
      <span class="asked-face" style={{ width: '128px', height: '128px' }}>
        <Countdown left={left} whole={whole.value} size={128} />
        <Avatar id={initiatorId} size={104} />
      </span>
      <h2 data-testid="incoming-name">{name}</h2>
      <p>
        {isGroup ? 'Group ' : ''}
        {isGroup ? type : type === 'video' ? 'Video' : 'Audio'} call
        {isGroup && rest.length > 1 ? ` with ${listed(rest.slice(0, 3), nameOf)}` : ''}
      </p>
      <p class="incoming-left" data-testid="incoming-left" aria-hidden="true">
        {Math.ceil(left)} s
      </p>
      <div class="incoming-actions">
        <button type="button" class="answer bad" data-testid="decline" onClick={() => void decline(id)}>
          <i>
            <Icon name="hangUp" size={26} />
          </i>
          Decline
        </button>
        {type === 'video' && (
          <button
            type="button"
            class="answer"
            data-testid="accept-audio"
            disabled={waits}
            onClick={() => void accept(id, false)}
          >
            <i>
              <Icon name="cameraOff" size={26} />
            </i>
            Without video
          </button>
        )}
        <button
          type="button"
          class="answer good"
          data-testid="accept"
          disabled={waits}
          onClick={() => void accept(id, true)}
        >
          <i>
            <Icon name={type === 'video' ? 'camera' : 'phone'} size={26} />
          </i>
          {inCall ? 'End and accept' : 'Accept'}
        </button>
      </div>
    </article>
  );
}
