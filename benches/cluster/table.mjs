// The figures in rows, a column for each number of nodes.

const PLACES = [
  ['near', 'at the owner'],
  ['away', 'at another node'],
];
const KINDS = ['token', 'toggle', 'sample'];
const STREAMS = [
  ['near', 'same node'],
  ['away', 'two nodes'],
];
const REDIS = (each) => each.mastersUs + each.replicasUs;

const askRows = ([place, where]) =>
  KINDS.flatMap((kind) => {
    const of = (it) => it.asking[place]?.[kind];
    const name = `${kind}, ${where}`;
    return [
      [`${name}: p50`, 'ms', (it) => of(it)?.alone.p50],
      [`${name}: p99`, 'ms', (it) => of(it)?.alone.p99],
      [`${name}: CPU of nodes, one at a time`, 'us', (it) => of(it)?.alone.each.nodesUs],
      [`${name}: many at once`, '/s', (it) => of(it)?.many.rate],
      [`${name}: CPU of nodes, many at once`, 'us', (it) => of(it)?.many.each.nodesUs],
      [`${name}: CPU of Redis, many at once`, 'us', (it) => of(it) && REDIS(of(it).many.each)],
    ];
  });

const beyond = (it, kind, figure) =>
  it.asking.away && figure(it.asking.away[kind]) - figure(it.asking.near[kind]);

const differenceRows = KINDS.flatMap((kind) => [
  [`${kind}, what the way costs: p50`, 'ms', (it) => beyond(it, kind, (of) => of.alone.p50)],
  [`${kind}, what the way costs: p99`, 'ms', (it) => beyond(it, kind, (of) => of.alone.p99)],
  [`${kind}, what the way costs: CPU of nodes`, 'us', (it) => beyond(it, kind, (of) => of.many.each.nodesUs)],
]);

const busRows = [
  ['alone', 'one at a time'],
  ['many', 'many at once'],
].flatMap(([way, how]) => {
  const of = (it) => it.bus?.[way];
  const name = `the bus alone, there and back, ${how}`;
  return [
    [name, '/s', (it) => of(it)?.rate],
    [`${name}: p50`, 'ms', (it) => of(it)?.p50],
    [`${name}: p99`, 'ms', (it) => of(it)?.p99],
    [`${name}: CPU of both`, 'us', (it) => of(it)?.bothUs],
    [`${name}: CPU of Redis`, 'us', (it) => of(it) && REDIS(of(it).each)],
  ];
});

const relayRows = ([place, where]) =>
  [
    ['alone', 'one at a time'],
    ['most', 'as many as go'],
    ['half', 'at half that rate'],
  ].flatMap(([way, how]) => {
    const of = (it) => it.relaying[place]?.[way];
    const name = `signaling, ${where}, ${how}`;
    return [
      [`${name}`, '/s', (it) => of(it)?.rate],
      [`${name}: p50`, 'ms', (it) => of(it)?.p50],
      [`${name}: p99`, 'ms', (it) => of(it)?.p99],
      [`${name}: CPU of nodes`, 'us', (it) => of(it)?.each.nodesUs],
      [`${name}: CPU of Redis`, 'us', (it) => of(it) && REDIS(of(it).each)],
      [`${name}: lost`, '', (it) => of(it)?.lost],
    ];
  });

const lifeRows = [
  ['life of a call: at once', '/s', (it) => it.living.rate],
  ['life of a call: until it rings, p50', 'ms', (it) => it.living.p50],
  ['life of a call: until it rings, p99', 'ms', (it) => it.living.p99],
  ['life of a call: CPU of nodes', 'us', (it) => it.living.each.nodesUs],
  ['life of a call: CPU of Redis', 'us', (it) => REDIS(it.living.each)],
  ['life of a call: CPU of Redis, masters alone', 'us', (it) => it.living.each.mastersUs],
  ['life of a call: CPU of Postgres', 'us', (it) => it.living.each.postgresUs],
  ['life of a call: commands of nodes to Redis', '', (it) => it.living.each.asked],
  ['life of a call: commands with those of scripts', '', (it) => it.living.each.run],
  ['life of a call: to Redis', 'B', (it) => it.living.each.inBytes],
  ['life of a call: from Redis', 'B', (it) => it.living.each.outBytes],
  ['life of a call: to replicas', 'B', (it) => it.living.each.replicaBytes],
  ['life of a call: rows of Postgres', '', (it) => it.living.rows],
  ['memory of Redis: a live call', 'B', (it) => it.taking.callBytes],
  ['memory of Redis: a call that is over, 10 min', 'B', (it) => it.living.overBytes],
  ['memory of Redis: a connected user', 'B', (it) => it.taking.userBytes],
];

