import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { missedCount } from '../app/history';
import {
  dropToast,
  inspecting,
  nameOf,
  opened,
  panel,
  politely,
  ringing,
  type Said,
  session,
  toasts,
  urgently,
} from '../app/store';
import { ring } from '../lib/sound';
import { Dialog } from './bits';
import { DevicesDialog } from './Devices';
import { HistoryDetail } from './History';
import { Incoming } from './Incoming';
import { Inspector } from './Inspector';
import { InviteDialog } from './InviteDialog';
import { watchKeys } from './keys';
import { Rail } from './Rail';
import { SignIn } from './SignIn';
import { Sound } from './Sound';
import { phaseOf, Stage } from './Stage';

/** A phone's width: the stage alone, the rest as sheets. */
const PHONE = '(max-width: 760px)';

export function App() {
  const phone = usePhone();
  useEffect(watchKeys, []);
  useRingback();
  useTitle();
  return (
    <>
      {session.value === null ? <SignIn /> : <Console phone={phone} />}
      <Toasts />
      <Spoken said={politely.value} role="status" testid="live-polite" />
      <Spoken said={urgently.value} role="alert" testid="live-urgent" />
    </>
  );
}

/** What a screen reader says; each new line by itself. */
function Spoken({ said, role, testid }: { said: readonly Said[]; role: 'status' | 'alert'; testid: string }) {
  return (
    <div class="only-reader" role={role} aria-atomic="false" data-testid={testid}>
      {said.map((one) => (
        <p key={one.id}>{one.text}</p>
      ))}
    </div>
  );
}

function Console({ phone }: { phone: boolean }) {
  return (
    <>
      <div class={`console ${inspecting.value && !phone ? 'inspecting' : ''}`}>
        {!phone && <Rail />}
        <Stage />
        {!phone && inspecting.value && <Inspector />}
      </div>
      {phone && <Sheets />}
      {panel.value === 'devices' && <DevicesDialog />}
      {panel.value === 'invite' && <InviteDialog />}
      {opened.value !== null && <HistoryDetail />}
      <Incoming />
      <Sound />
    </>
  );
}

function Sheets() {
  return (
    <>
      {panel.value === 'rail' && (
        <Dialog
          kind="sheet"
          label="People and history"
          testid="rail-sheet"
          onClose={() => {
            panel.value = 'none';
          }}
        >
          <Rail />
        </Dialog>
      )}
      {inspecting.value && (
        <Dialog
          kind="sheet"
          label="Inspector"
          testid="inspector-sheet"
          onClose={() => {
            inspecting.value = false;
          }}
        >
          <Inspector />
        </Dialog>
      )}
    </>
  );
}

function usePhone(): boolean {
  const phone = useSignal(matchMedia(PHONE).matches);
  useEffect(() => {
    const query = matchMedia(PHONE);
    const onChange = () => {
      phone.value = query.matches;
    };
    query.addEventListener('change', onChange);
    return () => query.removeEventListener('change', onChange);
  }, []);
  return phone.value;
}

/** The tab says who calls, and what was missed. */
function useTitle(): void {
  const caller = ringing.value[0]?.call.initiatorId;
  const missed = missedCount.value;
  const idle = missed === 0 ? 'Call console' : `(${missed} missed) Call console`;
  const title = caller === undefined ? idle : `${nameOf(caller)} is calling`;
  useEffect(() => {
    document.title = title;
  }, [title]);
}

/** The quiet tone while it rings at the others'. */
function useRingback(): void {
  const rings = session.value !== null && phaseOf() === 'ringing';
  useEffect(() => (rings ? ring('outgoing') : undefined), [rings]);
}

function Toasts() {
  return (
    <div class="toasts" data-testid="toasts">
      {toasts.value.map((one) => (
        <button
          type="button"
          key={one.id}
          class={`toast ${one.tone}`}
          data-testid="toast"
          onClick={() => dropToast(one.id)}
          aria-label={`${one.text} Dismiss`}
        >
          {one.text}
        </button>
      ))}
    </div>
  );
}
