import { prepare, release } from '../app/media';
import { byName, camera, microphone, nameOf, online, picked, session } from '../app/store';
import { listed } from '../call/words';
import { DeviceChoice } from './Devices';
import { Icon } from './icons';
import { Level } from './Level';
import { LiveCalls, openRail } from './Stage';
import { Video } from './Video';

/** Nothing goes on: what one may do, and a look into the mirror. */
export function Idle() {
  const own = session.value;
  const others = online.value.filter((user) => user.userId !== own?.userId);
  const on = camera.value !== null || microphone.value !== null;
  return (
    <div class="idle" data-testid="idle">
      <LiveCalls />
      <div class="idle-card">
        <div class="mirror" data-testid="preview">
          {camera.value === null ? (
            <div class="mirror-empty">
              <Icon name={on ? 'cameraOff' : 'camera'} size={40} />
              <span>{on ? 'No picture' : 'Camera and microphone are off'}</span>
            </div>
          ) : (
            <Video track={camera.value} mirrored label="Your camera" testid="preview-video" />
          )}
          {microphone.value !== null && <Level track={microphone.value} />}
        </div>
        <div class="idle-text">
          <h2>{headline(others.length)}</h2>
          <p>{invitingWords(others.map((user) => user.userId))}</p>
          <span class="only-phone">
            <button type="button" class="button accent" data-testid="choose-people" onClick={openRail}>
              <Icon name="people" size={18} />{' '}
              {picked.value.size > 0 ? `${picked.value.size} picked` : 'Choose people'}
            </button>
          </span>
          {on ? (
            <>
              <DeviceChoice />
              <button type="button" class="button" data-testid="preview-off" onClick={release}>
                Turn off
              </button>
            </>
          ) : (
            <button
              type="button"
              class="button"
              data-testid="preview-on"
              onClick={() => void prepare({ audio: true, video: true })}
            >
              <Icon name="camera" size={18} /> Check camera and microphone
            </button>
          )}
        </div>
      </div>
    </div>
  );
}

function headline(others: number): string {
  return others === 0 && byName.value === true ? 'You are the first one here' : 'Who do you want to talk to?';
}

function invitingWords(others: string[]): string {
  if (byName.value !== true) return 'Add people by their user id, pick one or several, then call.';
  if (others.length === 0) {
    return 'Open this page in a second tab and sign in under another name: then call yourself.';
  }
  return `${listed(others, nameOf)} ${others.length === 1 ? 'is' : 'are'} online. Pick one or several, then call.`;
}
