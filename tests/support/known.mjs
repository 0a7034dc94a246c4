// What one call is, as its clients know it from what was acknowledged: the model that the service is held to.

/** One call; it is never changed, `after` gives another. */
export class Known {
  /** The first one starts it, and the others are asked. */
  constructor(people) {
    this.people = people;
    this.isGroup = people.length > 2;
    this.state = 'ringing';
    this.standing = new Map(people.map((it, index) => [it.id, index === 0 ? 'in' : 'asked']));
    this.answered = false;
    this.seq = 0;
    /** How often its story has to tell what: `joined ID`, `declined ID`, `left ID`. */
    this.told = new Map();
    /** How much more often it may. */
    this.doubts = new Map();
    /** How much less often: what was done by a node that died before it answered, and before it wrote it down. */
    this.unanswered = new Map();
  }

  copy() {
    const maps = ['standing', 'told', 'doubts', 'unanswered'].map((it) => [it, new Map(this[it])]);
    const own = { people: [...this.people], ...Object.fromEntries(maps) };
    return Object.assign(Object.create(Known.prototype), this, own);
  }

  /** Either this or another that looks the same: what their stories tell may differ. */
  or(other) {
    const next = this.copy();
    for (const name of new Set([...this.told.keys(), ...other.told.keys()])) {
      const counts = [this, other].map((it) => it.told.get(name) ?? 0);
      const [least, most] = [Math.min(...counts), Math.max(...counts)];
      next.told.set(name, least);
      next.doubts.set(name, (this.doubts.get(name) ?? 0) + most - least);
    }
    return next;
  }

  get isOver() {
    return !['ringing', 'connected'].includes(this.state);
  }

  /** Those who stand like that. */
  those(standing) {
    return this.people.filter((it) => this.standing.get(it.id) === standing);
  }

  /** What somebody may sensibly do now. */
  moves() {
    return this.people.flatMap((person, index) => {
      const standing = this.standing.get(person.id);
      if (standing === 'asked')
        return [
          { person, what: 'join' },
          { person, what: 'end' },
        ];
      return standing === 'in' && (index > 0 || Math.random() < 0.3) ? [{ person, what: 'end' }] : [];
    });
  }

  /** Whether that is done when it is asked for: an end always is. */
  takes({ person, what }) {
    return what === 'end' || (!this.isOver && this.standing.get(person.id) !== 'removed');
  }

  /** What becomes of it when that is done. */
  after(move) {
    const next = this.copy();
    if (next.isOver || !next.takes(move)) return next;
    next[move.what](move);
    next.settle();
    return next;
  }

  join({ person }) {
    if (this.standing.get(person.id) !== 'in') this.tell('joined', person);
    this.standing.set(person.id, 'in');
    this.answered = true;
    this.state = 'connected';
  }

  end({ person }) {
    const standing = this.standing.get(person.id);
    if (standing === 'asked') {
      this.tell('declined', person);
      this.standing.set(person.id, 'declined');
    } else if (person === this.people[0]) {
      this.finish(this.answered ? 'ended' : 'cancelled');
    } else if (standing === 'in') {
      this.tell('left', person);
      this.standing.set(person.id, 'left');
    }
  }

  invite({ whom }) {
    this.isGroup = true;
    if (!this.people.includes(whom)) this.people.push(whom);
    this.standing.set(whom.id, 'asked');
  }

  remove({ whom }) {
    this.tell('left', whom);
    this.standing.set(whom.id, 'removed');
  }

  tell(what, { id }) {
    const name = `${what} ${id}`;
    this.told.set(name, (this.told.get(name) ?? 0) + 1);
  }

  /** The same, where it had to be asked for more than once until `before` became this. */
  askedAgain(before) {
    const next = this.copy();
    for (const [name, count] of this.told) {
      const more = count - (before.told.get(name) ?? 0);
      if (more > 0) next.unanswered.set(name, (this.unanswered.get(name) ?? 0) + more);
    }
    if (this.isOver && !before.isOver) next.unanswered.set('ended', 1);
    return next;
  }

  /** The same, where something was refused at last that may have been done at a try without an answer: then the story tells of it. */
  perhapsDone({ person }) {
    const next = this.copy();
    for (const what of ['joined', 'declined', 'left']) {
      const name = `${what} ${person.id}`;
      next.doubts.set(name, (this.doubts.get(name) ?? 0) + 1);
    }
    return next;
  }

  settle() {
    if (this.isOver) return;
    if (!this.isGroup && this.answered && this.those('in').length < 2) this.finish('ended');
    else if (!this.answered && this.those('asked').length === 0) this.finish('declined');
  }

  finish(state) {
    this.state = state;
    for (const [id, standing] of this.standing) {
      if (standing === 'in') this.standing.set(id, 'left');
      if (standing === 'asked') this.standing.set(id, 'unanswered');
    }
  }
}

const SAME = {
  in: ['connecting', 'connected', 'reconnecting'],
  asked: ['invited', 'ringing'],
  left: ['left'],
  declined: ['declined'],
  removed: ['removed'],
  unanswered: ['missed', 'invited', 'ringing', 'left'],
};

/**
 * What a call may be in. A group in which one is left alone goes on for a minute: it is connected or, with one of them, reconnecting. Where
 * the others were away whenever somebody joined, it has never been connected.
 */
function statesOf({ state }, call, participants) {
  if (state !== 'connected') return [state];
  const there = participants.filter((it) => ['connecting', 'connected'].includes(it.connectionState));
  const never = there.length < 2 && !call.startedAt;
  return never ? ['connecting', 'connected', 'reconnecting'] : ['connected', 'reconnecting'];
}

/** How what the service says differs from what is known, if it does. */
export function difference(known, { call, participants }) {
  if (!statesOf(known, call, participants).includes(call.state))
    return `${call.state} where ${known.state} was acknowledged`;
  if (call.seq < known.seq) return `seq ${call.seq} after ${known.seq}`;
  if (participants.length !== known.people.length)
    return `${participants.length} participants, known are ${known.people.length}`;
  for (const { userId, connectionState } of participants) {
    const standing = known.standing.get(userId);
    if (!SAME[standing]?.includes(connectionState))
      return `${userId} ${connectionState}, known as ${standing}`;
  }
  return undefined;
}
