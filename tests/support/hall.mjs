// Nodes over one LiveKit: a way before its API that keeps what it was asked, and a watch that no room of a live call ever goes.
import { after } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { Cluster } from './cluster.mjs';
import { Egress } from './egress.mjs';
import { LiveKit } from './livekit.mjs';
import { webhookUrl, WebhookRelay } from './webhooks.mjs';

/** How often the watch looks, milliseconds. */
const WATCH_MS = 40;

/** A way before LiveKit's API, with a stand-in for its egress: what it was asked, by the names of the methods. */
export class Gate extends Egress {
  rpcs = [];
  /** What is done of a method instead of passing it on: gets what passes it on. */
  rules = {};

  async answer(request, body) {
    const method = request.url.split('/').at(-1);
    this.rpcs.push(method);
    const pass = () => super.answer(request, body);
    return this.rules[method] ? this.rules[method](pass) : pass();
  }

  /** How often a method was asked. */
  times(method) {
    return this.rpcs.filter((it) => it === method).length;
  }
}

/** Looks at LiveKit's rooms all the time: the room of a call that is being watched has to stay, and stay the same. */
export class Watch {
  /** What went wrong. */
  faults = [];
  looks = 0;
  #rooms = new Map();
  #on = true;

  constructor(livekit) {
    this.livekit = livekit;
    this.looking = this.#look();
  }

  async #look() {
    while (this.#on) {
      // Those that are watched from before to after: the others come and go.
      const before = new Map(this.#rooms);
      const found = await this.livekit.api.rooms().catch(() => undefined);
      const sids = new Map(found?.map((it) => [it.name, it.sid]));
      for (const [name, sid] of found ? before : []) {
        if (this.#rooms.get(name) !== sid || sids.get(name) === sid) continue;
        this.faults.push(`${name} was ${sid} and is ${sids.get(name) ?? 'gone'}`);
        this.#rooms.delete(name);
      }
      this.looks += 1;
      await pause(WATCH_MS);
    }
  }

  /** From now on the call's room has to be there; gives it. */
  async keep({ roomId }) {
    const [room] = await this.livekit.api.rooms([roomId]);
    if (!room) throw new Error(`no room of a live call: ${roomId}`);
    this.#rooms.set(roomId, room.sid);
    return room;
  }

  /** From now on it may go. */
  release({ roomId }) {
    this.#rooms.delete(roomId);
  }

  async stop() {
    this.#on = false;
    await this.looking;
  }
}

/** A cluster over a LiveKit, whose webhooks all go to one node, and a watch: `{livekit, gate, relay, cluster, watch}`. */
export async function openHall({ hook = 1, env, ...options } = {}) {
  const relay = await WebhookRelay.open();
  const livekit = await LiveKit.start({ webhookUrls: [relay.url] });
  const gate = await Gate.open(livekit);
  const watch = new Watch(livekit);
  const cluster = await Cluster.start({ redis: 'single', env: { ...gate.env, ...env }, ...options });
  relay.target = webhookUrl(cluster.node(hook));
  after(async () => {
    await watch.stop();
    await Promise.all([gate.close(), livekit.stop(), relay.close()]);
  });
  return { livekit, gate, relay, cluster, watch };
}
