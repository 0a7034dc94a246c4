import type { ComponentChildren } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { nameOf } from '../app/store';
import { hueOf, initials } from '../lib/ids';
import { Icon, type IconName } from './icons';

/** Initials on a colour made from the id; the name stands beside it. */
export function Avatar({
  id,
  size = 36,
  online,
}: {
  id: string;
  size?: number;
  online?: boolean | undefined;
}) {
  const style = { '--hue': String(hueOf(id)), '--size': `${size}px` };
  return (
    <span class="avatar" style={style} aria-hidden="true">
      {initials(nameOf(id))}
      {online === true && <i class="avatar-dot" />}
    </span>
  );
}

interface ButtonProps {
  icon: IconName;
  label: string;
  onClick: () => void;
  testid: string;
  tone?: 'plain' | 'accent' | 'good' | 'bad' | 'off' | undefined;
  pressed?: boolean | undefined;
  expanded?: boolean | undefined;
  disabled?: boolean | undefined;
  /** The key that does the same. */
  keyName?: string;
  badge?: number | undefined;
  size?: number;
  children?: ComponentChildren;
}

/** A round button of one icon, with its name as a tooltip. */
export function IconButton(props: ButtonProps) {
  const {
    icon,
    label,
    onClick,
    testid,
    tone = 'plain',
    pressed,
    expanded,
    disabled,
    keyName,
    badge,
    size,
    children,
  } = props;
  return (
    <button
      type="button"
      class={`icon-button tone-${tone}`}
      data-testid={testid}
      data-tip={keyName === undefined ? label : `${label} (${keyName})`}
      aria-label={badge === undefined || badge === 0 ? label : `${label}, ${badge} new`}
      aria-pressed={pressed}
      aria-expanded={expanded}
      aria-keyshortcuts={keyName}
      disabled={disabled}
      onClick={onClick}
    >
      <Icon name={icon} size={size ?? 20} />
      {children}
      {badge !== undefined && badge > 0 && (
        <span class="badge" aria-hidden="true">
          {badge}
        </span>
      )}
    </button>
  );
}

interface DialogProps {
  label: string;
  testid: string;
  onClose: () => void;
  kind?: 'card' | 'sheet';
  children: ComponentChildren;
}

/** A dialog over the page while it is mounted; the browser keeps the focus in it and gives it back. */
export function Dialog({ label, testid, onClose, kind = 'card', children }: DialogProps) {
  const ref = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const dialog = ref.current;
    if (dialog === null) return;
    const before = document.activeElement;
    dialog.showModal();
    return () => {
      dialog.close();
      if (before instanceof HTMLElement) before.focus();
    };
  }, []);
  return (
    // A click beside the dialog closes it; by keyboard Esc does.
    <dialog
      ref={ref}
      class={`dialog dialog-${kind}`}
      aria-label={label}
      data-testid={testid}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      onClick={(event) => event.target === ref.current && onClose()}
    >
      <div class="dialog-body">
        <header class="dialog-head">
          <h2>{label}</h2>
          <IconButton icon="close" label="Close" testid={`${testid}-close`} onClick={onClose} />
        </header>
        {children}
      </div>
    </dialog>
  );
}

/** Four bars, as many filled as the connection is good; what was measured is in the tooltip and for a screen reader. */
export function Bars({ count, label }: { count: number; label: string }) {
  return (
    <span class={`bars bars-${count}`} role="img" aria-label={label} data-tip={label}>
      {[1, 2, 3, 4].map((bar) => (
        <i key={bar} class={bar <= count ? 'on' : ''} />
      ))}
    </span>
  );
}

/** A ring that empties: `left` of `whole`, in seconds. */
export function Countdown({ left, whole, size }: { left: number; whole: number; size: number }) {
  const round = 2 * Math.PI * 48;
  const share = whole <= 0 ? 0 : Math.min(1, Math.max(0, left / whole));
  return (
    <svg
      class="countdown"
      width={size}
      height={size}
      viewBox="0 0 100 100"
      aria-hidden="true"
      focusable="false"
    >
      <circle class="countdown-track" cx="50" cy="50" r="48" />
      <circle class="countdown-left" cx="50" cy="50" r="48" stroke-dasharray={`${round * share} ${round}`} />
    </svg>
  );
}
