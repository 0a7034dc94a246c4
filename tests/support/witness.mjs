// A random life of calls over all nodes, and who watches it: what was acknowledged, what every device heard, and whether what the nodes and
// Postgres say in the end is what had been told. The invariants by their names are those of the faults' list: I1 to I10.
import assert from 'node:assert/strict';
import { pause, pick, random, shuffled } from './chance.mjs';
import { difference, Known } from './known.mjs';
import { eventually } from './world.mjs';

/** Settings that keep timers out of it: what ends here is ended by somebody. */
export const LIFE_ENV = { RINGING_TIMEOUT: '3600', ALONE_TIMEOUT: '3600', MAX_CALL_DURATION: '7200' };

/** The most that are ever asked into one call. */
const PEOPLE_MAX = 6;
/** How long somebody with a device is given to be back, and nodes to agree, milliseconds. */
const SETTLED_MS_MAX = 15_000;
/** How many requests a check has open at once. */
const BATCH = 40;

/** What is final where it is an answer: anything else is asked again. */
const FINAL = new Set([
  ...['invalid_request', 'unauthorized', 'forbidden', 'not_invited', 'removed', 'not_found'],
  ...['already_in_call', 'busy', 'call_full', 'not_joined', 'conflict', 'call_over'],
]);

/** By how much the numbers of a call's events jump when it comes to another owner. */
const OWNED_SEQS = 1_000_000;

/**
 * The events that the next owner went on from. What a node had told its own journal when it died, and nobody else, stays in the story,
 * and nothing follows from it.
 */
function surviving(story) {
  const owner = (it) => Math.floor(it.seq / OWNED_SEQS);
  let next;
  return story
    .toReversed()
    .filter((it) => {
      const last = next && next.seq - 1 - (owner(next) - owner(it)) * OWNED_SEQS;
      if (next && owner(it) !== owner(next) && it.seq > last) return false;
      next = it;
      return true;
    })
    .toReversed();
}

/** What may be lost when a node dies, and with it the number that it had. */
const PASSING = [
  'call:participant_updated',
  'call:quality_changed',
  'call:ringing',
  'call:handled_elsewhere',
];

/** How each move is made by socket, and by request where it can be. */
const MOVES = {
  join: { event: () => 'call:accept', path: 'join' },
  end: { event: (standing) => (standing === 'asked' ? 'call:decline' : 'call:end'), path: 'end' },
  invite: { event: () => 'call:invite', data: ({ whom }) => ({ participantIds: [whom.id] }) },
  remove: { event: () => 'call:remove_participant', data: ({ whom }) => ({ userId: whom.id }) },
};

const JOINED = ['connecting', 'connected', 'reconnecting'];
const SEATED = [...JOINED, 'ringing'];

const isFinal = (answer) => answer?.success || FINAL.has(answer?.code);
const codeOf = (answer) => (answer.success ? undefined : answer.code);
const clock = (at = Date.now()) => new Date(at).toISOString().slice(11, 23);

/** One call and what became of it. */
class Lived {
  id;
  taken = false;
  log = [];

  constructor(people, key) {
    this.key = key;
    this.known = new Known(people);
    /** All who were ever asked. */
    this.people = this.known.people;
  }

  note(text) {
    this.log.push({ at: Date.now(), text });
  }
}

/** Does a list of things, some of them at once. */
async function eachOf(list, work) {
  for (let from = 0; from < list.length; from += BATCH) {
    await Promise.all(list.slice(from, from + BATCH).map(work));
  }
}

/** The life and its witness. */
export class Witness {
  calls = [];
  acknowledged = 0;
  /** The answers that took more than one try, by how many. */
  tries = new Map();
  /** Those that took more than two, and why. */
  slow = [];
  /** What no story tells, though it was done: by nodes that died before they answered. */
  gaps = 0;
  #free;
  #failure;

