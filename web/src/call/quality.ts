import type { Quality, QualitySample } from '../contract';

/** The service's own thresholds, so that the page never shows another rating than the service gives. */
const LIMITS: readonly { quality: Quality; jitter: number; packetLoss: number; roundTripTime: number }[] = [
  { quality: 'excellent', jitter: 20, packetLoss: 1, roundTripTime: 100 },
  { quality: 'good', jitter: 40, packetLoss: 3, roundTripTime: 200 },
  { quality: 'fair', jitter: 60, packetLoss: 5, roundTripTime: 300 },
];

/** The rating of a sample: jitter and round trip in milliseconds, loss in percent. */
export function rate(sample: Pick<QualitySample, 'jitter' | 'packetLoss' | 'roundTripTime'>): Quality {
  const met = LIMITS.find(
    (limit) =>
      sample.jitter < limit.jitter &&
      sample.packetLoss < limit.packetLoss &&
      sample.roundTripTime < limit.roundTripTime,
  );
  return met?.quality ?? 'poor';
}

/** 1 to 4 bars. */
export function bars(quality: Quality): number {
  return { poor: 1, fair: 2, good: 3, excellent: 4 }[quality];
}

/** The counters a sample is the difference of. */
export interface Counters {
  at: number;
  bytes: number;
  received: number;
  lost: number;
}

export interface Measured extends QualitySample {
  /** Video frames decoded since the connection began, all tracks. */
  framesDecoded: number;
}

/** Statistics as `RTCStatsReport` gives them; only the fields read here. */
export interface StatLike {
  type: string;
  id: string;
  [key: string]: unknown;
}

/**
 * One connection's sample from its statistics, and the counters for the next one. Loss and bandwidth are of
 * the time since `before`; jitter is the worst of the received tracks.
 */
export function measure(
  stats: Iterable<StatLike>,
  before: Counters | null,
  at: number,
): { sample: Measured; counters: Counters } {
  const all = [...stats];
  const inbound = all.filter((stat) => stat.type === 'inbound-rtp');
  const counters = {
    at,
    bytes: sum(inbound, 'bytesReceived'),
    received: sum(inbound, 'packetsReceived'),
    lost: sum(inbound, 'packetsLost'),
  };
  const since = before ?? { at: at - 1000, bytes: 0, received: 0, lost: 0 };
  const lost = Math.max(0, counters.lost - since.lost);
  const got = Math.max(0, counters.received - since.received);
  const video = inbound
    .filter((stat) => stat.kind === 'video')
    .sort((a, b) => num(b, 'frameWidth') - num(a, 'frameWidth'))[0];
  const sample: Measured = {
    jitter: round(Math.max(0, ...inbound.map((stat) => num(stat, 'jitter'))) * 1000, 1),
    packetLoss: lost + got === 0 ? 0 : round((100 * lost) / (lost + got), 2),
    roundTripTime: round(roundTrip(all) * 1000, 1),
    bandwidth: Math.round((8 * Math.max(0, counters.bytes - since.bytes)) / Math.max(1, at - since.at)),
    framesDecoded: sum(inbound, 'framesDecoded'),
    ...(video === undefined ? {} : videoFields(video, all)),
  };
  return { sample, counters };
}

function videoFields(video: StatLike, all: StatLike[]): Partial<QualitySample> {
  const codec = all.find((stat) => stat.id === video.codecId)?.mimeType;
  const width = num(video, 'frameWidth');
  return {
    ...(width > 0
      ? { resolution: `${width}x${num(video, 'frameHeight')}`, fps: num(video, 'framesPerSecond') }
      : {}),
    ...(typeof codec === 'string' ? { codec: codec.replace(/^(audio|video)\//, '') } : {}),
  };
}

function roundTrip(all: StatLike[]): number {
  const pair = all.find(
    (stat) => stat.type === 'candidate-pair' && stat.nominated === true && stat.state === 'succeeded',
  );
  return pair === undefined ? 0 : num(pair, 'currentRoundTripTime');
}

/** What to tell the service of several connections at once: the mean of each figure, bandwidth in all. */
export function summed(samples: readonly Measured[]): QualitySample | null {
  if (samples.length === 0) return null;
  const mean = (key: 'jitter' | 'packetLoss' | 'roundTripTime') =>
    round(samples.reduce((total, sample) => total + sample[key], 0) / samples.length, 2);
  const seen = samples.find((sample) => sample.resolution !== undefined);
  return {
    jitter: mean('jitter'),
    packetLoss: mean('packetLoss'),
    roundTripTime: mean('roundTripTime'),
    bandwidth: samples.reduce((total, sample) => total + sample.bandwidth, 0),
    ...(seen?.fps === undefined ? {} : { fps: seen.fps }),
    ...(seen?.resolution === undefined ? {} : { resolution: seen.resolution }),
    ...(seen?.codec === undefined ? {} : { codec: seen.codec }),
  };
}

function num(stat: StatLike, key: string): number {
  const value = stat[key];
  return typeof value === 'number' && Number.isFinite(value) ? value : 0;
}

function sum(stats: StatLike[], key: string): number {
  return stats.reduce((total, stat) => total + num(stat, key), 0);
}

function round(value: number, digits: number): number {
  const scale = 10 ** digits;
  return Math.round(value * scale) / scale;
}
