// A call from browser to browser that only a TURN server can carry: nothing but relayed addresses is allowed.
// Only where TURN=1 says that the service under test gives such a server, with credentials that last TURN_TTL seconds.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import { accept, call, fails, launch, person, round, sees, unharmed, until } from './support.mjs';

/** How long until the service gives fresh credentials, milliseconds: it does so before the old ones have run out. */
const FRESH_MS = 1000 * Number(process.env.TURN_TTL ?? 60);

let browser;
const there = [];

/** Has every connection of a page use relayed addresses alone, whatever it is configured with, then or later. */
function relayOnly() {
  const relayed = (configuration) => ({ ...configuration, iceTransportPolicy: 'relay' });
  window.RTCPeerConnection = class extends window.RTCPeerConnection {
    constructor(configuration) {
      super(relayed(configuration));
    }

    setConfiguration(configuration) {
      super.setConfiguration(relayed(configuration));
    }
  };
}

async function pair() {
  const all = await Promise.all(['Ada', 'Grace'].map((name) => person(browser, name, { script: relayOnly })));
  there.push(...all);
  return all;
}

/** The kinds of both ends of what is in use at that page: `relay/relay`, say. */
const path = (one) =>
  one.page.evaluate(async () => {
    const [{ pc }] = window.__call.peers();
    const stats = await pc.getStats();
    const transport = [...stats.values()].find((stat) => stat.type === 'transport');
    const used = stats.get(transport?.selectedCandidatePairId);
    const kind = (id) => stats.get(id)?.candidateType;
    return `${kind(used?.localCandidateId)}/${kind(used?.remoteCandidateId)}`;
  });

/** The names that a page's connection signs in to TURN servers with. */
const names = (one) =>
  one.page.evaluate(() => {
    const [{ pc }] = window.__call.peers();
    return pc.getConfiguration().iceServers.flatMap(({ username }) => username || []);
  });

describe('through a TURN server', { skip: process.env.TURN !== '1' && 'TURN is not 1' }, () => {
  before(async () => {
    browser = await launch();
  });
  after(() => browser?.close());
  afterEach(async () => {
    await Promise.all(there.splice(0).map((one) => one.context.close()));
  });

  it('two people see and hear each other, and go on with fresh credentials', async () => {
    const [ada, grace] = await pair();
    await call(ada, [grace]);
    await accept(grace);
    await Promise.all([sees(ada, grace), sees(grace, ada)]);
    for (const one of [ada, grace]) assert.equal(await path(one), 'relay/relay');
    const old = await Promise.all([ada, grace].map(names));
    assert.ok(
      old.every((one) => one.length > 0),
      'the service gives a TURN server with a name',
    );
    for (const [i, one] of [ada, grace].entries()) {
      const isFresh = async () => (await names(one)).every((name) => !old[i].includes(name));
      await until(`${one.name} is given fresh credentials`, isFresh, { patience: FRESH_MS });
    }
    await Promise.all([sees(ada, grace), sees(grace, ada)]);

    // The fresh ones are good: a connection that is mended signs in with them.
    const ended = await Promise.all([ada, grace].map(round));
    await fails(ada);
    for (const [i, one] of [ada, grace].entries())
      await until(`${one.name} has new addresses`, async () => (await round(one)) !== ended[i]);
    await Promise.all([sees(ada, grace), sees(grace, ada)]);
    for (const one of [ada, grace]) assert.equal(await path(one), 'relay/relay');
    unharmed(ada, grace);
  });
});
