// The published client against a server set up like examples/socketio_harness.rs.
//   BASE_URL=http://127.0.0.1:3000 node --test client.test.mjs
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Manager, io } from "socket.io-client";

const BASE = process.env.BASE_URL ?? "http://127.0.0.1:3000";
const PATIENCE_MS = 5000;
const open = new Set();

/** A client of its own connection, closed when the tests are over. */
function client(options = {}, path = "") {
  const socket = io(BASE + path, { forceNew: true, reconnectionDelay: 10, ...options });
  open.add(socket);
  return socket;
}

/** What comes with the next event of this name. */
async function next(socket, event) {
  return once(socket, event, { signal: AbortSignal.timeout(PATIENCE_MS) });
}

async function connected(options, path) {
  const socket = client(options, path);
  await next(socket, "connect");
  return socket;
}

after(() => open.forEach((socket) => socket.disconnect()));

const transports = {
  "websocket only": { transports: ["websocket"] },
  "polling only": { transports: ["polling"] },
  "polling, then upgrade": {},
};

for (const [name, options] of Object.entries(transports)) {
  describe(name, () => {
    it("connects, with an id of the server's making", async () => {
      const socket = await connected(options);
      assert.ok(socket.id.length >= 16);
      assert.notEqual(socket.id, socket.io.engine.id);
    });

    it("hands its auth payload over", async () => {
      const socket = client({ ...options, auth: { token: "abc", n: [1, null] } });
      assert.deepEqual(await next(socket, "auth"), [{ token: "abc", n: [1, null] }]);
    });

    it("hands over an auth payload that is made when it is needed", async () => {
      const socket = client({ ...options, auth: (give) => give({ token: "late" }) });
      assert.deepEqual(await next(socket, "auth"), [{ token: "late" }]);
    });

    it("sends and gets arguments of all kinds", async () => {
      const socket = await connected(options);
      const kinds = [[], [1, "two", null, true], [{ a: { b: ["c", 0.5, -1e-7] } }], ["てすと 😀 \u2028 \""]];
      for (const args of kinds) {
        socket.emit("message", ...args);
        assert.deepEqual(await next(socket, "message-back"), args);
      }
    });

    it("sends and gets bytes, anywhere in its arguments", async () => {
      const socket = await connected(options);
      const bytes = Buffer.from([0, 1, 128, 255]);
      socket.emit("message", bytes, { deep: [{ a: bytes }] }, "text", new Uint8Array(0));
      const [first, second, text, empty] = await next(socket, "message-back");
      assert.deepEqual(Buffer.from(first), bytes);
      assert.deepEqual(Buffer.from(second.deep[0].a), bytes);
      assert.equal(text, "text");
      assert.equal(Buffer.from(empty).length, 0);
    });

    it("gets the acks it asks for", async () => {
      const socket = await connected(options);
      assert.equal(await socket.emitWithAck("message-with-ack", "x"), "x");
      const many = await Promise.all(
        Array.from({ length: 50 }, (_, i) => socket.timeout(PATIENCE_MS).emitWithAck("message-with-ack", i)),
      );
      assert.deepEqual(many, Array.from({ length: 50 }, (_, i) => i));
      const bytes = await socket.emitWithAck("message-with-ack", Buffer.from([7]));
      assert.deepEqual(Buffer.from(bytes), Buffer.from([7]));
    });

    it("is told when no ack comes", async () => {
      const socket = await connected(options);
      await assert.rejects(socket.timeout(50).emitWithAck("nobody-listens"), /timed out/);
    });

    it("gives the acks it is asked for", async () => {
      const socket = await connected(options);
      socket.on("question", (answer) => answer("a", { b: 1 }, Buffer.from([9])));
      socket.emit("ask");
      const [a, b, bytes] = await next(socket, "answered");
      assert.deepEqual([a, b, Buffer.from(bytes)], ["a", { b: 1 }, Buffer.from([9])]);
    });

    it("keeps the order of a burst", async () => {
      const socket = await connected(options);
      const got = [];
      const all = new Promise((done) => {
        socket.on("message-back", (i) => got.push(i) === 500 && done());
      });
      for (let i = 0; i < 500; i++) socket.emit("message", i);
      await all;
      assert.deepEqual(got, Array.from({ length: 500 }, (_, i) => i));
    });

    it("sends more than maxPayload in all, but not in one", async () => {
      const socket = await connected(options);
      const part = "x".repeat(60_000);
      const sent = Array.from({ length: 25 }, (_, i) =>
        socket.timeout(PATIENCE_MS).emitWithAck("message-with-ack", `${i}${part}`),
      );
      assert.deepEqual((await Promise.all(sent)).map((it) => it.length), sent.map((_, i) => 60_000 + `${i}`.length));
    });

    it("reaches the other members of a room, and they it", async () => {
      const [a, b, outside] = await Promise.all([0, 1, 2].map(() => connected(options)));
      const room = `room-${a.id}`;
      await Promise.all([a, b].map((it) => it.emitWithAck("join", room)));
      outside.on("said", () => assert.fail("not in the room"));
      const heard = next(b, "said");
      await a.emitWithAck("say", room, { x: Buffer.from([5]) });
      const [what] = await heard;
      assert.deepEqual(Buffer.from(what.x), Buffer.from([5]));
      await b.emitWithAck("leave", room);
      b.on("said", () => assert.fail("no longer in the room"));
      await a.emitWithAck("say", room, 1);
      await sleep(30);
    });

    it("is refused with message and data", async () => {
      const socket = client(options, "/denied");
      const [error] = await next(socket, "connect_error");
      assert.deepEqual([error.message, error.data], ["denied", { code: 7 }]);
      assert.equal(socket.active, false);
    });

    it("is refused a namespace that is not there", async () => {
      const [error] = await next(client(options, "/nope"), "connect_error");
      assert.equal(error.message, "Invalid namespace");
    });

    it("uses several namespaces on one connection", async () => {
      const manager = new Manager(BASE, { ...options, forceNew: true });
      const [main, custom] = [manager.socket("/"), manager.socket("/custom", { auth: { a: 1 } })];
      open.add(main).add(custom);
      const greetings = await Promise.all([next(main, "auth"), next(custom, "auth")]);
      assert.deepEqual(greetings, [[{}], [{ a: 1 }]]);
      assert.notEqual(main.id, custom.id);
      custom.disconnect();
      assert.equal(await main.emitWithAck("message-with-ack", 1), 1);
      custom.connect();
      await next(custom, "connect");
    });

    it("is told when the server puts it out, and may come back", async () => {
      for (const event of ["leave-me", "kick-me"]) {
        const socket = await connected(options);
        socket.emit(event);
        assert.equal((await next(socket, "disconnect"))[0], "io server disconnect");
        assert.equal(socket.active, false);
        socket.connect();
        await next(socket, "connect");
      }
    });

    it("comes back by itself when its connection breaks", async () => {
      const socket = await connected(options);
      const before = socket.id;
      const gone = next(socket, "disconnect");
      socket.io.engine.close();
      assert.equal((await gone)[0], "forced close");
      await next(socket, "connect");
      assert.notEqual(socket.id, before);
      assert.equal(await socket.emitWithAck("message-with-ack", "again"), "again");
    });

    it("sends what it was given while it was away", async () => {
      const socket = client({ ...options, autoConnect: false });
      const acked = socket.timeout(PATIENCE_MS).emitWithAck("message-with-ack", "early");
      socket.connect();
      assert.equal(await acked, "early");
    });

    it("lives through many heartbeats", async () => {
      const socket = await connected(options);
      socket.on("disconnect", (reason) => assert.fail(reason));
      await sleep(1300);
      assert.equal(await socket.emitWithAck("message-with-ack", "alive"), "alive");
      socket.off("disconnect");
    });

    it("leaves politely and can come again", async () => {
      const socket = await connected(options);
      socket.disconnect();
      socket.connect();
      await next(socket, "connect");
      assert.equal(await socket.emitWithAck("message-with-ack", 1), 1);
    });
  });
}

