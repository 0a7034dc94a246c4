import { hangUp, toggleCamera, toggleMicrophone, toggleScreen } from '../app/calls';
import { canShareScreen } from '../app/media';
import { busy, camera, current, microphone, muted, panel, screen, session } from '../app/store';
import { isIn } from '../contract';
import { IconButton } from './bits';
import { phaseOf } from './Stage';

/** The bar below a call. */
export function ControlBar() {
  const heard = microphone.value !== null && !muted.value;
  const seen = camera.value !== null;
  const shares = screen.value !== null;
  const view = current.value;
  const count = [...(view?.participants.values() ?? [])].filter(isIn).length;
  return (
    <div class="control-bar" role="toolbar" aria-label="Call" data-testid="control-bar">
      <IconButton
        icon={heard ? 'microphone' : 'microphoneOff'}
        tone={heard ? 'plain' : 'off'}
        label={heard ? 'Mute' : 'Unmute'}
        keyName="M"
        testid="mute"
        pressed={!heard}
        size={22}
        onClick={() => void toggleMicrophone()}
      />
      <IconButton
        icon={seen ? 'camera' : 'cameraOff'}
        tone={seen ? 'plain' : 'off'}
        label={seen ? 'Camera off' : 'Camera on'}
        keyName="V"
        testid="camera"
        pressed={!seen}
        size={22}
        onClick={() => void toggleCamera()}
      />
      {canShareScreen() && (
        <IconButton
          icon="screen"
          tone={shares ? 'accent' : 'plain'}
          label={shares ? 'Stop sharing' : 'Share screen'}
          keyName="S"
          testid="share"
          pressed={shares}
          size={22}
          onClick={() => void toggleScreen()}
        />
      )}
      <IconButton
        icon="devices"
        label="Devices"
        testid="open-devices"
        size={22}
        onClick={() => {
          panel.value = 'devices';
        }}
      />
      <IconButton
        icon="people"
        label={`People in this call, ${count}`}
        keyName="P"
        testid="open-people"
        size={22}
        onClick={() => {
          panel.value = 'invite';
        }}
      >
        <span class="bar-count" aria-hidden="true">
          {count}
        </span>
      </IconButton>
      <IconButton
        icon="hangUp"
        tone="bad"
        label={hangUpLabel()}
        testid="hang-up"
        size={26}
        disabled={busy.value === 'leaving'}
        onClick={() => void hangUp()}
      />
    </div>
  );
}

/** What the red button does: for the initiator it ends the call for all. */
function hangUpLabel(): string {
  const view = current.value;
  if (phaseOf() === 'ringing') return 'Cancel the call';
  const mine = view?.call.initiatorId === session.value?.userId;
  return view?.call.isGroup === true && mine ? 'End for all' : 'Hang up';
}