const crowdRows = [
  ['a socket comes: CPU of nodes', 'us', (it) => it.taking.coming.each.nodesUs],
  ['a socket comes: CPU of Redis', 'us', (it) => REDIS(it.taking.coming.each)],
  ['a socket comes: commands of nodes to Redis', '', (it) => it.taking.coming.each.asked],
];

const takingRows = [
  ['a node is killed: live calls it had', '', (it) => it.taking.calls],
  ['a node is killed: noticed after', 'ms', (it) => it.taking.noticedMs],
  ['a node is killed: all taken, from then on', 'ms', (it) => it.taking.takenMs],
  ['a node is killed: 1,000 calls taken in', 'ms', (it) => (it.taking.takenMs / it.taking.calls) * 1000],
  ['a node is killed: everybody told after', 'ms', (it) => it.taking.toldMs],
  ['a node is killed and started at once: live calls it had', '', (it) => it.taking.backCalls],
  ['a node is killed and started at once: its calls back after', 'ms', (it) => it.taking.backMs],
  ['a node is killed and started at once: calls that others took', '', (it) => it.taking.strayed],
];

const idleRows = [
  ['idle, a second: CPU of nodes', 'us', (it) => it.idle.nodesUs],
  ['idle, a second: CPU of Redis', 'us', (it) => REDIS(it.idle)],
  ['idle, a second: commands of nodes to Redis', '', (it) => it.idle.asked],
  ['idle, a second: to and from Redis', 'B', (it) => it.idle.inBytes + it.idle.outBytes],
];

/** What is shown: a name, a unit, and the figure of one trial; one that it does not have is left out. */
export const ROWS = [
  ...PLACES.flatMap(askRows),
  ...differenceRows,
  ...busRows,
  ...STREAMS.flatMap(relayRows),
  ...lifeRows,
  ...crowdRows,
  ...takingRows,
  ...idleRows,
];

/** Of these the README tells. */
const TOLD = new Set([
  ...['p50', 'p99'].flatMap((it) => [`token, at the owner: ${it}`, `token, at another node: ${it}`]),
  'token, what the way costs: CPU of nodes',
  ...['p50', 'p99'].map((it) => `the bus alone, there and back, one at a time: ${it}`),
  ...STREAMS.flatMap(([, where]) => [
    ...['p50', 'p99'].map((it) => `signaling, ${where}, one at a time: ${it}`),
    ...['', ': CPU of nodes'].map((it) => `signaling, ${where}, as many as go${it}`),
  ]),
  // Within a node nothing goes through Redis.
  'signaling, two nodes, as many as go: CPU of Redis',
  ...['nodes', 'Redis', 'Postgres'].map((it) => `life of a call: CPU of ${it}`),
  ...['commands of nodes to Redis', 'to Redis', 'from Redis'].map((it) => `life of a call: ${it}`),
  ...['a live call', 'a call that is over, 10 min', 'a connected user'].map((it) => `memory of Redis: ${it}`),
  ...['noticed after', '1,000 calls taken in', 'everybody told after'].map((it) => `a node is killed: ${it}`),
  'a node is killed and started at once: its calls back after',
]);
export const TOLD_ROWS = ROWS.filter(([name]) => TOLD.has(name));
const missing = [...TOLD].filter((it) => !ROWS.some(([name]) => name === it));
if (missing.length > 0) throw new Error(`no such rows: ${missing.join('; ')}`);

function shown(value) {
  if (value === undefined || Number.isNaN(value)) return '-';
  const digits = Math.abs(value) < 10 && !Number.isInteger(value) ? 2 : 0;
  return value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** Lines of equal length, also as Markdown has them. */
export function table(titles, rows, trials) {
  const all = [
    ['', ...titles, ''],
    ...rows.map(([name, unit, figure]) => [name, ...trials.map((it) => shown(figure(it))), unit]),
  ];
  const widths = all[0].map((_, column) => Math.max(3, ...all.map((row) => row[column].length)));
  const rule = widths.map((width, column) => (column ? `${'-'.repeat(width - 1)}:` : '-'.repeat(width)));
  const line = (row) =>
    `| ${row.map((it, column) => (column ? it.padStart(widths[column]) : it.padEnd(widths[column]))).join(' | ')} |`;
  return [all[0], rule, ...all.slice(1)].map(line).join('\n');
}
