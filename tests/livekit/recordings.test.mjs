// Recordings: without LiveKit's egress there are none, and that is said in time; with a stand-in for it (egress.mjs) each goes its whole
// way, whatever order it is told in.
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Egress } from '../support/egress.mjs';
import { LiveKit } from '../support/livekit.mjs';
import { inTime } from '../support/patience.mjs';
import { Postgres } from '../support/postgres.mjs';
import { timed, unknownCall } from '../support/rooms.mjs';
import { OUTPUT } from '../support/service.mjs';
import { seconds } from '../support/tokens.mjs';
import { send, webhooks } from '../support/webhooks.mjs';
import { eventually, http, World } from '../support/world.mjs';

const ANSWER_MS_MAX = 2200;
/** A start that came to nothing in time is looked after when LiveKit itself must have given up. */
const LATE_START_MS = 30_000;
const FOLDER = '/var/recordings';
const PUBLIC = 'https://files.example/of/calls';
const S3 = {
  RECORDING_S3_BUCKET: 'calls-bucket',
  RECORDING_S3_REGION: 'eu-test-1',
  RECORDING_S3_ENDPOINT: 'https://s3.example:9000',
  RECORDING_S3_ACCESS_KEY: 'the-access-key-of-the-bucket',
  RECORDING_S3_SECRET: 'the-secret-of-the-bucket-and-nobody-else',
  RECORDING_S3_PATH_STYLE: 'on',
};
/** Nobody is really in the rooms; that is not what these calls are to end of. */
const CALM = { CONNECTION_TIMEOUT: '300', LIVEKIT_CHECK_INTERVAL: '500' };
const IN_FOLDER = { RECORDING_DIR: FOLDER, RECORDING_PREFIX: 'calls/', RECORDING_PUBLIC_URL: PUBLIC };

const livekit = await LiveKit.start();
const egress = await Egress.open(livekit);
const world = await World.open({ ...egress.env, ...CALM, ...IN_FOLDER });
after(() => Promise.all([egress.close(), livekit.stop()]));

const tell = async (webhook, to = world) => {
  const { status, text } = await send(to.service, webhook);
  assert.equal(status, 200, text);
};
const begin = (person, call) => person.rest('POST', `/${call.id}/recording/start`);
const stop = (person, call) => person.rest('POST', `/${call.id}/recording/stop`);
const listed = async (person, call) => (await person.want('GET', `/${call.id}/recordings`)).recordings;
const only = async (person, call) => {
  const all = await listed(person, call);
  assert.equal(all.length, 1);
  return all[0];
};

/** A call that is being recorded: `{a, b, call, deviceA, deviceB, recording, egressId}`. */
async function recorded(options = {}, { on = world, from = egress } = {}) {
  const it = await on.callOfTwo(options);
  const { recording } = await it.a.want('POST', `/${it.call.id}/recording/start`);
  const [{ egressId }] = from.of(it.call.roomId);
  return { ...it, recording, egressId };
}

const ended = (it, { status, name, more, ...fields } = {}) => {
  const filename = `${FOLDER}/${it.recording.s3Key}`;
  const startedMs = Date.now() - 7000;
  return webhooks.egressEnded(
    {
      egressId: it.egressId,
      room: it.call.roomId,
      status: status ?? 'EGRESS_COMPLETE',
      startedMs,
      endedMs: startedMs + 7000,
      file: { filename, size: '123456', location: `https://elsewhere.example/${name ?? 'file'}` },
      ...fields,
    },
    more,
  );
};

// This one takes half a minute, in which the others run.
const lateStart = (async () => {
  const late = await Egress.open(livekit);
  const slow = await World.open({ ...late.env, ...CALM, ...IN_FOLDER });
  const { a, call } = await slow.callOfTwo({ connect: false });
  late.takes.StartRoomCompositeEgress = 2 * ANSWER_MS_MAX;
  const begun = Date.now();
  const answer = await timed(begin(a, call));
  await eventually('LiveKit records all the same', () => late.of(call.roomId).length === 1);
  const [unknown] = late.of(call.roomId);
  late.takes = {};
  const again = await begin(a, call);
  const known = late.of(call.roomId).find((it) => it !== unknown);
  return { late, slow, a, call, begun, answer, unknown, again, known };
})();
// What went wrong there is told by the test that waits for it.
lateStart.catch(() => {});

