// Starts a server, runs the tests against it, stops it.
//   node run.mjs               our harness: target/debug/examples/socketio_harness, or $HARNESS
//   node run.mjs --reference   npm's own server
//   node run.mjs <url>         a server that runs already
// Where the conformance folder is at hand ($CONFORMANCE_DIR, or ../shared/conformance beside the
// repository), its beyond.mjs is run as well.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, existsSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, "..", "..");
const [argument] = process.argv.slice(2);

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

async function start() {
  if (argument?.startsWith("http")) return { url: argument, stop() {} };
  const port = await freePort();
  const [program, ...args] =
    argument === "--reference"
      ? [process.execPath, join(here, "reference.mjs"), port]
      : [process.env.HARNESS ?? join(root, "target/debug/examples/socketio_harness"), "--port", port, "--client-port", await freePort()];
  const server = spawn(program, args.map(String), { stdio: "inherit" });
  const url = `http://127.0.0.1:${port}`;
  for (let attempt = 0; attempt < 200; attempt++) {
    if (server.exitCode !== null) break;
    try {
      await fetch(`${url}/socket.io/?EIO=4&transport=polling`);
      return { url, stop: () => server.kill() };
    } catch {
      await sleep(25);
    }
  }
  throw new Error(`${program} does not answer`);
}

async function run(args, env) {
  const child = spawn(process.execPath, args, { stdio: "inherit", cwd: here, env: { ...process.env, ...env } });
  const [code] = await once(child, "exit");
  return code ?? 1;
}

const server = await start();
let failed = await run(["--test", "client.test.mjs"], { BASE_URL: server.url });
const beyond = join(process.env.CONFORMANCE_DIR ?? join(root, "../shared/conformance"), "beyond.mjs");
if (existsSync(beyond)) {
  // Beside node_modules, or its imports are not found.
  const copy = join(here, "node_modules", "beyond.mjs");
  copyFileSync(beyond, copy);
  failed ||= await run([copy, server.url]);
  rmSync(copy);
}
server.stop();
process.exit(failed);
