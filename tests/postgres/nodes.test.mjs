// A call on its way between nodes, each with a local file of its own before one Postgres: the store by itself.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { after, test } from 'node:test';
import { Postgres } from '../support/postgres.mjs';
import { ROOT } from '../support/service.mjs';

const TEST = 'store::nodes::a_call_on_its_way_between_nodes_is_the_same_seen_from_each';

test('a call on its way between nodes is the same, seen from each', async () => {
  const postgres = await Postgres.create();
  after(() => postgres.stop());
  const args = ['test', '--lib', '--locked', '--', '--ignored', '--exact', TEST];
  const env = { ...process.env, STORE_POSTGRES: postgres.url };
  const { status, stdout, stderr } = spawnSync('cargo', args, { cwd: ROOT, env, encoding: 'utf8' });
  assert.equal(status, 0, stdout + stderr);
  assert.match(stdout, /1 passed/);
});
