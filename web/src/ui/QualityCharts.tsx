import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { nameOf, type Sampled, samples } from '../app/store';
import { type Measured, rate } from '../call/quality';

type Key = 'jitter' | 'packetLoss' | 'roundTripTime' | 'bandwidth';

const CHARTS: readonly { of: Key; label: string; unit: string; colour: string; least: number }[] = [
  { of: 'roundTripTime', label: 'Round trip', unit: 'ms', colour: '--chart-1', least: 20 },
  { of: 'jitter', label: 'Jitter', unit: 'ms', colour: '--chart-2', least: 20 },
  { of: 'packetLoss', label: 'Loss', unit: '%', colour: '--chart-3', least: 2 },
  { of: 'bandwidth', label: 'Received', unit: 'kbit/s', colour: '--chart-4', least: 100 },
];

/** Pixels. */
const HEIGHT = 84;

/** How each connection went, second by second. */
export function QualityCharts() {
  const chosen = useSignal<string | null>(null);
  const all = samples.value;
  const people = [...new Set(all.flatMap((one) => [...one.of.keys()]))];
  const userId = people.find((id) => id === chosen.value) ?? people[0];
  if (userId === undefined)
    return <p class="empty">While a call is connected, its quality is drawn here, per person.</p>;
  const last = all.at(-1)?.of.get(userId);
  return (
    <div class="charts" data-testid="charts">
      <fieldset class="chips" aria-label="Person">
        {people.map((id) => (
          <button
            key={id}
            type="button"
            class="chip"
            aria-pressed={id === userId}
            onClick={() => {
              chosen.value = id;
            }}
          >
            {nameOf(id)}
          </button>
        ))}
      </fieldset>
      {last !== undefined && <Summary sample={last} />}
      {CHARTS.map((chart) => (
        <Chart key={chart.of} {...chart} userId={userId} all={all} />
      ))}
    </div>
  );
}

function Summary({ sample }: { sample: Measured }) {
  const picture =
    sample.resolution === undefined
      ? 'no picture'
      : `${sample.resolution} at ${Math.round(sample.fps ?? 0)} frames/s, ${sample.codec ?? ''}`;
  return (
    <p class="chart-summary" data-testid="quality-summary">
      <strong class={`quality-${rate(sample)}`}>{rate(sample)}</strong> {picture}
    </p>
  );
}

interface ChartProps {
  of: Key;
  label: string;
  unit: string;
  colour: string;
  least: number;
  userId: string;
  all: readonly Sampled[];
}

function dataOf(all: readonly Sampled[], userId: string, key: Key): uPlot.AlignedData {
  return [all.map((one) => one.at / 1000), all.map((one) => one.of.get(userId)?.[key] ?? null)];
}

function Chart({ of: name, label, unit, colour, least, userId, all }: ChartProps) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  useEffect(() => {
    const host = place.current;
    if (host === null) return;
    const draw = () => {
      plot.current?.destroy();
      plot.current = new uPlot(optionsOf(host, colour, least), dataOf(samples.value, userId, name), host);
    };
    draw();
    // The colours are of the light or the dark scheme.
    const scheme = matchMedia('(prefers-color-scheme: dark)');
    scheme.addEventListener('change', draw);
    const resized = new ResizeObserver(() =>
      plot.current?.setSize({ width: host.clientWidth, height: HEIGHT }),
    );
    resized.observe(host);
    return () => {
      scheme.removeEventListener('change', draw);
      resized.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [userId]);
  useEffect(() => plot.current?.setData(dataOf(all, userId, name)), [all]);
  const value = all.at(-1)?.of.get(userId)?.[name];
  return (
    <figure class="chart">
      <figcaption>
        <span>{label}</span>
        <strong>
          {value === undefined ? '–' : Math.round(value * 10) / 10} {unit}
        </strong>
      </figcaption>
      <div ref={place} role="img" aria-label={`${label} over time, now ${value ?? 'unknown'} ${unit}`} />
    </figure>
  );
}

function optionsOf(host: HTMLElement, colour: string, least: number): uPlot.Options {
  const css = getComputedStyle(host);
  const of = (name: string) => css.getPropertyValue(name).trim();
  const axis = {
    stroke: of('--soft'),
    grid: { stroke: of('--hairline'), width: 1 },
    ticks: { show: false },
    font: '11px sans-serif',
  };
  return {
    width: host.clientWidth,
    height: HEIGHT,
    padding: [6, 4, 0, 0],
    legend: { show: false },
    cursor: { show: false },
    scales: { y: { range: (_plot, _low, high) => [0, Math.max(least, high * 1.15)] } },
    axes: [
      {
        ...axis,
        size: 20,
        values: (_plot, splits) => splits.map((at) => new Date(at * 1000).toTimeString().slice(3, 8)),
      },
      { ...axis, size: 40 },
    ],
    series: [
      {},
      {
        stroke: of(colour),
        width: 1.75,
        fill: `color-mix(in srgb, ${of(colour)} 14%, transparent)`,
        points: { show: false },
      },
    ],
  };
}