test('without egress a recording is refused in time, and the call goes on', async () => {
  const bare = await World.open({ ...livekit.env, ...CALM, ...IN_FOLDER });
  const { a, b, call, deviceB } = await bare.callOfTwo();
  for (let times = 0; times < 2; times += 1) {
    const [took, { status, body, headers }] = await timed(begin(a, call));
    assert.deepEqual([status, body.code], [503, 'recording_unavailable']);
    assert.ok(Number(headers.get('retry-after')) >= 1);
    inTime(took, ANSWER_MS_MAX);
  }
  assert.equal((await stop(a, call)).status, 409);
  assert.deepEqual(await listed(b, call), []);
  assert.equal((await a.details(call)).call.recordingEnabled, false);
  await deviceB.settled();
  assert.deepEqual(deviceB.all('call:recording_started'), []);
  // Egress that is away is no LiveKit that is away.
  for (let times = 0; times < 5; times += 1) {
    const [c, d] = bare.people(2);
    await c.end(await c.start(d));
  }
  assert.equal((await bare.http('/monitoring/health')).body.checks.media, 'ok');
  await a.end(call);
  await bare.close();
});

test('where nothing is set for recordings they are refused at once', async () => {
  const bare = await World.open({ ...livekit.env, ...CALM });
  const { a, b, call } = await bare.callOfTwo({ connect: false });
  const [took, { status, body }] = await timed(begin(a, call));
  assert.deepEqual([status, body.code], [503, 'recording_unavailable']);
  inTime(took, 300);
  await b.refused(403, 'forbidden', 'POST', `/${call.id}/recording/start`);
  await a.end(call);
  await bare.close();
});

test('only the initiator records, and hears so before anything else', async () => {
  const { a, b, call } = await world.callOfTwo({ connect: false });
  const outsider = world.person();
  const before = egress.asked.length;
  const everywhere = async (status, code, person, id) => {
    for (const what of ['start', 'stop']) {
      await person.refused(status, code, 'POST', `/${id}/recording/${what}`);
    }
  };
  await everywhere(403, 'forbidden', b, call.id);
  await everywhere(403, 'forbidden', outsider, call.id);
  await outsider.refused(403, 'forbidden', 'GET', `/${call.id}/recordings`);
  await everywhere(404, 'not_found', a, unknownCall());
  await a.refused(404, 'not_found', 'GET', `/${unknownCall()}/recordings`);
  await a.refused(409, 'conflict', 'POST', `/${call.id}/recording/stop`);
  const nobody = await http(`${world.url}/api/v1/calls/${call.id}/recording/start`, { method: 'POST' });
  assert.equal(nobody.status, 401);
  await a.end(call);
  await everywhere(410, 'call_over', a, call.id);
  await everywhere(403, 'forbidden', b, call.id);
  await everywhere(403, 'forbidden', outsider, call.id);
  assert.deepEqual(await listed(b, call), []);
  assert.equal(egress.asked.length, before, 'egress was asked');
});

