import { useSignal } from '@preact/signals';
import { entries, nameOf, now } from '../app/store';
import type { CallView } from '../call/model';
import { isLive } from '../contract';
import { clock, stamp } from '../lib/time';
import { type Lane, lanes, marks } from '../lib/timeline';
import { titleOf } from './Log';

/** A call as it went: one lane for its state, one for each person, and each event as a tick. */
export function Timeline({ views }: { views: readonly CallView[] }) {
  const chosen = useSignal<string | null>(null);
  const view = views.find((one) => one.call.id === chosen.value) ?? views[0];
  if (view === undefined) return <p class="empty">A call will be drawn here, while it goes on and after.</p>;
  return (
    <div class="timeline" data-testid="timeline">
      <label class="field">
        <span>Call</span>
        <select
          value={view.call.id}
          onChange={(event) => {
            chosen.value = event.currentTarget.value;
          }}
        >
          {views.map((one) => (
            <option key={one.call.id} value={one.call.id}>
              {titleOf(one)}
            </option>
          ))}
        </select>
      </label>
      <Chart view={view} />
      <Legend />
    </div>
  );
}

function Chart({ view }: { view: CallView }) {
  const from = view.story[0]?.at ?? Date.parse(view.call.createdAt);
  const last = view.story.at(-1)?.at ?? from;
  const until = Math.max(from + 1000, isLive(view.call.state) ? now.value : last);
  const span = until - from;
  const at = (time: number) => `${(100 * Math.min(span, Math.max(0, time - from))) / span}%`;
  const events = entries.value.filter((entry) => entry.channel === 'event' && entry.callId === view.call.id);
  return (
    <div class="lanes">
      {lanes(view.story, until).map((lane) => (
        <LaneRow key={lane.who ?? ''} lane={lane} at={at} span={span} />
      ))}
      <div class="lane">
        <span class="lane-name">Events</span>
        <div class="lane-track ticks">
          {events.map((entry) => (
            <i
              key={entry.id}
              class={entry.direction}
              style={{ left: at(entry.at) }}
              title={`${stamp(entry.at)} ${entry.name}`}
            />
          ))}
        </div>
      </div>
      <div class="lane">
        <span class="lane-name" />
        <div class="lane-axis" aria-hidden="true">
          {marks(span).map((second) => (
            <span key={second} style={{ left: at(from + second * 1000) }}>
              {clock(second)}
            </span>
          ))}
        </div>
      </div>
    </div>
  );
}

function LaneRow({ lane, at, span }: { lane: Lane; at: (time: number) => string; span: number }) {
  const name = lane.who === null ? 'Call' : nameOf(lane.who);
  const words = lane.bars.map((bar) => `${bar.state} ${clock((bar.to - bar.from) / 1000)}`).join(', ');
  return (
    <div class="lane">
      <span class="lane-name">{name}</span>
      <div class="lane-track" role="img" aria-label={`${name}: ${words}`}>
        {lane.bars.map((bar) => (
          <span
            key={`${bar.state}${bar.from}`}
            class={`lane-bar ${bar.state} ${bar.to === bar.from ? 'end' : ''}`}
            style={{ left: at(bar.from), width: `${(100 * (bar.to - bar.from)) / span}%` }}
            title={`${bar.state} at ${stamp(bar.from)}`}
          >
            {(bar.to - bar.from) / span > 0.16 ? bar.state : ''}
          </span>
        ))}
      </div>
    </div>
  );
}

function Legend() {
  const shown = [
    ['ringing', 'asked, ringing'],
    ['connecting', 'connecting'],
    ['connected', 'connected'],
    ['reconnecting', 'reconnecting'],
    ['ended', 'over, left'],
    ['declined', 'not answered'],
  ] as const;
  return (
    <ul class="legend">
      {shown.map(([state, words]) => (
        <li key={state}>
          <i class={`lane-bar ${state}`} /> {words}
        </li>
      ))}
    </ul>
  );
}
