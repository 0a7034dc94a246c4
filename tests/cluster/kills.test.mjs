// Nodes die at random moments of a random life: nothing that was acknowledged is lost, and all that is told is true.
import { test } from 'node:test';
import { pause, random, shuffled } from '../support/chance.mjs';
import { alone, Cluster } from '../support/cluster.mjs';
import { LIFE_ENV, Witness } from '../support/witness.mjs';

const KILLS = Number(process.env.KILLS ?? 50);
/** How long all live between two deaths, and how long a node is gone, milliseconds. */
const LIFE_MS = { min: 50, max: 600 };
const GONE_MS_MAX = 600;
/** One in so many stays away until another node has what it had, and with one in so many another goes at once. */
const LONG_AWAY = 10;
const TWO_AWAY = 7;
const TAKEN_OVER_MS = 7000;

test(
  `${KILLS} kills under a life of calls lose nothing, and leave one truth at all nodes`,
  { timeout: 60_000 + KILLS * 6000 },
  async (context) => {
    const cluster = await Cluster.start({ env: LIFE_ENV });
    const witness = await Witness.open(cluster);
    const life = witness.begin();
    for (let kill = 1; kill <= KILLS && !life.failed(); kill += 1) {
      await pause(LIFE_MS.min + random(LIFE_MS.max - LIFE_MS.min));
      const dead = shuffled(cluster.living).slice(0, kill % TWO_AWAY === 0 && !alone ? 2 : 1);
      for (const node of dead) await node.kill();
      await pause(kill % LONG_AWAY === 0 ? TAKEN_OVER_MS : random(GONE_MS_MAX));
      await Promise.all(dead.map((node) => node.start()));
    }
    await life.stop();
    await witness.finish();
    const tries = [...witness.tries].sort().map(([count, times]) => `${times} at try ${count}`);
    context.diagnostic(
      `${KILLS} kills, ${witness.calls.length} calls, ${witness.acknowledged} acknowledgements; answers: ${tries.join(', ')}; not in stories: ${witness.gaps}`,
    );
    await cluster.close();
  },
);
