// Many want something at once, at several nodes: one of them gets it, and all nodes say who.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { shuffled } from '../support/chance.mjs';
import { Cluster } from '../support/cluster.mjs';
import { eventually } from '../support/world.mjs';

const CROWD = 200;
const ROUNDS = 200;
const CAP = 8;
/** With the host as many as one call may ever have. */
const GUESTS = 63;
const cluster = await Cluster.start({ env: { MAX_CALL_PARTICIPANTS: String(CAP) } });

const audio = (...others) => ({ type: 'audio', participantIds: others.map((it) => it.id) });
const crowd = (ask) => Promise.all(Array.from({ length: CROWD }, (_, index) => ask(index)));
const join = (person, { id }) => person.patient('POST', `/${id}/join`);
/** How often each answer came: `{200: 7, call_full: 43}`. */
const counted = (answers) => {
  const counts = {};
  for (const { status, body } of answers)
    counts[body.code ?? status] = (counts[body.code ?? status] ?? 0) + 1;
  return counts;
};
const places = ({ participants }) =>
  participants.filter((it) =>
    ['connecting', 'connected', 'reconnecting', 'ringing'].includes(it.connectionState),
  ).length;

test(`of ${CROWD} starts of one user at once, one is`, async () => {
  const [a, b] = cluster.people(2);
  const answers = await crowd((index) => a.at(index).patient('POST', '/start', audio(b)));
  assert.deepEqual(counted(answers), { 201: 1, already_in_call: CROWD - 1 });
  const { call } = answers.find((it) => it.status === 201).body.data;
  for (const { status, body } of answers) {
    if (status === 409) assert.deepEqual(body.data, { callId: call.id });
  }
  const { calls } = await b.at(1).want('GET', '/active');
  assert.deepEqual(
    calls.map((it) => it.id),
    [call.id],
  );
  await a.end(call);
});

test(`${CROWD} starts with one Idempotency-Key are one call`, async () => {
  const [a, b] = cluster.people(2);
  const headers = { 'idempotency-key': 'tap' };
  const answers = await crowd((index) => a.at(index).patient('POST', '/start', audio(b), headers));
  assert.deepEqual(counted(answers), { 200: CROWD - 1, 201: 1 });
  const ids = new Set(answers.map((it) => it.body.data.call.id));
  assert.equal(ids.size, 1);
  await a.end([...ids][0]);
  await cluster.flushed();
  assert.equal((await a.at(2).want('GET', '/history')).pagination.total, 1);
});

test(`two at two nodes call each other at once, ${ROUNDS} times: one call each time, with both in it`, async () => {
  for (let round = 0; round < ROUNDS; round += 1) {
    const [a, b] = [cluster.person('a', { at: round }), cluster.person('b', { at: round + 1 })];
    const answers = await Promise.all([
      a.patient('POST', '/start', audio(b)),
      b.patient('POST', '/start', audio(a)),
    ]);
    const said = answers.map((it) => JSON.stringify(it.body)).join('\n');
    assert.deepEqual(answers.map((it) => it.status).sort(), [200, 201], `round ${round}: ${said}`);
    const [one, other] = answers.map((it) => it.body.data.call.id);
    assert.equal(one, other, `round ${round}`);
    const { call, participants } = await a.at(round + 2).details(one);
    assert.deepEqual(
      [call.state, ...participants.map((it) => it.connectionState)],
      ['connected', 'connected', 'connected'],
    );
    await b.end(one);
  }
});

test(`of ${GUESTS} who join at once, each at three nodes, as many get in as there are places`, async () => {
  const host = cluster.person('host', { at: 0 });
  const guests = cluster.people(GUESTS);
  const device = await host.connect();
  const batch = CAP - 1;
  const call = await host.start(guests.slice(0, batch), { ring: 'none' });
  for (let from = batch; from < guests.length; from += batch) {
    const some = guests.slice(from, from + batch);
    await device.do('call:invite', { callId: call.id, participantIds: some.map((it) => it.id) });
    await Promise.all(some.map((it) => it.end(call)));
  }
  const joins = shuffled([0, 1, 2].flatMap((at) => guests.map((guest) => ({ guest, at }))));
  const answers = await Promise.all(joins.map(({ guest, at }) => join(guest.at(at), call)));
  assert.deepEqual(counted(answers), { 200: 3 * (CAP - 1), call_full: 3 * (GUESTS - CAP + 1) });
  const { participants } = await cluster.oneTruth(host, call);
  const inside = participants.filter((it) => it.connectionState === 'connected').map((it) => it.userId);
  const told = new Set(joins.filter((_, index) => answers[index].status === 200).map((it) => it.guest.id));
  assert.deepEqual(inside.sort(), [host.id, ...told].sort());
  await host.at(1).end(call);
});

test('one who is rung by three calls at three nodes and joins all at once is in one of them', async () => {
  for (let round = 0; round < 10; round += 1) {
    const callers = [0, 1, 2].map((at) => cluster.person('caller', { at }));
    const guest = cluster.person('guest');
    const calls = [];
    for (const it of callers) calls.push(await it.start(guest));
    const answers = await Promise.all(calls.map((it, index) => join(guest.at(index + 1), it)));
    assert.deepEqual(counted(answers), { 200: 1, already_in_call: 2 });
    const joined = answers.find((it) => it.status === 200).body.data.call.id;
    for (const { status, body } of answers) {
      if (status === 409) assert.deepEqual(body.data, { callId: joined });
    }
    await Promise.all(callers.map((it, index) => it.at(index + 2).end(calls[index])));
    // Nothing is left of it: the guest is free for another call at once.
    await guest.end(await guest.start(callers[0]));
  }
});

