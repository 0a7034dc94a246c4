import { useComputed, useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { calls, entries, nameOf, past, paused, session } from '../app/store';
import type { CallView } from '../call/model';
import { listed } from '../call/words';
import { type Channel, type Entry, exported, filtered } from '../lib/log';
import { sizeWords, stamp } from '../lib/time';
import { IconButton } from './bits';
import { Icon } from './icons';

const CHANNELS: readonly { id: Channel; label: string }[] = [
  { id: 'event', label: 'Events' },
  { id: 'rest', label: 'REST' },
  { id: 'media', label: 'Media' },
  { id: 'line', label: 'Line' },
];

/** How many of the matching entries are drawn; older ones are found by the filter, and are in the export. */
const MOST_DRAWN = 300;

export function Log() {
  const text = useSignal('');
  const callId = useSignal<string | null>(null);
  const routine = useSignal(false);
  const channels = useSignal<ReadonlySet<Channel>>(new Set(CHANNELS.map(({ id }) => id)));
  const open = useSignal<number | null>(null);
  const found = useComputed(() =>
    filtered(entries.value, {
      text: text.value,
      callId: callId.value,
      channels: channels.value,
      routine: routine.value,
    }),
  );
  const toggle = (id: Channel) => {
    const next = new Set(channels.value);
    if (!next.delete(id)) next.add(id);
    channels.value = next;
  };
  return (
    <div class="log">
      <div class="log-tools">
        <label class="search">
          <Icon name="search" size={16} />
          <input
            type="search"
            data-testid="log-filter"
            aria-label="Filter by event or path"
            placeholder="Filter, e.g. webrtc offer"
            value={text.value}
            onInput={(event) => {
              text.value = event.currentTarget.value;
            }}
          />
        </label>
        <LogActions found={found.value} />
      </div>
      <fieldset class="log-tools chips" aria-label="What is shown">
        {CHANNELS.map(({ id, label }) => (
          <Chip key={id} id={id} label={label} on={channels.value.has(id)} onClick={() => toggle(id)} />
        ))}
        <Chip
          id="routine"
          label="Polling"
          on={routine.value}
          onClick={() => {
            routine.value = !routine.value;
          }}
        />
        <CallFilter
          value={callId.value}
          choose={(id) => {
            callId.value = id;
          }}
        />
      </fieldset>
      <Rows found={found.value} open={open} />
    </div>
  );
}

function Chip({ id, label, on, onClick }: { id: string; label: string; on: boolean; onClick: () => void }) {
  return (
    <button type="button" class="chip" aria-pressed={on} data-testid={`log-show-${id}`} onClick={onClick}>
      {label}
    </button>
  );
}

/** The calls this tab has seen, as a person would name them. */
function CallFilter({ value, choose }: { value: string | null; choose: (id: string | null) => void }) {
  const all = [...calls.value.values(), ...past.value];
  return (
    <select
      data-testid="log-call"
      aria-label="Call"
      value={value ?? ''}
      onChange={(event) => choose(event.currentTarget.value === '' ? null : event.currentTarget.value)}
    >
      <option value="">All calls</option>
      {all.map((view) => (
        <option key={view.call.id} value={view.call.id}>
          {titleOf(view)}
        </option>
      ))}
    </select>
  );
}

export function titleOf(view: CallView): string {
  const me = session.value?.userId ?? '';
  const who = listed(
    [...view.participants.keys()].filter((id) => id !== me),
    nameOf,
  );
  return `${who}, ${stamp(Date.parse(view.call.createdAt)).slice(0, 8)}`;
}

function LogActions({ found }: { found: readonly Entry[] }) {
  const save = () => {
    const link = document.createElement('a');
    link.href = URL.createObjectURL(new Blob([exported(found)], { type: 'application/json' }));
    link.download = `call-console-${new Date().toISOString().replace(/[:.]/g, '-')}.json`;
    link.click();
    URL.revokeObjectURL(link.href);
  };
  return (
    <>
      <IconButton
        icon={paused.value ? 'play' : 'pause'}
        label={paused.value ? 'Go on recording' : 'Pause recording'}
        testid="log-pause"
        pressed={paused.value}
        onClick={() => {
          paused.value = !paused.value;
        }}
      />
      <IconButton
        icon="trash"
        label="Clear the log"
        testid="log-clear"
        onClick={() => {
          entries.value = [];
        }}
      />
      <IconButton icon="download" label="Export what is shown" testid="log-export" onClick={save} />
    </>
  );
}

function Rows({ found, open }: { found: readonly Entry[]; open: { value: number | null } }) {
  const ref = useRef<HTMLDivElement>(null);
  const stuck = useRef(true);
  const drawn = found.slice(-MOST_DRAWN);
  useEffect(() => {
    const list = ref.current;
    if (list !== null && stuck.current) list.scrollTop = list.scrollHeight;
  }, [found]);
  if (found.length === 0) return <p class="empty">Nothing has passed that matches.</p>;
  return (
    <section
      class="log-rows"
      ref={ref}
      // A region that scrolls must be reachable by keyboard.
      tabIndex={0}
      aria-label="Log entries"
      data-testid="log-rows"
      onScroll={(event) => {
        const list = event.currentTarget;
        stuck.current = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
      }}
    >
      {found.length > drawn.length && (
        <p class="empty">
          The last {drawn.length} of {found.length}.
        </p>
      )}
      {drawn.map((entry) => (
        <Row
          key={entry.id}
          entry={entry}
          open={open.value === entry.id}
          onClick={() => {
            open.value = open.value === entry.id ? null : entry.id;
          }}
        />
      ))}
    </section>
  );
}

function Row({ entry, open, onClick }: { entry: Entry; open: boolean; onClick: () => void }) {
  const arrow = entry.direction === 'out' ? '↑' : '↓';
  const words = entry.direction === 'out' ? 'sent' : 'received';
  return (
    <div class={`log-row ${entry.channel} ${entry.direction} ${entry.failed ? 'failed' : ''}`}>
      <button
        type="button"
        aria-expanded={open}
        data-testid="log-row"
        data-name={entry.name}
        onClick={onClick}
      >
        <time>{stamp(entry.at)}</time>
        <span class="log-arrow" role="img" aria-label={words}>
          {arrow}
        </span>
        <span class="log-name">{shorter(entry.name)}</span>
        {entry.status !== null && <span class="log-status">{entry.status}</span>}
        <span class="log-took">{entry.took === null ? '' : `${entry.took} ms`}</span>
        <span class="log-size">{entry.size === 0 ? '' : sizeWords(entry.size)}</span>
      </button>
      {open && <Detail entry={entry} />}
    </div>
  );
}

/** Call ids take the whole line, and are all in the JSON. */
function shorter(name: string): string {
  return name.replace('/api/v1', '').replace(/([0-9a-f]{8})-[0-9a-f-]{27}/gi, '$1…');
}

function Detail({ entry }: { entry: Entry }) {
  return (
    <div class="log-detail" data-testid="log-detail">
      <Json title={entry.direction === 'out' ? 'Sent' : 'Received'} value={entry.data} />
      {entry.reply !== undefined && (
        <Json title={entry.channel === 'rest' ? 'Answer' : 'Ack'} value={entry.reply} />
      )}
    </div>
  );
}

function Json({ title, value }: { title: string; value: unknown }) {
  if (value === undefined) return null;
  return (
    <section>
      <h4>{title}</h4>
      {/* A region that scrolls must be reachable by keyboard. */}
      <pre tabIndex={0}>{JSON.stringify(value, null, 2)}</pre>
    </section>
  );
}
