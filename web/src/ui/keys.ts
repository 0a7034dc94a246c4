import { hangUp, toggleCamera, toggleMicrophone, toggleScreen } from '../app/calls';
import { canShareScreen } from '../app/media';
import { current, inspecting, panel, ringing } from '../app/store';
import { phaseOf } from './Stage';

/** M, V, S, P and Esc, while nothing is being typed. Returns what stops listening. */
export function watchKeys(): () => void {
  const onKey = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || isTyping(event.target)) return;
    if (event.key === 'Escape') onEscape();
    else if (current.value !== null && ringing.value.length === 0) letter(event.key.toLowerCase());
  };
  addEventListener('keydown', onKey);
  return () => removeEventListener('keydown', onKey);
}

function letter(key: string): void {
  if (key === 'm') void toggleMicrophone();
  else if (key === 'v') void toggleCamera();
  else if (key === 's' && canShareScreen()) void toggleScreen();
  else if (key === 'p') panel.value = panel.value === 'invite' ? 'none' : 'invite';
}

/** Closes what is open (an open dialog does so itself); takes back a call that rings; else goes to the red button, so that Esc and Enter hang up. */
function onEscape(): void {
  if (document.querySelector('dialog[open]') !== null) return;
  if (inspecting.value) inspecting.value = false;
  else if (phaseOf() === 'ringing') void hangUp();
  else document.querySelector<HTMLElement>('[data-testid="hang-up"]')?.focus();
}

function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target instanceof HTMLInputElement) return target.type !== 'checkbox';
  return target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement;
}
