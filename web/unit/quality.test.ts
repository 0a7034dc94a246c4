import { describe, expect, it } from 'vitest';
import { bars, measure, rate, summed } from '../src/call/quality';

const sample = (jitter: number, packetLoss: number, roundTripTime: number) => ({
  jitter,
  packetLoss,
  roundTripTime,
});

describe('the rating', () => {
  it.each([
    [sample(0, 0, 0), 'excellent'],
    [sample(19.9, 0.9, 99), 'excellent'],
    [sample(20, 0, 0), 'good'],
    [sample(0, 1, 0), 'good'],
    [sample(0, 0, 100), 'good'],
    [sample(39.9, 2.9, 199), 'good'],
    [sample(40, 0, 0), 'fair'],
    [sample(0, 3, 0), 'fair'],
    [sample(0, 0, 200), 'fair'],
    [sample(59, 4.9, 299), 'fair'],
    [sample(60, 0, 0), 'poor'],
    [sample(0, 5, 0), 'poor'],
    [sample(0, 0, 300), 'poor'],
  ] as const)('of %o is %s', (given, quality) => {
    expect(rate(given)).toBe(quality);
  });

  it('has more bars the better it is', () => {
    expect((['poor', 'fair', 'good', 'excellent'] as const).map(bars)).toEqual([1, 2, 3, 4]);
  });
});

const stats = [
  { id: 'p', type: 'candidate-pair', nominated: true, state: 'succeeded', currentRoundTripTime: 0.042 },
  { id: 'q', type: 'candidate-pair', nominated: false, state: 'waiting', currentRoundTripTime: 9 },
  {
    id: 'a',
    type: 'inbound-rtp',
    kind: 'audio',
    jitter: 0.004,
    packetsReceived: 500,
    packetsLost: 5,
    bytesReceived: 40_000,
  },
  {
    id: 'v',
    type: 'inbound-rtp',
    kind: 'video',
    jitter: 0.011,
    packetsReceived: 1000,
    packetsLost: 5,
    bytesReceived: 960_000,
    framesDecoded: 70,
    frameWidth: 640,
    frameHeight: 360,
    framesPerSecond: 24,
    codecId: 'c',
  },
  { id: 'c', type: 'codec', mimeType: 'video/VP8' },
];

describe('a sample', () => {
  it('is of the time since the one before', () => {
    const before = { at: 1000, bytes: 500_000, received: 500, lost: 0 };
    const { sample: got, counters } = measure(stats, before, 2000);
    expect(got).toEqual({
      jitter: 11,
      packetLoss: 0.99,
      roundTripTime: 42,
      bandwidth: 4000,
      framesDecoded: 70,
      resolution: '640x360',
      fps: 24,
      codec: 'VP8',
    });
    expect(counters).toEqual({ at: 2000, bytes: 1_000_000, received: 1500, lost: 10 });
  });

  it('is whole where nothing has come yet', () => {
    const { sample: got } = measure([], null, 1000);
    expect(got).toEqual({ jitter: 0, packetLoss: 0, roundTripTime: 0, bandwidth: 0, framesDecoded: 0 });
  });

  it('never has a negative figure when counters start over', () => {
    const { sample: got } = measure(stats, { at: 0, bytes: 9e9, received: 9e9, lost: 9e9 }, 1000);
    expect(got.bandwidth).toBe(0);
    expect(got.packetLoss).toBe(0);
  });
});

describe('several connections', () => {
  const one = { ...sample(10, 1, 50), bandwidth: 300, framesDecoded: 1 };

  it('are summed as means, bandwidth in all', () => {
    const two = {
      ...sample(20, 3, 150),
      bandwidth: 200,
      framesDecoded: 1,
      resolution: '320x180',
      fps: 10,
      codec: 'VP8',
    };
    expect(summed([one, two])).toEqual({
      jitter: 15,
      packetLoss: 2,
      roundTripTime: 100,
      bandwidth: 500,
      resolution: '320x180',
      fps: 10,
      codec: 'VP8',
    });
  });

  it('are nothing to tell where there is none', () => {
    expect(summed([])).toBeNull();
  });
});