  constructor(cluster, { people, clients }) {
    this.cluster = cluster;
    this.clients = clients;
    this.people = cluster.people(people);
    this.#free = new Set(this.people);
  }

  /** `people` who call each other, two in three of them with a device, by so many `clients` at once; and an outsider at each node. */
  static async open(cluster, { people = 30, clients = 10 } = {}) {
    const it = new Witness(cluster, { people, clients });
    const some = it.people.filter((_, index) => index % 3 !== 0);
    await Promise.all(some.map(async (person) => (person.device = await person.connect())));
    it.outsiders = await Promise.all(
      cluster.nodes.map((_, at) => cluster.person('outsider', { at }).connect()),
    );
    return it;
  }

  /** Goes on until told to stop by `isOn`, or something is wrong. */
  async live(isOn) {
    const client = async () => {
      while (isOn() && !this.#failure) {
        const one = this.#choose();
        if (one) await this.#takeTurn(one);
        else await pause(20);
      }
    };
    await Promise.all(Array.from({ length: this.clients }, client));
    if (this.#failure) throw this.#failure;
  }

  /** Begins the life; `stop` ends it and gives what is wrong, if anything. */
  begin() {
    let on = true;
    const living = this.live(() => on);
    // It is looked at when it is stopped.
    living.catch(() => {});
    return { stop: () => ((on = false), living), failed: () => this.#failure };
  }

  #choose() {
    const open = this.calls.filter((it) => !it.taken && !it.known.isOver);
    if (open.length > 0 && (Math.random() < 0.75 || this.#free.size < 4)) return pick(open);
    if (this.#free.size < 4) return undefined;
    const people = shuffled([...this.#free]).slice(0, 2 + random(3));
    for (const it of people) this.#free.delete(it);
    const one = new Lived(people, `start-${this.calls.length}`);
    this.calls.push(one);
    return one;
  }

  async #takeTurn(one) {
    one.taken = true;
    try {
      await this.#advance(one);
      one.people = one.known.people;
      if (one.known.isOver) for (const it of one.people) this.#free.add(it);
    } catch (error) {
      this.#failure ??= await this.#explained(error, one);
    } finally {
      one.taken = false;
    }
  }

  async #advance(one) {
    if (!one.id) return this.#start(one);
    const turn = Math.random();
    if (turn < 0.1) return this.#toggle(one);
    if (turn < 0.2) return this.#signal(one);
    const moves = shuffled(this.#moves(one));
    if (moves.length === 0) return undefined;
    const [first] = moves;
    const other = moves.find((it) => it.person !== first.person && !it.whom && !first.whom);
    return other && turn < 0.4 ? this.#moveBoth(one, first, other) : this.#move(one, first);
  }

  /** What may sensibly be done now. */
  #moves({ known }) {
    const [host] = known.people;
    const moves = known.moves();
    if (!known.isGroup && known.state === 'ringing') return [...moves, ...this.#invitations(known, host)];
    const away = [...known.those('left'), ...known.those('declined')];
    moves.push(...away.map((person) => ({ person, what: 'join' })));
    const inside = known.those('in').filter((it) => it !== host);
    if (known.isGroup && host.device && inside.length > 0 && Math.random() < 0.2) {
      moves.push({ person: host, what: 'remove', whom: pick(inside) });
    }
    return [...moves, ...this.#invitations(known, host)];
  }

  #invitations(known, host) {
    if (!host.device || known.people.length >= PEOPLE_MAX || this.#free.size === 0 || Math.random() < 0.7)
      return [];
    return [{ person: host, what: 'invite', whom: pick([...this.#free]) }];
  }

  async #start(one) {
    const [caller, ...others] = one.known.people;
    const body = { type: 'audio', participantIds: others.map((it) => it.id) };
    const headers = { 'idempotency-key': one.key };
    const answer = await this.#insist(one, caller, 'start', ['POST', '/start', body, headers]);
    assert.ok([200, 201].includes(answer.status), JSON.stringify(answer.body));
    one.id = answer.body.data.call.id;
    one.createdAt = answer.body.data.call.createdAt;
    this.acknowledged += 1;
  }

  /** Does one thing, which has to be done. */
  async #move(one, move) {
    if (move.what === 'invite') this.#free.delete(move.whom);
    const { refusal, isAskedAgain } = await this.#make(one, move);
    assert.equal(refusal, undefined, `${move.what} by ${move.person.id}: ${refusal}`);
    const next = one.known.after(move);
    one.known = isAskedAgain ? next.askedAgain(one.known) : next;
    this.acknowledged += 1;
  }

  /** Two things at once, at two nodes: whichever came first, what follows has to be what follows from that. */
  async #moveBoth(one, ...moves) {
    const answers = await Promise.all(moves.map((it) => this.#make(one, it)));
    const refusals = answers.map((it) => it.refusal);
    const orders = [
      [0, 1],
      [1, 0],
    ].flatMap((order) => {
      let known = one.known;
      for (const index of order) {
        // What was refused at last may have been done at a try without an answer.
        const perhaps = refusals[index] !== undefined && answers[index].isAskedAgain;
        if (!perhaps && known.takes(moves[index]) !== (refusals[index] === undefined)) return [];
        known = known.after(moves[index]);
      }
      return [known];
    });
    assert.notEqual(orders.length, 0, `${moves.map((it) => it.what)}: ${refusals}, in no order`);
    this.acknowledged += refusals.filter((it) => !it).length;
    const next = orders.length === 1 ? orders[0] : await this.#whichOf(one, orders);
    one.known = answers.some((it) => it.isAskedAgain) ? next.askedAgain(one.known) : next;
    answers.forEach(({ refusal, isAskedAgain }, index) => {
      if (refusal && isAskedAgain) one.known = one.known.perhapsDone(moves[index]);
    });
  }

  /** Which of these it is, as soon as a node says one of them. */
  async #whichOf(one, possible) {
    const end = Date.now() + SETTLED_MS_MAX;
    for (;;) {
      const { body } = await this.#insist(one, one.known.people[0], 'look', ['GET', `/${one.id}`]);
      const differences = possible.map((it) => difference(it, body.data));
      const found = possible.filter((_, index) => differences[index] === undefined);
      if (found.length > 0) return found.reduce((one, other) => one.or(other));
      assert.ok(Date.now() < end, `${differences.join('; or: ')}\n${JSON.stringify(body.data)}`);
      await pause(200);
    }
  }

  /**
   * Does it: the code of a refusal, and whether it was asked for more than once. Where a node is killed meanwhile, another may have asked
   * the dead one, and whoever took over from it, in place of the client.
   */
  async #make(one, move) {
    const since = Date.now();
    const { refusal, tries } = await this.#askFor(one, move);
    const isKill = ({ at, text }) => at >= since && text.endsWith(' is killed');
    return { refusal, isAskedAgain: tries > 1 || this.cluster.events.some(isKill) };
  }

  /** Asks for it, by socket or by request, until there is an answer: the code of a refusal, and after how many tries. */
  async #askFor(one, move) {
    const { path } = MOVES[move.what];
    if (!path) return this.#insistBySocket(one, move);
    const bySocket = move.person.device?.isConnected && Math.random() < 0.5;
    const first = bySocket ? await this.#askBySocket(one, move) : undefined;
    if (isFinal(first)) return this.#answered(first, 1);
    const request = ['POST', `/${one.id}/${path}`];
    const answer = await this.#insist(one, move.person, path, request, bySocket ? 1 : 0);
    return { refusal: codeOf(answer.body), tries: answer.tries };
  }

  /** For what can't be asked by request: until there is an answer, wherever the device is by then. */
  async #insistBySocket(one, move) {
    const { device, id } = move.person;
    const within = SETTLED_MS_MAX;
    const end = Date.now() + within;
    for (let tries = 1; ; tries += 1) {
      await eventually(`${id} is connected`, () => device.isConnected, { within });
      const answer = await this.#askBySocket(one, move);
      if (isFinal(answer)) return this.#answered(answer, tries);
      assert.ok(Date.now() < end, `${move.what}: no answer`);
      await pause(1000);
    }
  }

  #answered(answer, tries) {
    this.tries.set(tries, (this.tries.get(tries) ?? 0) + 1);
    return { refusal: codeOf(answer), tries };
  }

  async #askBySocket(one, move) {
    const { device } = move.person;
    const { event, data } = MOVES[move.what];
    const name = event(one.known.standing.get(move.person.id));
    const { node } = device;
    const said = await device.ask(name, { callId: one.id, ...data?.(move) }).catch(() => undefined);
    const what = said ? (said.success ? 'done' : said.code) : 'no answer';
    one.note(`${move.person.id} ${name} ${move.whom?.id ?? ''} at ${node.name}: ${what}`);
    return said;
  }

  async #insist(one, person, what, request, before = 0) {
    const begun = Date.now();
    const answer = await person.insist(...request);
    const { tries } = this.#answered(answer.body, before + answer.tries);
    const more = tries > 1 ? `, ${tries} tries (${answer.reasons})` : '';
    if (tries > 2) this.slow.push(`${person.id} ${what} ${one.id}: ${answer.reasons}`);
    one.note(`${person.id} ${what}: ${answer.body.code ?? answer.status} in ${Date.now() - begun} ms${more}`);
    return { ...answer, tries };
  }

  async #toggle(one) {
    const inside = one.known.those('in');
    if (inside.length === 0) return;
    const person = pick(inside);
    const body = { audioEnabled: Math.random() < 0.5 };
    const { status } = await this.#insist(one, person, 'toggle', ['PATCH', `/${one.id}/participant`, body]);
    assert.equal(status, 200, 'toggle');
  }

  #signal(one) {
    const [from, to] = shuffled(one.known.those('in'));
    if (!to || !from.device?.isConnected) return;
    from.device.tell('webrtc:ice_candidate', { callId: one.id, targetUserId: to.id, candidate: one.id });
  }