describe("upgrade", () => {
  it("takes place, with nothing lost, doubled or out of order", async () => {
    for (let round = 0; round < 5; round++) {
      const socket = client();
      const upgraded = new Promise((done) => {
        socket.io.once("open", () => {
          assert.equal(socket.io.engine.transport.name, "polling");
          socket.io.engine.once("upgrade", done);
        });
      });
      const got = [];
      socket.on("message-back", (i) => got.push(i));
      let sent = 0;
      const sender = setInterval(() => socket.emit("message", sent++), 1);
      await upgraded;
      await sleep(20);
      clearInterval(sender);
      assert.equal(socket.io.engine.transport.name, "websocket");
      await socket.emitWithAck("message-with-ack", "last");
      assert.deepEqual(got, Array.from({ length: sent }, (_, i) => i), `round ${round}`);
    }
  });

  it("is not tried when the session began on a websocket", async () => {
    const socket = await connected({ transports: ["websocket", "polling"] });
    assert.equal(socket.io.engine.transport.name, "websocket");
    socket.io.engine.on("upgrading", () => assert.fail("upgrading"));
    await sleep(30);
  });
});

describe("limits", () => {
  it("a message above maxPayload ends the connection, and the client comes back", async () => {
    const socket = await connected({ transports: ["websocket"] });
    socket.emit("message", "x".repeat(1_100_000));
    const [reason, details] = await next(socket, "disconnect");
    assert.equal(reason, "transport close");
    assert.equal(details.context.code, 1009);
    await next(socket, "connect");
  });

  it("a client that does not speak in time is put out", async () => {
    const manager = new Manager(BASE, { transports: ["websocket"], forceNew: true, reconnection: false });
    manager.open();
    const [reason] = await next(manager, "close");
    assert.equal(reason, "transport close");
  });
});
