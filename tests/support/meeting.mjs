// Calls whose people are in a room of a real LiveKit: a service, the LiveKit that it uses, and the webhooks between them.
import { after } from 'node:test';
import { LiveKit } from './livekit.mjs';
import { Guest } from './room.mjs';
import { startService } from './service.mjs';
import { WebhookRelay } from './webhooks.mjs';
import { World } from './world.mjs';

/** One LiveKit, and services that use it, each with webhooks of its own. */
export class Venue {
  /** What becomes of the webhooks of a call's room, as `WebhookRelay` names it. */
  fates = new Map();
  #relays;
  #worlds = 0;

  /** Starts it with room for so many services. */
  static async open(services = 1) {
    const venue = new Venue();
    venue.#relays = await Promise.all(Array.from({ length: services }, () => WebhookRelay.open()));
    venue.livekit = await LiveKit.start({ webhookUrls: venue.#relays.map((it) => it.url) });
    after(async () => {
      await venue.livekit.stop();
      for (const relay of venue.#relays) await relay.close();
    });
    return venue;
  }

  /** Starts a service over it; it hears of its own calls alone, of all where it `hearsAll`. */
  async world(env = {}, { hearsAll = false, ...options } = {}) {
    const relay = this.#relays[this.#worlds];
    this.#worlds += 1;
    const start = () => startService({ env: { ...this.livekit.env, ...env }, ...options });
    const world = new World(await start(), { stops: false });
    Object.assign(world, { venue: this, relay: relay.to(world.service), rooms: new Set() });
    /** Starts it again, once it has ended, on the same data. */
    world.restart = async () => {
      world.service = await start();
      relay.to(world.service);
    };
    relay.rule = (it) => {
      if (!hearsAll && !world.rooms.has(it.room)) return 'drop';
      const fate = this.fates.get(it.room) ?? 'pass';
      return typeof fate === 'function' ? fate(it) : fate;
    };
    return world;
  }

  /** Who is in a call's room. */
  guests(call) {
    return this.livekit.api.participants(call.roomId).catch((error) => {
      if (error.status === 404) return [];
      throw error;
    });
  }

  async room(call) {
    const [room] = await this.livekit.api.rooms([call.roomId]);
    return room;
  }
}

/**
 * A call of `count` people, all of whom have joined it and have a device, and the first `present` of whom are in its room: `{call,
 * people}`, where each of the people has `device` and `ticket`, and there a `guest`. `fate` is that of its webhooks.
 */
export async function meet(
  world,
  { count = 2, present = count, fate = 'pass', publish = ['microphone'], ...options } = {},
) {
  const people = world.people(count);
  for (const it of people) it.device = await it.connect();
  const [host, ...others] = people;
  const participantIds = others.map((it) => it.id);
  const { call, token } = await host.want('POST', '/start', { type: 'video', participantIds, ...options });
  host.ticket = token;
  world.rooms.add(call.roomId);
  world.venue.fates.set(call.roomId, fate);
  for (const it of others) it.ticket = (await it.join(call)).token;
  await Promise.all(people.slice(0, present).map((it) => enterRoom(it, publish)));
  return { call, people };
}

/** Has one go into the room with the token that the service gave. */
export async function enterRoom(person, publish = ['microphone']) {
  person.guest = await Guest.join(person.ticket.url, person.ticket.token, { publish });
  return person.guest;
}

/** Waits until a device hears that the call has that state, and gives when it did, milliseconds since 1970. */
export async function heardState({ device }, call, state, options) {
  const data = await device.until('call:state_changed', { callId: call.id, state }, options);
  return device.log.find((it) => it.data === data).at;
}

/** Waits until a device hears that `who` is as `wanted` says: the participant. */
export async function heardOf({ device }, who, wanted, options) {
  const entries = Object.entries(wanted);
  const fits = (it) => it.userId === who.id && entries.every(([key, value]) => it.participant[key] === value);
  return (await device.until('call:participant_updated', fits, options)).participant;
}

/** Ends a call, and what is left of its pages. */
export async function part({ call, people }) {
  await people[0].end(call);
  await Promise.all(people.map((it) => it.guest?.close().catch(() => undefined)));
  for (const it of people) it.device.close();
}
