import { choose, chooseDetail } from '../app/media';
import { camera, choice, devices, microphone, panel } from '../app/store';
import { DETAILS, type Detail } from '../call/devices';
import { Dialog } from './bits';
import { Level } from './Level';
import { Video } from './Video';

const KINDS = [
  { kind: 'camera', input: 'videoinput', label: 'Camera' },
  { kind: 'microphone', input: 'audioinput', label: 'Microphone' },
  { kind: 'speaker', input: 'audiooutput', label: 'Speaker' },
] as const;

const DETAIL_WORDS: Record<Detail, string> = {
  high: 'High, 720p',
  standard: 'Standard, 360p',
  low: 'Low, saves data',
};

/** A list for each kind of device that this machine has. */
export function DeviceChoice() {
  return (
    <div class="device-choice">
      {KINDS.map(({ kind, input, label }) => {
        const found = devices.value.filter((one) => one.kind === input && one.deviceId !== '');
        if (kind === 'speaker' && found.length === 0) return null;
        return (
          <label key={kind} class="field">
            <span>{label}</span>
            <select
              data-testid={`device-${kind}`}
              value={choice.value[kind] ?? ''}
              disabled={found.length === 0}
              onChange={(event) => void choose(kind, event.currentTarget.value)}
            >
              <option value="">{found.length === 0 ? 'None found' : 'As the system says'}</option>
              {found.map((one, i) => (
                <option key={one.deviceId} value={one.deviceId}>
                  {one.label === '' ? `${label} ${i + 1}` : one.label}
                </option>
              ))}
            </select>
          </label>
        );
      })}
      <label class="field">
        <span>Picture</span>
        <select
          data-testid="device-detail"
          value={choice.value.detail}
          onChange={(event) =>
            void chooseDetail(DETAILS.find((one) => one === event.currentTarget.value) ?? 'standard')
          }
        >
          {DETAILS.map((detail) => (
            <option key={detail} value={detail}>
              {DETAIL_WORDS[detail]}
            </option>
          ))}
        </select>
      </label>
    </div>
  );
}

/** Devices in a call. */
export function DevicesDialog() {
  const close = () => {
    panel.value = 'none';
  };
  return (
    <Dialog label="Camera, microphone, speaker" testid="devices" onClose={close}>
      <div class="mirror small">
        {camera.value === null ? (
          <div class="mirror-empty">The camera is off</div>
        ) : (
          <Video track={camera.value} mirrored label="Your camera" testid="devices-video" />
        )}
        {microphone.value !== null && <Level track={microphone.value} />}
      </div>
      <DeviceChoice />
    </Dialog>
  );
}