  /** Ends all that lives, and sees that every node and Postgres say what was acknowledged. */
  async finish() {
    await this.check();
    const open = this.calls.filter((it) => !it.known.isOver);
    await eachOf(open, async (one) => {
      const move = { person: one.known.people[0], what: 'end' };
      await this.#move(one, move).catch(async (error) => {
        throw await this.#explained(error, one);
      });
    });
    await this.cluster.idle();
    await this.check();
    const living = await this.cluster.postgres.one('SELECT count(*) FROM calls WHERE ended_at IS NULL');
    assert.equal(living, '0', 'I7: every call ends');
  }

  /** Holds all nodes, Postgres and all devices to what is known. */
  async check() {
    if (this.#failure) throw this.#failure;
    await this.cluster.flushed();
    this.gaps = 0;
    const rows = await this.#rows();
    await eachOf(this.calls, async (one) => {
      if (!one.id) return;
      try {
        await this.#checkNodes(one);
        this.#checkRows(one, rows);
      } catch (error) {
        throw await this.#explained(error, one, rows.get(one.id));
      }
    });
    const own = new Set(this.people.map((it) => it.id));
    // A start that was never answered, since its node died, is failed when that is back.
    const unknown = [...rows.keys()].filter(
      (id) =>
        rows.get(id).participants.some((it) => own.has(it.userId)) &&
        rows.get(id).state !== 'failed' &&
        !this.calls.some((it) => it.id === id),
    );
    assert.deepEqual(unknown, [], 'I1: calls that nobody was told of');
    await this.#checkActive();
    this.#checkDevices(rows);
  }

  async #checkNodes(one) {
    const [host] = one.known.people;
    const { call, participants } = await this.cluster.oneTruth(host, one.id, { within: SETTLED_MS_MAX });
    assert.equal(difference(one.known, { call, participants }), undefined);
    const seats = participants.filter((it) => SEATED.includes(it.connectionState)).length;
    assert.ok(seats <= call.maxParticipants, `I5: ${seats} of ${call.maxParticipants}`);
    one.known.seq = call.seq;
  }

  /** What Postgres has of each call. */
  async #rows() {
    const { postgres } = this.cluster;
    const [calls, participants, events] = await Promise.all([
      postgres.sql('SELECT id, state, end_reason, epoch, seq FROM calls'),
      postgres.sql('SELECT call_id, user_id, connection_state FROM call_participants'),
      postgres.sql(
        `SELECT call_id, seq, name, data::jsonb ->> 'userId', at FROM call_events ORDER BY call_id, seq`,
      ),
    ]);
    const all = new Map(
      calls.map(([id, state, reason, epoch, seq]) => [
        id,
        { state, reason, epoch: Number(epoch), seq: Number(seq), participants: [], story: [] },
      ]),
    );
    for (const [id, userId, connectionState] of participants) {
      all.get(id)?.participants.push({ userId, connectionState });
    }
    for (const [id, seq, name, userId, at] of events) {
      all.get(id)?.story.push({ seq: Number(seq), name, userId, at: Number(at) });
    }
    return all;
  }

  #checkRows({ id, known }, rows) {
    const row = rows.get(id);
    assert.ok(row, 'I1: it is not in Postgres');
    const { participants, state, seq, epoch } = row;
    assert.equal(
      difference(known, { call: { state, seq: Infinity }, participants }),
      undefined,
      'I1: Postgres',
    );
    assert.ok(epoch >= 1);
    const seqs = row.story.map((it) => it.seq);
    assert.ok(
      seqs.every((it, index) => index === 0 || it > seqs[index - 1]),
      `I3: numbers in the story: ${seqs}`,
    );
    assert.ok(seqs.at(-1) <= seq, `I3: the story goes to ${seqs.at(-1)}, the call to ${seq}`);
    const story = surviving(row.story);
    const names = {
      joined: 'call:participant_joined',
      declined: 'call:declined',
      left: 'call:participant_left',
    };
    for (const person of known.people) {
      for (const [what, name] of Object.entries(names)) {
        const told = story.filter((it) => it.name === name && it.userId === person.id).length;
        const key = `${what} ${person.id}`;
        const count = known.told.get(key) ?? 0;
        const [least, most] = [
          count - (known.unanswered.get(key) ?? 0),
          count + (known.doubts.get(key) ?? 0),
        ];
        this.gaps += Math.max(0, count - told);
        assert.ok(
          told >= least && told <= most,
          `I1: ${name} of ${person.id}: ${told} times, not ${least} to ${most}`,
        );
      }
    }
    const ends = story.filter((it) => it.name === 'call:ended');
    const possible = known.isOver ? [1, ...(known.unanswered.has('ended') ? [0] : [])] : [0];
    assert.ok(possible.includes(ends.length), `I2: it ends ${ends.length} times`);
    if (ends.length > 0) assert.equal(story.at(-1).name, 'call:ended', 'I2: nothing comes after the end');
  }

  /** I4: nobody is in two calls, and every node says the same of that. */
  async #checkActive() {
    await eachOf(this.people, async (person) => {
      const said = await this.cluster.everywhere((node) => person.at(node).want('GET', '/active'));
      const ids = said.map(({ calls }) => calls.map((it) => it.id).sort());
      for (const it of ids) assert.deepEqual(it, ids[0], `I4: the live calls of ${person.id}`);
      const joined = said[0].calls.filter(({ participants }) =>
        JOINED.includes(participants.find((it) => it.userId === person.id).connectionState),
      );
      assert.ok(joined.length <= 1, `I4: ${person.id} is in ${joined.map((it) => it.id)}`);
      const lives = this.calls.filter(
        (it) => it.id && it.known.standing.get(person.id) === 'in' && !it.known.isOver,
      );
      assert.deepEqual(
        joined.map((it) => it.id),
        lives.map((it) => it.id),
        `I4: ${person.id}`,
      );
    });
  }

  #checkDevices(rows) {
    for (const device of this.outsiders) {
      const heard = device.log.filter(
        (it) => it.event !== 'disconnect' && !(it.event === 'call:sync' && it.data.calls.length === 0),
      );
      assert.deepEqual(heard, [], 'I6: an outsider heard something');
    }
    const told = new Map();
    const byId = new Map(this.calls.map((it) => [it.id, it]));
    for (const device of this.cluster.devices) {
      if (!this.people.includes(device.person)) continue;
      device.checkOrder();
      for (const { event, data } of device.log) {
        if (!data?.callId || event === 'call:error') continue;
        const one = byId.get(data.callId);
        const who = device.person.id;
        // A start that was never answered may have rung before its node died.
        const failed = rows.get(data.callId)?.state === 'failed' && rows.get(data.callId);
        const belongs = one?.people.some((it) => it.id === who);
        const rung = !one && failed && failed.participants.some((it) => it.userId === who);
        assert.ok(belongs || rung, `I6: ${who} heard ${event} of ${data.callId}`);
        if (event.startsWith('call:') && !PASSING.includes(event))
          this.#checkTold({ told, rows, event, data });
      }
    }
  }

  /** I3, I9: a number of a call is one event, the same for all who hear it, and it stands in the story. */
  #checkTold({ told, rows, event, data }) {
    const key = `${data.callId} ${data.seq}`;
    const text = `${event} ${JSON.stringify(data)}`;
    const before = told.get(key) ?? text;
    assert.equal(text, before, `I3: ${key} was told as two events`);
    told.set(key, text);
    const row = rows.get(data.callId);
    const found = row.story.find((it) => it.seq === data.seq);
    assert.equal(found?.name, event, `I1: ${key} was told and is not in the story`);
  }

  /** What is needed to understand it: all that was asked and heard of the call, and what is said of it. */
  async #explained(error, one, row) {
    const heard = this.cluster.devices.flatMap(({ log, person }) =>
      log
        .filter(
          (it) =>
            (one.id && it.data?.callId === one.id) ||
            it.event === 'disconnect' ||
            it.data?.calls?.some((call) => call.call.id === one.id),
        )
        .filter((it) => one.people.includes(person) && it.at >= (one.log[0]?.at ?? 0) - 1000)
        .map(({ at, event, data, node }) => ({
          at,
          text: `    ${person.id} at ${node} heard ${event} ${data?.seq ?? ''} ${data?.userId ?? ''} ${data?.state ?? ''}`,
        })),
    );
    const lines = [
      ...one.log,
      ...heard,
      ...(this.cluster.events ?? []).map(({ at, text }) => ({ at, text: `== ${text}` })),
    ]
      .sort((a, b) => a.at - b.at)
      .map(({ at, text }) => `${clock(at)} ${text}`);
    const views = one.id
      ? await this.cluster.everywhere((node) =>
          one.people[0]
            .at(node)
            .rest('GET', `/${one.id}`)
            .then(
              ({ status, body }) => `${node.name}: ${status} ${JSON.stringify(body)}`,
              (cause) => `${node.name}: ${cause.message}`,
            ),
        )
      : [];
    const model = `known: ${one.known.state} ${JSON.stringify([...one.known.standing])} ${JSON.stringify([...one.known.told])}`;
    const stored = row ? `Postgres: ${JSON.stringify(row)}` : '';
    const all = [`${one.id}: ${error.message}`, ...lines, model, ...views, stored].join('\n  ');
    return Object.assign(new Error(all), { cause: error });
  }
}