for (const [type, ending, fileType] of [
  ['video', 'mp4', 'MP4'],
  ['audio', 'ogg', 'OGG'],
]) {
  test(`a recording of an ${type} call begins, with everyone told, and ends`, async () => {
    const it = await recorded({ type });
    const { a, b, call, deviceA, deviceB, recording, egressId } = it;
    const { startedAt, s3Key, ...rest } = recording;
    const plain = { id: recording.id, callId: call.id, endedAt: null, duration: null, fileSize: null };
    assert.deepEqual(rest, { ...plain, url: null, status: 'recording' });
    assert.ok(Math.abs(Date.now() - new Date(startedAt)) < 5000);
    assert.match(s3Key, new RegExp(`^calls/${call.id}/\\d+\\.${ending}$`));
    const [asked, ...more] = egress.all('StartRoomCompositeEgress', { room: call.roomId });
    assert.deepEqual(more, []);
    assert.deepEqual(asked, {
      method: 'StartRoomCompositeEgress',
      room: call.roomId,
      audioOnly: type === 'audio',
      customBaseUrl: undefined,
      files: [{ fileType, filepath: `${FOLDER}/${s3Key}`, s3: undefined }],
      streams: 0,
    });
    for (const device of [deviceA, deviceB]) {
      const told = await device.until('call:recording_started', { callId: call.id });
      assert.deepEqual([told.recordingId, told.userId], [recording.id, a.id]);
    }
    assert.equal((await b.details(call)).call.recordingEnabled, true);
    assert.deepEqual(await only(b, call), recording);
    await a.refused(409, 'conflict', 'POST', `/${call.id}/recording/start`);
    assert.equal(
      egress.all('StartRoomCompositeEgress', { room: call.roomId }).length,
      1,
      'none is begun in vain',
    );

    const stopped = await stop(a, call);
    assert.equal(stopped.status, 202);
    const now = stopped.body.data.recording;
    assert.deepEqual([now.id, now.status, now.s3Key, now.url], [recording.id, 'processing', s3Key, null]);
    assert.ok(new Date(now.endedAt) >= new Date(startedAt));
    for (const device of [deviceA, deviceB]) {
      const told = await device.until('call:recording_stopped', { callId: call.id });
      assert.deepEqual([told.recordingId, told.userId], [recording.id, a.id]);
    }
    await egress.stopped(egressId);
    await a.refused(409, 'conflict', 'POST', `/${call.id}/recording/stop`);
    assert.equal((await only(a, call)).status, 'processing');

    await tell(webhooks.egressUpdated({ egressId, room: call.roomId }));
    assert.equal((await only(a, call)).status, 'processing');
    await tell(ended(it));
    const done = await only(b, call);
    assert.deepEqual(
      [done.id, done.status, done.fileSize, done.duration, done.s3Key, done.url],
      [recording.id, 'completed', 123456, 7, s3Key, `${PUBLIC}/${s3Key}`],
    );
    assert.equal((await b.details(call)).call.recordingUrl, done.url);
    await deviceB.settled();
    assert.equal(deviceB.all('call:recording_stopped').length, 1);
    await a.end(call);
    assert.equal((await b.details(call)).call.recordingUrl, done.url);
    assert.deepEqual(await only(a, call), done);
  });
}

test('of starts at the same moment one wins', async () => {
  const { a, call } = await world.callOfTwo({ connect: false });
  egress.takes.StartRoomCompositeEgress = 100;
  const answers = await Promise.all(Array.from({ length: 5 }, () => begin(a, call)));
  egress.takes = {};
  assert.deepEqual(answers.map((it) => it.status).sort(), [200, 409, 409, 409, 409]);
  for (const it of answers.filter(({ status }) => status === 409)) assert.equal(it.body.code, 'conflict');
  assert.equal(egress.of(call.roomId).length, 1);
  assert.equal((await listed(a, call)).length, 1);
  await a.end(call);
});

test('the end of the call ends its recording, and its file is found by those who were in it', async () => {
  const it = await recorded();
  const { a, b, call, deviceB, recording, egressId } = it;
  await a.end(call);
  const told = await deviceB.until('call:recording_stopped', { callId: call.id });
  assert.deepEqual([told.recordingId, told.userId ?? null], [recording.id, null]);
  await deviceB.until('call:ended', { callId: call.id });
  await egress.stopped(egressId);
  assert.equal((await only(b, call)).status, 'processing');
  await tell(ended(it));
  const done = await only(b, call);
  assert.deepEqual([done.status, done.url], ['completed', `${PUBLIC}/${recording.s3Key}`]);
});

test('a call that is over says where its recording is, once that is there', async () => {
  const it = await recorded();
  const { a, b, call, recording } = it;
  await a.end(call);
  await eventually(
    'the call has left the live ones',
    async () => (await a.want('GET', '/active')).calls.length === 0,
  );
  await tell(ended(it));
  const { call: past } = await b.details(call);
  assert.deepEqual([past.recordingEnabled, past.recordingUrl], [true, `${PUBLIC}/${recording.s3Key}`]);
  const { calls } = await b.want('GET', '/history');
  assert.equal(calls[0].recordingUrl, `${PUBLIC}/${recording.s3Key}`);
});

