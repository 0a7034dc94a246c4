import { describe, expect, it } from 'vitest';
import { type Own, OwnSettings, SETTLE_MS } from '../src/call/own';
import type { Source } from '../src/contract';

const ON: Own = {
  connectionState: 'connected',
  audioEnabled: true,
  videoEnabled: true,
  screenShareEnabled: true,
};
const all = new Set<Source>(['audio', 'video', 'screen_share']);
const only = (...sources: Source[]) => new Set(sources);
const T = 1_000_000;

describe('what somebody else turned off', () => {
  it('is told at once where nothing of ours is under way, and once', () => {
    const own = new OwnSettings();
    own.heard(ON, { ...ON, audioEnabled: false }, all);
    expect(own.turnedOff(all, T)).toEqual(['audio']);
    expect(own.turnedOff(all, T)).toEqual([]);
    expect(own.due()).toBeNull();
  });

  it.each([
    ['video', 'videoEnabled'],
    ['screen_share', 'screenShareEnabled'],
  ] as const)('may be %s', (source, field) => {
    const own = new OwnSettings();
    own.heard(ON, { ...ON, [field]: false }, all);
    expect(own.turnedOff(all, T)).toEqual([source]);
  });

  it('may be several at once', () => {
    const own = new OwnSettings();
    own.heard(ON, { ...ON, audioEnabled: false, videoEnabled: false }, all);
    expect(own.turnedOff(all, T)).toEqual(['audio', 'video']);
  });

  it('is not what the service says of us before we are in', () => {
    const own = new OwnSettings();
    const asked: Own = { ...ON, connectionState: 'ringing' };
    own.heard(asked, { ...asked, videoEnabled: false }, all);
    expect(own.due()).toBeNull();
    own.heard({ ...asked, videoEnabled: false }, ON, all);
    expect(own.turnedOff(all, T)).toEqual([]);
  });

  it('is not the echo of what we turned off ourselves', () => {
    const own = new OwnSettings();
    own.changed('audio', T);
    own.heard(ON, { ...ON, audioEnabled: false }, only('video', 'screen_share'));
    expect(own.due()).toBeNull();
    expect(own.turnedOff(all, T + 10 * SETTLE_MS)).toEqual([]);
  });

  it('is not the late echo of off and on again', () => {
    const own = new OwnSettings();
    own.changed('video', T);
    own.changed('video', T + 100);
    const off = { ...ON, videoEnabled: false };
    own.heard(ON, off, all);
    expect(own.turnedOff(all, T + 200)).toEqual([]);
    own.heard(off, ON, all);
    expect(own.turnedOff(all, T + 10 * SETTLE_MS)).toEqual([]);
  });

  it('is believed after our own change has settled', () => {
    const own = new OwnSettings();
    own.changed('audio', T);
    own.heard(ON, { ...ON, audioEnabled: false }, all);
    expect(own.due()).toBe(T + SETTLE_MS);
    expect(own.turnedOff(all, T + SETTLE_MS - 1)).toEqual([]);
    expect(own.turnedOff(all, T + SETTLE_MS)).toEqual(['audio']);
  });

  it('is not what was off before, nor what is on in another respect', () => {
    const own = new OwnSettings();
    const off = { ...ON, audioEnabled: false };
    own.heard(off, off, all);
    own.heard(off, ON, all);
    own.heard(ON, ON, all);
    expect(own.turnedOff(all, T)).toEqual([]);
  });

  it('leaves what is wrongly said to be on, to be set right once settled', () => {
    const own = new OwnSettings();
    own.changed('audio', T);
    own.heard(ON, ON, only('video', 'screen_share'));
    expect(own.wronglyOn(only('video', 'screen_share'), T)).toEqual([]);
    expect(own.due()).toBe(T + SETTLE_MS);
    expect(own.wronglyOn(only('video', 'screen_share'), T + SETTLE_MS)).toEqual(['audio']);
    expect(own.wronglyOn(only('video', 'screen_share'), T + SETTLE_MS)).toEqual([]);
    expect(own.turnedOff(all, T + SETTLE_MS)).toEqual([]);
  });

  it.each([
    ['it is on here by then', ON, all],
    ['the service has said otherwise', { ...ON, audioEnabled: false }, only('video')],
  ])('leaves nothing to be set right where %s', (_, after, on) => {
    const own = new OwnSettings();
    own.changed('audio', T);
    own.heard(ON, { ...ON, videoEnabled: false, screenShareEnabled: false }, new Set());
    own.heard(ON, { ...after, videoEnabled: false, screenShareEnabled: false }, on);
    expect(own.wronglyOn(on, T + SETTLE_MS)).toEqual([]);
  });

  it('is nothing any more once we have turned it off ourselves, or the call is another', () => {
    const own = new OwnSettings();
    own.changed('audio', T);
    own.heard(ON, { ...ON, audioEnabled: false }, all);
    expect(own.turnedOff(only('video'), T + SETTLE_MS)).toEqual([]);
    expect(own.turnedOff(all, T + SETTLE_MS)).toEqual([]);
    own.heard(ON, { ...ON, audioEnabled: false }, all);
    own.forget();
    expect(own.turnedOff(all, T + SETTLE_MS)).toEqual([]);
  });
});
