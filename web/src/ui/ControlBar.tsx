import { hangUp, toggleCamera, toggleMicrophone, toggleRecording, toggleScreen } from '../app/calls';
import { canShareScreen } from '../app/media';
import {
  busy,
  camera,
  current,
  microphone,
  muted,
  panel,
  recordingAsked,
  room,
  screen,
  session,
} from '../app/store';
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
      <RecordButton />
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

/** For the initiator, where a media server has the call's sound and picture: from peer to peer nobody else has them. */
function RecordButton() {
  const view = current.value;
  if (view === null || room.value === null || view.call.initiatorId !== session.value?.userId) return null;
  const on = view.recording !== null;
  return (
    <IconButton
      icon={on ? 'stop' : 'record'}
      tone={on ? 'off' : 'plain'}
      label={on ? 'Stop recording' : 'Record the call'}
      testid="record"
      pressed={on}
      size={22}
      disabled={recordingAsked.value || view.call.startedAt === null}
      onClick={() => void toggleRecording()}
    />
  );
}

/** What the red button does: for the initiator it ends the call for all. */
function hangUpLabel(): string {
  const view = current.value;
  if (phaseOf() === 'ringing') return 'Cancel the call';
  const mine = view?.call.initiatorId === session.value?.userId;
  return view?.call.isGroup === true && mine ? 'End for all' : 'Hang up';
}
