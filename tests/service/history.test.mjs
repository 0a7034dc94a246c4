// History and figures: pages, filters, and a total that is true.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { eventually, World } from '../support/world.mjs';

const world = await World.open({ RINGING_TIMEOUT: '1' });
const alone = await World.open({ RINGING_TIMEOUT: '60' });

const ids = (page) => page.calls.map((it) => it.id);

/** One user's calls: so many of each kind, oldest first. */
async function lived(person) {
  const calls = [];
  const keep = async (call) => {
    calls.push(call);
    await pause(3);
  };
  for (let count = 0; count < 3; count += 1) {
    const b = world.person();
    const ended = await person.start(b, { type: 'audio', chatId: 'chat-a' });
    await b.join(ended);
    await person.end(ended);
    await keep(ended);
    const cancelled = await person.start(b, { chatId: 'chat-b' });
    await person.end(cancelled);
    await keep(cancelled);
    const declined = await person.start(b);
    await b.end(declined);
    await keep(declined);
  }
  return calls;
}

test('history is newest first, with participants and initiator, and a true total', async () => {
  const a = world.person();
  const calls = await lived(a);
  const live = await a.start(world.person());
  const page = await a.want('GET', '/history');
  assert.deepEqual(
    ids(page),
    [live, ...calls.toReversed()].map((it) => it.id),
  );
  const { limit, offset, total, nextCursor } = page.pagination;
  assert.deepEqual([limit, offset, total, nextCursor], [50, 0, 10, null]);
  for (const call of page.calls) {
    assert.equal(call.participants.length, 2);
    assert.deepEqual(
      call.initiator,
      call.participants.find((it) => it.userId === a.id),
    );
    const { participants, initiator, ...rest } = call;
    assert.deepEqual(rest, (await a.details(call)).call);
    assert.equal(initiator.role, 'initiator');
    assert.ok(participants);
  }
  assert.equal(page.calls[0].state, 'ringing');
  await a.end(live);
});

test('pages by offset and pages by cursor meet every call once', async () => {
  const a = world.person();
  const calls = await lived(a);
  const newest = calls.map((it) => it.id).toReversed();
  const byOffset = [];
  for (let offset = 0; offset < 12; offset += 4) {
    const page = await a.want('GET', `/history?limit=4&offset=${offset}`);
    assert.deepEqual([page.pagination.total, page.pagination.limit, page.pagination.offset], [9, 4, offset]);
    byOffset.push(...ids(page));
  }
  assert.deepEqual(byOffset, newest);
  const byCursor = [];
  let cursor = '';
  do {
    const page = await a.want('GET', `/history?limit=4${cursor}`);
    byCursor.push(...ids(page));
    cursor = page.pagination.nextCursor && `&cursor=${encodeURIComponent(page.pagination.nextCursor)}`;
    // A call that begins meanwhile shifts no page behind the cursor.
    await a.end(await a.start(world.person()));
  } while (cursor);
  assert.deepEqual(byCursor, newest);
});

test('filters, alone and together', async () => {
  const a = world.person();
  const calls = await lived(a);
  const [ended, cancelled, declined] = [0, 1, 2].map((kind) =>
    calls.filter((_, index) => index % 3 === kind).map((it) => it.id),
  );
  const found = async (query) => {
    const page = await a.want('GET', `/history?${query}`);
    assert.equal(page.pagination.total, page.calls.length, query);
    return ids(page).toReversed();
  };
  assert.deepEqual(await found('state=ended'), ended);
  assert.deepEqual(await found('state=cancelled'), cancelled);
  assert.deepEqual(await found('state=declined'), declined);
  assert.deepEqual(await found('type=audio'), ended);
  assert.deepEqual(await found('type=video&state=cancelled&chatId=chat-b'), cancelled);
  assert.deepEqual(await found('chatId=chat-a'), ended);
  assert.deepEqual(await found('chatId=nowhere'), []);
  assert.deepEqual(await found('state=missed'), []);
  const { createdAt } = (await a.details(calls[4])).call;
  const from = calls.slice(4).map((it) => it.id);
  const before = calls.slice(0, 4).map((it) => it.id);
  assert.deepEqual(await found(`startDate=${createdAt}`), from, 'the start is within');
  assert.deepEqual(await found(`endDate=${createdAt}`), before, 'the end is not');
  assert.deepEqual(await found(`startDate=${createdAt}&endDate=${createdAt}`), []);
  const page = await a.want('GET', '/history?state=ended&limit=1&offset=1');
  assert.deepEqual([ids(page), page.pagination.total], [[ended[1]], 3]);
});

