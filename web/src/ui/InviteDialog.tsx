import { invite, muteParticipant, remove } from '../app/calls';
import { current, nameOf, names, online, panel, session } from '../app/store';
import { standing } from '../call/words';
import { isAsked, isIn, type Participant, type Source } from '../contract';
import { Avatar, Dialog, IconButton } from './bits';
import { Icon, type IconName } from './icons';

/** Who is in the call, and whom to ask in. */
export function InviteDialog() {
  const view = current.value;
  const me = session.value?.userId ?? '';
  if (view === null) return null;
  const all = [...view.participants.values()];
  const inside = all.filter((one) => isIn(one) || isAsked(one));
  const here = new Set(inside.map((one) => one.userId));
  const known = new Set([
    ...online.value.map((user) => user.userId),
    ...names.value.keys(),
    ...view.participants.keys(),
  ]);
  const outside = [...known].filter((id) => !here.has(id) && id !== me);
  const full = view.call.maxParticipants > 0 && inside.length >= view.call.maxParticipants;
  const close = () => {
    panel.value = 'none';
  };
  return (
    <Dialog label="People in this call" testid="people-dialog" onClose={close}>
      <ul class="list">
        {inside.map((one) => (
          <Inside
            key={one.userId}
            one={one}
            mine={view.call.initiatorId === me && one.userId !== me}
            own={one.userId === me}
          />
        ))}
      </ul>
      <h3>Ask in</h3>
      {full && <p class="empty">The call is full: {view.call.maxParticipants} people at most.</p>}
      {outside.length === 0 && <p class="empty">Nobody else is known here yet.</p>}
      <ul class="list">
        {outside.map((id) => (
          <li class="person" key={id}>
            <Avatar id={id} online={online.value.some((user) => user.userId === id)} />
            <span class="person-name">
              <span>{nameOf(id)}</span>
              <small>{outsideWords(view.participants.get(id))}</small>
            </span>
            <button
              type="button"
              class="button small"
              data-testid={`invite-${id}`}
              disabled={full}
              onClick={() => void invite([id])}
            >
              <Icon name="plus" size={16} /> Ask in
            </button>
          </li>
        ))}
      </ul>
    </Dialog>
  );
}

function outsideWords(one: Participant | undefined): string {
  return one === undefined ? 'not in this call' : standing(one);
}

function Inside({ one, mine, own }: { one: Participant; mine: boolean; own: boolean }) {
  return (
    <li class="person" data-testid={`inside-${one.userId}`}>
      <Avatar id={one.userId} />
      <span class="person-name">
        <span>
          {nameOf(one.userId)}
          {own && ' (you)'}
        </span>
        <small>
          {standing(one)}
          {one.role === 'initiator' ? ', started the call' : ''}
        </small>
      </span>
      {mine && isIn(one) && (
        <>
          <Off one={one} source="audio" />
          <Off one={one} source="video" />
          <Off one={one} source="screen_share" />
          <IconButton
            icon="close"
            label={`Remove ${nameOf(one.userId)}`}
            testid={`remove-${one.userId}`}
            onClick={() => void remove(one.userId)}
          />
        </>
      )}
    </li>
  );
}

interface OffWords {
  icon: IconName;
  label: (name: string) => string;
  testid: string;
  on: (one: Participant) => boolean;
}

const OFF: Record<Source, OffWords> = {
  audio: {
    icon: 'microphoneOff',
    label: (name) => `Mute ${name}`,
    testid: 'mute',
    on: (one) => one.audioEnabled,
  },
  video: {
    icon: 'cameraOff',
    label: (name) => `Turn ${name}'s camera off`,
    testid: 'camera-off',
    on: (one) => one.videoEnabled,
  },
  screen_share: {
    icon: 'screen',
    label: (name) => `Stop ${name} sharing a screen`,
    testid: 'share-off',
    on: (one) => one.screenShareEnabled,
  },
};

/** Turns off what is on; only the one it belongs to can turn it on again. */
function Off({ one, source }: { one: Participant; source: Source }) {
  const { icon, label, testid, on } = OFF[source];
  if (!on(one)) return null;
  return (
    <IconButton
      icon={icon}
      label={label(nameOf(one.userId))}
      testid={`${testid}-${one.userId}`}
      onClick={() => void muteParticipant(one.userId, source)}
    />
  );
}
