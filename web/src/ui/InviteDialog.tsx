import { invite, remove } from '../app/calls';
import { current, nameOf, names, online, panel, session } from '../app/store';
import { standing } from '../call/words';
import { isAsked, isIn, type Participant } from '../contract';
import { Avatar, Dialog, IconButton } from './bits';
import { Icon } from './icons';

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
        <IconButton
          icon="close"
          label={`Remove ${nameOf(one.userId)}`}
          testid={`remove-${one.userId}`}
          onClick={() => void remove(one.userId)}
        />
      )}
    </li>
  );
}
