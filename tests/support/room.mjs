// People in a room of a real LiveKit: pages of a real browser with the stock livekit-client, each in a context of its own.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { after } from 'node:test';
import WebSocket from 'ws';
import { launch } from '../../web/tests/support.mjs';
import { ROOT } from './service.mjs';
import { eventually } from './world.mjs';

/** How long a page may take for what needs LiveKit, milliseconds: a cold browser on busy cores included. */
const PATIENCE = 15_000;
/** LiveKit's client, as it is installed for the page of the service. */
const CLIENT = join(ROOT, 'web/node_modules/livekit-client/dist/livekit-client.umd.js');

const FILES = {
  '/': ['text/html', () => '<!doctype html><title>A guest</title><script src="client.js"></script>'],
  '/client.js': ['text/javascript', () => readFileSync(CLIENT)],
};

let browser;
let address;

/** Starts the browser for the tests of this file; it is closed after them. */
export async function openBrowser() {
  const server = createServer((request, response) => {
    const [type, read] = FILES[request.url] ?? ['text/plain', () => ''];
    response.writeHead(FILES[request.url] ? 200 : 404, { 'content-type': type }).end(read());
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  // Devices are there on a secure page only, which one of this machine is.
  address = `http://127.0.0.1:${server.address().port}/`;
  browser = await launch();
  after(async () => {
    await browser.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
}

/** Runs in the page, once: makes `window.guest`, which the functions below use. */
function furnish() {
  const { Room, RoomEvent, DisconnectReason, Track } = window.LivekitClient;
  const events = [];
  const log = (event, more = {}) => events.push({ event, at: Date.now(), ...more });
  let room;
  const options = {
    adaptiveStream: false,
    dynacast: false,
    // Who vanishes says no goodbye; who leaves does it by `leave`.
    disconnectOnPageLeave: false,
    videoCaptureDefaults: { resolution: { width: 160, height: 120, frameRate: 10 } },
    publishDefaults: { simulcast: false },
  };
  const of = (participant) => participant?.identity;
  // A client whose owner was put out while coming in does not connect again, so that each stay has one of its own.
  const renew = () => {
    const it = (room = new Room(options));
    it.on(RoomEvent.Connected, () => log('connected'))
      .on(RoomEvent.SignalReconnecting, () => log('signalReconnecting'))
      .on(RoomEvent.Reconnecting, () => log('reconnecting'))
      .on(RoomEvent.Reconnected, () => log('reconnected'))
      .on(RoomEvent.Disconnected, (reason) => log('disconnected', { reason: DisconnectReason[reason] }))
      .on(RoomEvent.ParticipantConnected, (it) => log('participantConnected', { identity: of(it) }))
      .on(RoomEvent.ParticipantDisconnected, (it) => log('participantDisconnected', { identity: of(it) }))
      .on(RoomEvent.TrackMuted, (track, it) => log('muted', { identity: of(it), source: track.source }))
      .on(RoomEvent.TrackUnmuted, (track, it) => log('unmuted', { identity: of(it), source: track.source }))
      .on(RoomEvent.LocalTrackPublished, (track) => log('published', { source: track.source }))
      .on(RoomEvent.LocalTrackUnpublished, (track) => log('unpublished', { source: track.source }))
      .on(RoomEvent.TrackUnpublished, (track, it) =>
        log('trackUnpublished', { identity: of(it), source: track.source }),
      )
      .on(RoomEvent.TrackSubscribed, (track, _, it) => {
        // What nobody looks at is not decoded.
        document.body.append(track.attach());
        log('trackSubscribed', { identity: of(it), source: track.source });
      })
      .on(RoomEvent.ParticipantPermissionsChanged, (_, it) => {
        if (it === room.localParticipant) log('permissions', { sources: it.permissions.canPublishSources });
      });
    return it;
  };

  const sizes = { resolution: { width: 320, height: 180, frameRate: 5 } };
  const own = (source) => room.localParticipant.getTrackPublication(source);
  const send = {
    [Track.Source.Microphone]: () => room.localParticipant.setMicrophoneEnabled(true),
    [Track.Source.Camera]: () => room.localParticipant.setCameraEnabled(true),
    [Track.Source.ScreenShare]: () => room.localParticipant.setScreenShareEnabled(true, sizes),
  };
  window.guest = {
    events,
    enter: (url, token) => renew().connect(url, token),
    async publish(source) {
      await send[source]();
    },
    async unpublish(source) {
      await room.localParticipant.unpublishTrack(own(source).track);
    },
    async mute(source) {
      await own(source).mute();
    },
    async unmute(source) {
      await own(source).unmute();
    },
    isMuted: (source) => own(source)?.isMuted,
    leave: () => room?.disconnect(),
    async received() {
      const all = {};
      for (const it of room.remoteParticipants.values()) {
        const sums = { frames: 0, packets: 0 };
        for (const { track } of it.trackPublications.values()) {
          const report = await track?.getRTCStatsReport();
          for (const stat of report?.values() ?? []) {
            if (stat.type !== 'inbound-rtp') continue;
            if (stat.kind === 'video') sums.frames += stat.framesDecoded ?? 0;
            else sums.packets += stat.packetsReceived ?? 0;
          }
        }
        all[it.identity] = sums;
      }
      return all;
    },
  };
}

/**
 * Has a device that is slow come in: LiveKit lets it in, and its media does not come up. Gives what makes it go; it says no goodbye.
 */
export async function comeSlowly(url, token) {
  const line = new WebSocket(`${url}/rtc?access_token=${token}&protocol=15&auto_subscribe=1`);
  await new Promise((resolve, reject) => {
    // The first that LiveKit says is that one is in.
    line.once('message', resolve);
    line.once('error', reject);
  });
  return () => line.terminate();
}

/** Somebody in a room. */
export class Guest {
  #context;
  #page;

  /** A page that is in no room. */
  static async arrive() {
    const guest = new Guest();
    guest.#context = await browser.newContext();
    guest.#page = await guest.#context.newPage();
    guest.#page.setDefaultTimeout(PATIENCE);
    await guest.#page.goto(address);
    await guest.#page.evaluate(furnish);
    return guest;
  }

  /** Goes into the room that the token is for, and sends what is to be published: 'microphone', 'camera', 'screen_share'. */
  static async join(url, token, { publish = ['microphone', 'camera'] } = {}) {
    const guest = await Guest.arrive();
    try {
      await guest.enter(url, token);
      for (const source of publish) await guest.publish(source);
      return guest;
    } catch (error) {
      await guest.close();
      throw error;
    }
  }

  /** Calls one of the functions that the page has. */
  #do(what, ...args) {
    const late = new Promise((_, reject) => {
      setTimeout(() => reject(new Error(`the page does not come to an end: ${what}`)), PATIENCE).unref();
    });
    const done = this.#page.evaluate(([name, all]) => window.guest[name](...all), [what, args]);
    return Promise.race([done, late]);
  }

  /** Goes into the room that the token is for, leaving none before. */
  enter(url, token) {
    return this.#do('enter', url, token);
  }

  publish(source) {
    return this.#do('publish', source);
  }

  unpublish(source) {
    return this.#do('unpublish', source);
  }

  /** Shows its screen. */
  share() {
    return this.publish('screen_share');
  }

  mute(source) {
    return this.#do('mute', source);
  }

  unmute(source) {
    return this.#do('unmute', source);
  }

  isMuted(source) {
    return this.#do('isMuted', source);
  }

  /** Leaves the room as an app does, and stays a page that can enter again. */
  leave() {
    return this.#do('leave');
  }

  /** Goes without a goodbye, as an app that was killed does: LiveKit finds out after some 20 s. */
  vanish() {
    return this.#context.close();
  }

  /** Goes, whatever it was doing. */
  async close() {
    await this.leave().catch(() => undefined);
    await this.#context.close();
  }

  /** What it has got from each other: `{identity: {frames, packets}}`, pictures that were decoded and packets of sound. */
  received() {
    return this.#do('received');
  }

  /** Waits until both picture and sound of `identity` (or those of `kinds`) go on coming. */
  async gets(identity, { kinds = ['frames', 'packets'], within = PATIENCE } = {}) {
    const sums = async () => (await this.received())[identity] ?? {};
    const begun = await sums();
    await eventually(
      `${kinds} of ${identity}`,
      async () => {
        const now = await sums();
        return kinds.every((it) => now[it] > (begun[it] ?? 0) + 4);
      },
      { within, every: 100 },
    );
  }

  /** What it has seen: `{event, at, ...}`. */
  events() {
    return this.#page.evaluate(() => window.guest.events);
  }

  /** The first such event, come already or still to come; `after` leaves out those before that time. */
  until(event, where = {}, { within = PATIENCE, after: from = 0 } = {}) {
    const fits = (it) =>
      it.event === event && it.at >= from && Object.entries(where).every(([key, value]) => it[key] === value);
    let seen = [];
    const look = async () => (seen = await this.events()).find(fits);
    return eventually(`${event} ${JSON.stringify(where)} in the room`, look, { within, every: 50 }).catch(
      (error) => {
        const all = seen.map((it) => JSON.stringify(it)).join('\n  ');
        throw new Error(`${error.message}; seen:\n  ${all}`);
      },
    );
  }
}