test('one that ends by itself is over for all, and another may begin', async () => {
  const it = await recorded();
  const { a, call, deviceA, deviceB, recording } = it;
  await tell(ended(it));
  for (const device of [deviceA, deviceB]) {
    const told = await device.until('call:recording_stopped', { callId: call.id });
    assert.deepEqual([told.recordingId, told.userId ?? null], [recording.id, null]);
  }
  await a.refused(409, 'conflict', 'POST', `/${call.id}/recording/stop`);
  const again = await a.want('POST', `/${call.id}/recording/start`);
  assert.notEqual(again.recording.id, recording.id);
  assert.deepEqual((await listed(a, call)).map((one) => one.status).sort(), ['completed', 'recording']);
  await a.end(call);
});

for (const [status, fields, wanted] of [
  ['EGRESS_FAILED', { file: undefined, error: 'no space left' }, 'failed'],
  ['EGRESS_ABORTED', { file: undefined }, 'failed'],
  ['EGRESS_LIMIT_REACHED', {}, 'completed'],
  ['EGRESS_LIMIT_REACHED', { file: undefined }, 'failed'],
]) {
  const file = 'file' in fields ? 'without' : 'with';
  test(`${status} ${file} a file is a recording that has ${wanted}`, async () => {
    const it = await recorded({ connect: false });
    await tell(ended(it, { status, ...fields }));
    const done = await only(it.a, it.call);
    assert.equal(done.status, wanted);
    const url = wanted === 'completed' ? `${PUBLIC}/${it.recording.s3Key}` : null;
    assert.equal(done.url, url);
    assert.notEqual(done.endedAt, null);
    assert.equal((await it.a.details(it.call)).call.recordingUrl, url);
    await it.a.end(it.call);
  });
}

test('in any order, doubled and late, the webhooks of a recording tell the same', async () => {
  const orders = [
    [0, 1, 2],
    [2, 1, 0],
    [2, 0, 1],
    [1, 2, 0],
    [0, 2, 1, 2, 0],
    [2, 2, 0, 1, 1],
  ];
  for (const order of orders) {
    for (const late of [0, 600]) {
      const it = await recorded({ connect: false });
      const { a, call, egressId } = it;
      const told = { egressId, room: call.roomId };
      const more = () => ({ createdAt: String(seconds() - late) });
      const make = [
        () => webhooks.egressStarted(told, more()),
        () => webhooks.egressUpdated(told, more()),
        () => ended(it, { more: more() }),
      ];
      const all = make.map((one) => one());
      for (const index of order) await tell(all[index]);
      // Once more under other names, as if they were news.
      for (const index of order) await tell(make[index]());
      const done = await only(a, call);
      assert.deepEqual(
        [done.status, done.fileSize, done.duration, done.url],
        ['completed', 123456, 7, `${PUBLIC}/${it.recording.s3Key}`],
        `order ${order}, ${late} s late`,
      );
      await a.refused(409, 'conflict', 'POST', `/${call.id}/recording/stop`);
      await a.end(call);
    }
  }
});

test('what has failed does not become complete, nor the other way round', async () => {
  for (const [first, second] of [
    ['EGRESS_FAILED', 'EGRESS_COMPLETE'],
    ['EGRESS_COMPLETE', 'EGRESS_FAILED'],
  ]) {
    const it = await recorded({ connect: false });
    await tell(ended(it, { status: first }));
    const before = await only(it.a, it.call);
    await tell(ended(it, { status: second }));
    assert.equal((await only(it.a, it.call)).status, before.status);
    await it.a.end(it.call);
  }
});

test('recordings of others are nothing to this call', async () => {
  const it = await recorded();
  const { a, call, egressId } = it;
  const other = await recorded({ connect: false });
  const before = [await a.details(call), await listed(a, call)];
  for (const foreign of [
    ended({ ...it, egressId: 'EG_of_somebody' }),
    webhooks.egressStarted({ egressId: 'EG_of_somebody', room: call.roomId }),
    ended({ ...it, egressId: other.egressId }),
    ended({ ...it, call: { roomId: `room_${unknownCall()}` } }),
    ended({ ...it, call: { roomId: 'lobby' } }),
    ended({ ...it, egressId: '' }),
  ]) {
    await tell(foreign);
  }
  const still = ({ call: now, participants }) => [now.state, now.seq, now.recordingUrl, participants.length];
  assert.deepEqual(still(await a.details(call)), still(before[0]));
  assert.deepEqual(await listed(a, call), before[1]);
  assert.equal((await only(other.a, other.call)).status, 'recording');
  assert.deepEqual(egress.all('StopEgress', { egressId }), []);
  await a.end(call);
  await other.a.end(other.call);
});

