// Nothing that was acknowledged is lost: the program is killed at random moments under load, started again on the same data,
// and what it then says is compared with what its clients had been told.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { difference, Known } from '../support/known.mjs';
import { pause, pick, random } from '../support/chance.mjs';
import { World } from '../support/world.mjs';

const KILLS = 20;
/** How many clients act at once, and how long they may until the power goes, milliseconds. */
const CLIENTS = 12;
const LOAD_MS = { min: 30, max: 400 };
const RING_SECONDS = 3600;
const ENV = { RINGING_TIMEOUT: String(RING_SECONDS), MAX_CALL_DURATION: '7200' };

/** All calls that were ever started, and what their clients know. */
class Ledger {
  calls = [];
  acknowledged = 0;
  interrupted = 0;

  /** One client: starts calls and goes on with those there are, one thing after the other, until the power goes. */
  async act(world, isOn) {
    while (isOn()) {
      const open = this.calls.filter((it) => !it.taken && !it.known.isOver);
      const one = open.length > 0 && Math.random() < 0.7 ? pick(open) : this.begin(world);
      one.taken = true;
      try {
        await this.advance(one);
      } finally {
        one.taken = false;
      }
    }
  }

  begin(world) {
    const people = world.people(2 + random(3));
    const one = {
      people,
      key: `start-${people[0].id}`,
      known: new Known(people),
      id: undefined,
      pending: undefined,
    };
    this.calls.push(one);
    return one;
  }

  /** Does one thing in a call and waits for the answer; what has no answer stays pending. */
  async advance(one) {
    const move = one.id ? pick(one.known.moves()) : { what: 'start' };
    if (!move) return;
    one.pending = move;
    const answer = await this.ask(one, move).catch(() => undefined);
    if (!answer) {
      this.interrupted += 1;
      return;
    }
    assert.ok(answer.body.success, `${move.what}: ${JSON.stringify(answer.body)}`);
    this.settle(one, answer);
  }

  settle(one, answer) {
    const { pending: move } = one;
    one.pending = undefined;
    this.acknowledged += 1;
    if (move.what === 'start') one.id = answer.body.data.call.id;
    else one.known = one.known.after(move);
    one.known.seq = Math.max(one.known.seq, answer.body.data?.call?.seq ?? 0);
    one.createdAt ??= answer.body.data?.call?.createdAt;
  }

  ask(one, { person, what }) {
    const [caller, ...others] = one.people;
    if (what !== 'start') return person.rest('POST', `/${one.id}/${what}`);
    const body = { type: 'audio', participantIds: others.map((it) => it.id) };
    return caller.rest('POST', '/start', body, { 'idempotency-key': one.key });
  }

  /** Compares every call that may have changed with what the service says; what was pending is then known too. */
  async compare(calls) {
    for (const one of calls) {
      if (!one.id) {
        // Asked again with the same key: there is one call, whether the first asking had come through or not.
        const answer = await this.ask(one, one.pending);
        assert.ok([200, 201].includes(answer.status), JSON.stringify(answer.body));
        this.settle(one, answer);
        assert.equal((await one.people[0].want('GET', '/history')).pagination.total, 1);
      }
      const told = await one.people[0].details(one.id);
      const possible = [one.known, ...(one.pending ? [one.known.after(one.pending)] : [])];
      const differences = possible.map((it) => difference(it, told));
      const match = differences.lastIndexOf(undefined);
      assert.notEqual(match, -1, `${one.id}: ${differences.join('; or: ')}\n${JSON.stringify(told)}`);
      one.known = possible[match];
      one.known.seq = told.call.seq;
      one.pending = undefined;
    }
  }
}

/** Of some calls that still ring: each invitee is rung until the moment it always was. */
async function deadlinesKept(calls) {
  for (const { id, createdAt, known } of calls) {
    const asked = known.people.find((it) => known.standing.get(it.id) === 'asked');
    if (!asked) continue;
    const device = await asked.connect();
    const { invitation } = device.sync.calls.find((it) => it.call.id === id);
    assert.equal(new Date(invitation.expiresAt) - new Date(createdAt), RING_SECONDS * 1000);
    device.close();
  }
}

test(
  `${KILLS} kills under load lose nothing that was acknowledged`,
  { timeout: 240_000 },
  async (context) => {
    const dataDir = mkdtempSync(join(tmpdir(), 'call-service-'));
    after(() => rmSync(dataDir, { recursive: true, force: true }));
    const ledger = new Ledger();
    const restarts = [];
    let world = await World.start(ENV, { dataDir });
    for (let kill = 0; kill < KILLS; kill += 1) {
      let on = true;
      const begun = ledger.calls.length;
      const clients = Array.from({ length: CLIENTS }, () => ledger.act(world, () => on));
      await pause(LOAD_MS.min + random(LOAD_MS.max - LOAD_MS.min));
      const ended = world.abandon();
      on = false;
      await Promise.all([ended, ...clients]);
      const before = Date.now();
      world = await World.start(ENV, { dataDir });
      restarts.push(Date.now() - before);
      for (const { people } of ledger.calls) for (const person of people) person.world = world;
      const touched = ledger.calls.filter((it, index) => index >= begun || it.pending || !it.known.isOver);
      await ledger.compare(touched);
      const ringing = ledger.calls.filter((it) => it.known.state === 'ringing');
      await deadlinesKept(ringing.slice(-3));
    }
    await ledger.compare(ledger.calls);
    const stats = await world.person().want('GET', '/stats');
    assert.equal(stats.totalCalls, ledger.calls.length, 'every call is there exactly once');
    assert.equal(stats.activeCalls, ledger.calls.filter((it) => !it.known.isOver).length);
    await world.close();
    const slowest = Math.max(...restarts);
    context.diagnostic(
      `${KILLS} kills, ${ledger.calls.length} calls, ${ledger.acknowledged} acknowledgements kept, ` +
        `${ledger.interrupted} requests cut off, restarts in ${Math.min(...restarts)} to ${slowest} ms`,
    );
  },
);