test('history is one’s own, whatever one was in the call', async () => {
  const [a, b, c, d] = world.people(4);
  const call = await a.start([b, c]);
  await b.join(call);
  await c.end(call);
  await a.end(call);
  for (const one of [a, b, c]) assert.deepEqual(ids(await one.want('GET', '/history')), [call.id]);
  assert.deepEqual((await d.want('GET', '/history')).pagination, {
    limit: 50,
    offset: 0,
    total: 0,
    nextCursor: null,
  });
});

for (const [query, error] of [
  ['limit=0', 'limit: expected a number from 1 to 100, found 0'],
  ['limit=101', 'limit: expected a number from 1 to 100, found 101'],
  ['limit=many', 'limit: expected a number from 1 to 100, found many'],
  ['offset=-1', 'offset: expected a number from 0 to 1000000, found -1'],
  ['cursor=nonsense', 'cursor: expected the nextCursor of a page, found nonsense'],
  ['type=fax', 'type: expected audio or video, found fax'],
  ['state=over', /^state: expected initiating, ringing, .*cancelled, found over$/],
  ['chatId=a%20b', 'chatId: expected 1 to 64 characters of A-Z a-z 0-9 _ . : @ = -, found a b'],
  [
    'startDate=yesterday',
    'startDate: expected a date or time, as 2025-01-02 or 2025-01-02T10:00:00Z, found yesterday',
  ],
  [
    'endDate=2025-13-01',
    'endDate: expected a date or time, as 2025-01-02 or 2025-01-02T10:00:00Z, found 2025-13-01',
  ],
]) {
  test(`history?${query} is refused by name`, async () => {
    const refused = await world.person().refused(400, 'invalid_request', 'GET', `/history?${query}`);
    if (error instanceof RegExp) assert.match(refused.error, error);
    else assert.equal(refused.error, error);
  });
}

test('stats count the whole service in their window', async () => {
  const [a, b, c] = alone.people(3);
  const none = await a.want('GET', '/stats');
  assert.equal(none.totalCalls, 0);
  assert.equal(none.successRate, 0);
  for (let count = 0; count < 3; count += 1) {
    const call = await a.start(b);
    await b.join(call);
    if (count === 0) await pause(1100);
    await a.end(call);
  }
  await a.end(await a.start(b));
  const live = await a.start(c);
  const stats = await a.want('GET', '/stats?window=1h');
  const { averageDuration, averageConnectionTime, ...counts } = stats;
  assert.deepEqual(counts, {
    totalCalls: 5,
    activeCalls: 1,
    completedCalls: 3,
    failedCalls: 1,
    successRate: 0.75,
    peakConcurrentCalls: 1,
  });
  assert.ok(averageDuration > 0.3 && averageDuration < 1, `${averageDuration}`);
  assert.ok(averageConnectionTime >= 0 && averageConnectionTime < 1);
  const metrics = await alone.http('/monitoring/metrics');
  assert.deepEqual(metrics.body.calls, { total: 5, active: 1, completed: 3, failed: 1 });
  assert.equal(metrics.body.performance.successRate, '75.00%');
  await a.end(live);
  await eventually(
    'the live call counts as failed',
    async () => (await a.want('GET', '/stats')).failedCalls === 2,
  );
  const refused = await a.refused(400, 'invalid_request', 'GET', '/stats?window=soon');
  assert.match(refused.error, /^window: expected a time up to 366d, as 30min, 24h or 7d, found soon$/);
});
