// The tables of the README that benches write.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../tests/support/service.mjs';

const README = join(ROOT, 'README.md');

/** On what and when, as the README says it. */
const under = ({ machine, date, source }) => `${machine}; ${date.slice(0, 10)}; at ${source}.`;

/** Puts `lines` between the marks of that name, with what they were measured on; only figures of a release build are worth it. */
export function publish(name, where, lines) {
  if (!where.build.startsWith('release')) return;
  const [from, to] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
  const text = readFileSync(README, 'utf8');
  const [before, rest] = text.split(from);
  const after = rest?.split(to)[1];
  if (after === undefined) throw new Error(`README.md has no place for ${name}`);
  const within = ['', ...lines, '', under(where), ''].join('\n');
  writeFileSync(README, `${before}${from}\n${within}${to}${after}`);
}