test('two who start towards one free person at once both ring there, and a third who is busy is told', async () => {
  const [a, b, c] = [0, 1, 2].map((at) => cluster.person('user', { at }));
  const starts = await Promise.all([a, b].map((it) => it.patient('POST', '/start', audio(c))));
  assert.deepEqual(counted(starts), { 201: 2 });
  const [first, second] = starts.map((it) => it.body.data.call);
  await c.join(first);
  await cluster.person('late', { at: 1 }).refused(409, 'busy', 'POST', '/start', audio(c));
  await c.refused(409, 'already_in_call', 'POST', `/${second.id}/join`);
  await Promise.all([a.end(first), b.end(second)]);
});

test('joins, invitations, ends and removals at three nodes at once leave one truth', async () => {
  for (let round = 0; round < 12; round += 1) {
    const [[a, deviceA], [b, deviceB]] = await cluster.connectedAt(round, round + 1);
    const others = cluster.people(CAP - 3);
    const late = cluster.people(4);
    const call = await a.start([b, ...others]);
    await b.join(call);
    const away = await a.at(round + 2).connect();
    const at = (person, index) => person.at(round + index);
    const ends = round % 3 === 0;
    const acts = shuffled([
      ...others.map(
        (it, index) => () => at(it, index).rest('POST', `/${call.id}/${index % 3 === 2 ? 'end' : 'join'}`),
      ),
      ...late.map(
        (it, index) => () =>
          (index % 2 ? deviceA : deviceB).ask('call:invite', {
            callId: call.id,
            participantIds: [it.id],
          }),
      ),
      ...late.map((it, index) => () => at(it, index).rest('POST', `/${call.id}/join`)),
      () => away.ask('call:remove_participant', { callId: call.id, userId: others[0].id }),
      () => at(b, 2).rest('PATCH', `/${call.id}/participant`, { audioEnabled: false }),
      ...(ends ? [() => at(a, 1).patient('POST', `/${call.id}/end`)] : []),
    ]);
    const answers = await Promise.all(acts.map((act) => act()));
    // What Redis did not hear of in time is to be asked for again: that is no fault.
    const odd = answers.filter((it) => (it.status >= 500 && it.status !== 503) || it.code === 'internal');
    assert.deepEqual(odd, [], `round ${round}`);
    const truth = await cluster.oneTruth(a, call);
    assert.ok(places(truth) <= CAP, JSON.stringify(truth));
    assert.equal(truth.call.endedAt !== null, ends, `round ${round}`);
    if (!ends) await a.at(round + 2).end(call);
    for (const device of [deviceA, deviceB, away]) await device.until('call:ended', { callId: call.id });
    const over = await cluster.oneTruth(a, call);
    assert.equal(over.call.state, 'ended');
    // What was told last is what there is.
    assert.equal(deviceA.log.filter((it) => it.data?.callId === call.id).at(-1).data.seq, over.call.seq);
  }
});

test('eight at three nodes who all change at once hear the same story in the same order', async () => {
  const all = await cluster.connectedAt(0, 1, 2, 0, 1, 2, 0, 1);
  const [[a, deviceA], ...others] = all;
  const call = await a.start(
    others.map(([it]) => it),
    { ring: 'none' },
  );
  await Promise.all(others.map(([it]) => it.join(call)));
  const toggles = 25;
  const asked = () => all.reduce((sum, [, device]) => sum + device.asked, 0);
  const before = asked();
  await Promise.all(
    all.flatMap(([, device]) =>
      Array.from({ length: toggles }, (_, index) =>
        device.do('call:toggle_audio', { callId: call.id, enabled: index % 2 === 1 }),
      ),
    ),
  );
  const again = asked() - before - all.length * toggles;
  await deviceA.do('call:end', { callId: call.id });
  const stories = await Promise.all(
    all.map(async ([, device]) => {
      await device.until('call:ended', { callId: call.id });
      return device.log.filter((it) => it.data?.callId === call.id).map((it) => `${it.data.seq} ${it.event}`);
    }),
  );
  const told = stories[0].filter((it) => it.includes('call:participant_updated'));
  // What was not answered in time was perhaps done all the same, and once more when it was asked for again.
  const excess = told.length - all.length * toggles;
  assert.ok(excess >= 0 && excess <= again, `${told.length} told, ${again} asked for again`);
  for (const it of stories) assert.deepEqual(it, stories[0]);
});

test('nobody is left in a call, at any node and in Postgres', async () => {
  await cluster.idle();
  await cluster.flushed();
  await eventually(
    'all are over in Postgres',
    async () => (await cluster.postgres.one('SELECT count(*) FROM calls WHERE ended_at IS NULL')) === '0',
  );
  const twice = await cluster.postgres.sql(
    'SELECT call_id, user_id FROM call_participants GROUP BY 1, 2 HAVING count(*) > 1',
  );
  assert.deepEqual(twice, []);
});