test('a client that goes away during a slow start leaves no recording that nobody knows', async () => {
  const { a, b, call, deviceB } = await world.callOfTwo();
  egress.takes.StartRoomCompositeEgress = 700;
  const path = `${world.url}/api/v1/calls/${call.id}/recording/start`;
  const headers = { authorization: `Bearer ${a.token}` };
  await assert.rejects(http(path, { method: 'POST', headers, signal: AbortSignal.timeout(200) }));
  egress.takes = {};
  const { recordingId } = await deviceB.until('call:recording_started', { callId: call.id });
  assert.deepEqual([recordingId, (await only(b, call)).status], [(await only(b, call)).id, 'recording']);
  assert.equal((await stop(a, call)).status, 202);
  await egress.stopped(egress.of(call.roomId)[0].egressId);
  await a.end(call);
});

test('one that begins when its call has just ended is stopped', async () => {
  const { a, call } = await world.callOfTwo({ connect: false });
  egress.takes.StartRoomCompositeEgress = 500;
  const answer = begin(a, call);
  await eventually(
    'egress is asked',
    () => egress.all('StartRoomCompositeEgress', { room: call.roomId }).length > 0,
  );
  await a.end(call);
  egress.takes = {};
  const { status, body } = await answer;
  assert.deepEqual([status, body.code], [410, 'call_over']);
  const [{ egressId }] = egress.of(call.roomId);
  await egress.stopped(egressId);
  assert.deepEqual(
    (await listed(a, call)).filter((it) => it.status === 'recording'),
    [],
  );
});

test('a stop that egress does not take is tried again', async () => {
  const { a, call, egressId } = await recorded({ connect: false });
  egress.failing.StopEgress = 1;
  assert.equal((await stop(a, call)).status, 202);
  const over = () => egress.recordings.get(egressId).status === 'ENDING';
  await eventually('it is stopped', over, { within: 6000 });
  assert.equal(egress.all('StopEgress', { egressId }).length, 2);
  await a.end(call);
});

test('what is set for a bucket arrives at egress, and its secrets nowhere else', async () => {
  const bucket = await Egress.open(livekit);
  const there = await World.open({ ...bucket.env, ...CALM, ...S3 });
  const it = await recorded({}, { on: there, from: bucket });
  const { a, call, recording } = it;
  const [{ files }] = bucket.all('StartRoomCompositeEgress');
  const s3 = {
    accessKey: S3.RECORDING_S3_ACCESS_KEY,
    secret: S3.RECORDING_S3_SECRET,
    region: S3.RECORDING_S3_REGION,
    endpoint: S3.RECORDING_S3_ENDPOINT,
    bucket: S3.RECORDING_S3_BUCKET,
    forcePathStyle: true,
  };
  assert.deepEqual(files, [{ fileType: 'MP4', filepath: recording.s3Key, s3 }]);
  assert.match(recording.s3Key, new RegExp(`^${call.id}/\\d+\\.mp4$`));
  const filename = recording.s3Key;
  const location = `https://s3.example:9000/calls-bucket/${filename}`;
  await tell(ended(it, { file: { filename, size: '5', location } }), there);
  const done = await only(a, call);
  assert.deepEqual([done.status, done.s3Key, done.url], ['completed', filename, location]);
  const told = JSON.stringify([it.deviceA.log, it.deviceB.log, done, await a.details(call)]);
  for (const secret of [S3.RECORDING_S3_SECRET, S3.RECORDING_S3_ACCESS_KEY])
    assert.ok(!told.includes(secret));
  await a.end(call);
  await there.close();
  await bucket.close();
});

