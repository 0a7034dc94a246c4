import { useSignal } from '@preact/signals';
import { calls, inspecting, past } from '../app/store';
import { IconButton } from './bits';
import { Log } from './Log';
import { QualityCharts } from './QualityCharts';
import { Timeline } from './Timeline';

const TABS = [
  { id: 'log', label: 'Log' },
  { id: 'timeline', label: 'Timeline' },
  { id: 'quality', label: 'Quality' },
] as const;

type Tab = (typeof TABS)[number]['id'];

/** What passes between this tab and the service, and what came of it. */
export function Inspector() {
  const tab = useSignal<Tab>('log');
  return (
    <aside class="inspector" aria-label="Inspector" data-testid="inspector">
      <header class="inspector-head">
        <Tabs
          chosen={tab.value}
          choose={(id) => {
            tab.value = id;
          }}
        />
        <IconButton
          icon="close"
          label="Close the inspector"
          testid="close-inspector"
          onClick={() => {
            inspecting.value = false;
          }}
        />
      </header>
      <div class="inspector-body" role="tabpanel" aria-labelledby={`tab-${tab.value}`}>
        {tab.value === 'log' && <Log />}
        {tab.value === 'timeline' && <Timeline views={[...calls.value.values(), ...past.value]} />}
        {tab.value === 'quality' && <QualityCharts />}
      </div>
    </aside>
  );
}

function Tabs({ chosen, choose }: { chosen: Tab; choose: (id: Tab) => void }) {
  const step = (by: number) => {
    const at = TABS.findIndex(({ id }) => id === chosen);
    const next = TABS[(at + by + TABS.length) % TABS.length];
    if (next === undefined) return;
    choose(next.id);
    document.getElementById(`tab-${next.id}`)?.focus();
  };
  return (
    <div
      class="tabs"
      role="tablist"
      aria-label="Inspector"
      onKeyDown={(event) => {
        if (event.key === 'ArrowRight') step(1);
        if (event.key === 'ArrowLeft') step(-1);
      }}
    >
      {TABS.map(({ id, label }) => (
        <button
          key={id}
          id={`tab-${id}`}
          type="button"
          role="tab"
          aria-selected={chosen === id}
          tabIndex={chosen === id ? 0 : -1}
          data-testid={`tab-${id}`}
          onClick={() => choose(id)}
        >
          {label}
        </button>
      ))}
    </div>
  );
}
