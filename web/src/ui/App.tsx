import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { dropToast, inspecting, opened, panel, politely, session, toasts, urgently } from '../app/store';
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
  return (
    <>
      {session.value === null ? <SignIn /> : <Console phone={phone} />}
      <Toasts />
      <div class="only-reader" role="status" aria-live="polite" data-testid="live-polite">
        {politely.value}
      </div>
      <div class="only-reader" role="alert" aria-live="assertive" data-testid="live-urgent">
        {urgently.value}
      </div>
    </>
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
