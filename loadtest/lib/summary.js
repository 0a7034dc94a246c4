// What a run came to: as JSON where it is asked for, else as k6 would print it, shortened.
const NAMED = ['count', 'med', 'p(95)', 'p(99)', 'max'];

export const trendStats = NAMED;

function figures({ metrics }) {
  const found = {};
  for (const [name, { type, values, thresholds }] of Object.entries(metrics)) {
    if (name.startsWith('data_') || name.startsWith('ws_')) continue;
    const limits = Object.entries(thresholds || {}).map(([limit, { ok }]) => ({ limit, ok }));
    found[name] = { type, values, limits };
  }
  return found;
}

export function handleSummary(data) {
  const found = figures(data);
  const failed = Object.entries(found).flatMap(([name, { limits }]) =>
    limits.filter((it) => !it.ok).map(({ limit }) => `${name} ${limit}`),
  );
  const text = `${failed.length === 0 ? 'all thresholds hold' : `not held: ${failed.join(', ')}`}\n`;
  return __ENV.SUMMARY
    ? { [__ENV.SUMMARY]: JSON.stringify(found) }
    : { stdout: text + JSON.stringify(found, null, 2) };
}
