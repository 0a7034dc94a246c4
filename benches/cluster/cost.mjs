// What nodes, Redis and Postgres have spent: processor time as the kernel counts it, commands and bytes as Redis does.
import { readFileSync } from 'node:fs';
import { pause } from '../../tests/support/chance.mjs';

/** Microseconds of a tick of /proc: USER_HZ is 100 wherever Linux runs. */
const TICK_US = 10_000;
/** What is no work for the service. */
const HOUSEKEEPING =
  /^cmdstat_(info|ping|replconf|psync|auth|hello|config|monitor|client\||cluster\||command\|)/;

/** Processor time of these processes and all of their threads, microseconds; `children` with those that have ended. */
export function processorUs(pids, { children = false } = {}) {
  const one = (pid) => {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ')
      .map(Number);
    const [own, ended] = [fields[11] + fields[12], fields[13] + fields[14]];
    return (own + (children ? ended : 0)) * TICK_US;
  };
  return pids.reduce((sum, pid) => sum + one(pid), 0);
}

function postgresUs(postgres) {
  const [first, ...sessions] = postgres.pids();
  const alive = sessions.map((pid) => {
    try {
      return processorUs([pid]);
    } catch {
      // A session that has ended meanwhile is found with the first process.
      return 0;
    }
  });
  return alive.reduce((sum, us) => sum + us, processorUs([first], { children: true }));
}

/** The masters: the first of the cluster's, as long as none has failed. */
const masters = (redis) => redis.nodes.slice(0, redis.masters);

const total = (list, figure) => list.reduce((sum, it) => sum + figure(it), 0);

async function redisCounts(redis) {
  const all = await Promise.all(
    masters(redis).map(async (it) => [await it.info('commandstats'), await it.info('stats')]),
  );
  const calls = ([commands], fits) =>
    total(
      Object.entries(commands).filter(([name]) => fits(name)),
      ([, text]) => Number(/calls=(\d+)/.exec(text)[1]),
    );
  const sum = (name) => total(all, ([, stats]) => Number(stats[name] ?? 0));
  return {
    asked: total(all, (it) => calls(it, (name) => /^cmdstat_(eval|evalsha|spublish)$/.test(name))),
    run: total(all, (it) => calls(it, (name) => !HOUSEKEEPING.test(name))),
    inBytes: sum('total_net_input_bytes') - sum('total_net_repl_input_bytes'),
    outBytes: sum('total_net_output_bytes') - sum('total_net_repl_output_bytes'),
    replicaBytes: sum('total_net_repl_output_bytes'),
  };
}

/** All that has been spent so far; the difference of two is what something took. */
async function spent(cluster) {
  const { redis, postgres } = cluster;
  const replicas = redis.nodes.slice(redis.masters);
  return {
    seconds: performance.now() / 1000,
    nodesUs: processorUs(cluster.living.map((it) => it.service.pid)),
    mastersUs: processorUs(masters(redis).map((it) => it.pid)),
    replicasUs: processorUs(replicas.map((it) => it.pid)),
    postgresUs: postgresUs(postgres),
    ...(await redisCounts(redis)),
  };
}

const mapped = (figures, change) =>
  Object.fromEntries(Object.entries(figures).map(([name, value]) => [name, change(name, value)]));

/** What is spent a second while nothing is asked: beats, echoes and the like. */
export async function background(cluster, seconds) {
  const before = await spent(cluster);
  await pause(seconds * 1000);
  const after = await spent(cluster);
  return mapped(after, (name, it) => (it - before[name]) / (after.seconds - before.seconds));
}

/** Does some work, which says in how many pieces (`count`): what it said, and `each` piece's cost beyond what idles anyway. */
export async function costing(cluster, idle, work) {
  const before = await spent(cluster);
  const result = await work();
  const after = await spent(cluster);
  const seconds = after.seconds - before.seconds;
  // What costs nothing may come out below what idles, which is not the same each second.
  const beyond = (name, it) => Math.max(0, it - before[name] - idle[name] * seconds) / result.count;
  return { ...result, seconds, rate: result.count / seconds, each: mapped(after, beyond) };
}

/** What the masters hold for the service, bytes: without what their connections and replicas take. */
export async function heldBytes({ redis }) {
  const all = await Promise.all(masters(redis).map((it) => it.info('memory')));
  const besides = ['mem_clients_normal', 'mem_total_replication_buffers', 'mem_cluster_links'];
  const held = (it) => Number(it.used_memory) - total(besides, (name) => Number(it[name] ?? 0));
  return total(all, held);
}

/** Of a list of times: how many, the middle one, and the one that a hundredth takes longer than. */
export function summed(times) {
  const all = Float64Array.from(times).sort();
  const at = (part) => all[Math.min(all.length - 1, Math.floor(all.length * part))];
  return { count: all.length, p50: at(0.5), p99: at(0.99) };
}