test('after a kill a recording is known, and can be stopped', async () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'call-service-'));
  after(() => rmSync(dataDir, { recursive: true, force: true }));
  const env = { ...egress.env, ...CALM, ...IN_FOLDER };
  const before = await World.start(env, { dataDir });
  const all = [];
  for (let times = 0; times < 3; times += 1) all.push(await recorded({ connect: false }, { on: before }));
  const [stops, ends, endsItself] = all;
  await before.abandon();
  const now = await World.start(env, { dataDir });
  for (const { a, b } of all) a.world = b.world = now;
  for (const { a, call, recording } of all) {
    assert.deepEqual(await only(a, call), recording);
    assert.equal((await a.details(call)).call.recordingEnabled, true);
    await a.refused(409, 'conflict', 'POST', `/${call.id}/recording/start`);
  }
  assert.equal((await stop(stops.a, stops.call)).status, 202);
  await egress.stopped(stops.egressId);
  await ends.a.end(ends.call);
  await egress.stopped(ends.egressId);
  await tell(ended(endsItself), now);
  assert.equal((await only(endsItself.a, endsItself.call)).status, 'completed');
  const states = await Promise.all([stops, ends].map(({ a, call }) => only(a, call)));
  assert.deepEqual(
    states.map((it) => it.status),
    ['processing', 'processing'],
  );
  await stops.a.end(stops.call);
  await endsItself.a.end(endsItself.call);
  await now.close();
});

test('with Postgres the row arrives there, and goes on there', async () => {
  const postgres = await Postgres.create();
  const there = await World.open({ ...egress.env, ...CALM, ...IN_FOLDER, DATABASE_URL: postgres.url });
  const it = await recorded({ connect: false }, { on: there });
  const { a, call, recording } = it;
  const columns =
    "id, call_id, status, s3_key, coalesce(url, '-'), coalesce(file_size, 0), coalesce(duration, 0)";
  const row = async () => (await postgres.sql(`SELECT ${columns} FROM call_recordings`)).at(0);
  const begun = [recording.id, call.id, 'recording', recording.s3Key, '-', '0', '0'];
  await eventually('the row is there', async () => (await row())?.[2] === 'recording');
  assert.deepEqual(await row(), begun);
  await a.end(call);
  await tell(ended(it), there);
  await eventually('the row is complete', async () => (await row())[2] === 'completed');
  const url = `${PUBLIC}/${recording.s3Key}`;
  assert.deepEqual(await row(), [recording.id, call.id, 'completed', recording.s3Key, url, '123456', '7']);
  await tell(webhooks.egressUpdated({ egressId: it.egressId, room: call.roomId }), there);
  assert.deepEqual((await only(a, call)).status, 'completed');
  assert.equal(await postgres.one('SELECT count(*) FROM call_recordings'), '1');
  await there.close();
  await postgres.stop();
});

test('a start that LiveKit carries out too late is ended, and no other', async () => {
  const { late, slow, a, call, begun, answer, unknown, again, known } = await lateStart;
  const [took, { status, body }] = answer;
  assert.deepEqual([status, body.code], [503, 'recording_unavailable']);
  inTime(took, ANSWER_MS_MAX);
  assert.equal(again.status, 200);
  const within = begun + LATE_START_MS + 6000 - Date.now();
  await late.stopped(unknown.egressId, { within: Math.max(within, 100) });
  assert.deepEqual(late.all('StopEgress', { egressId: known.egressId }), []);
  assert.equal((await listed(a, call)).at(-1).status, 'recording');
  await a.end(call);
  await late.stopped(known.egressId);
  await slow.close();
  await late.close();
});

test('no log of any of this holds a token or a secret', () => {
  const logs = readdirSync(OUTPUT).filter((it) => it.startsWith(`service-${process.pid}-`));
  assert.ok(logs.length > 5);
  const secrets = [
    livekit.secret,
    S3.RECORDING_S3_SECRET,
    S3.RECORDING_S3_ACCESS_KEY,
    'eyJ',
    'never to be kept',
  ];
  for (const name of logs) {
    const log = readFileSync(join(OUTPUT, name), 'utf8');
    assert.ok(log.includes('"listening"'), name);
    for (const secret of secrets) {
      const line = log.split('\n').find((it) => it.includes(secret));
      assert.equal(line, undefined, `${name} holds ${secret}`);
    }
  }
});
