// A registry of npm packages on this machine, for rehearsals: it knows nothing but what is published to it.
import { spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

/** The last that runs on Node 20. */
const VERDACCIO = "6.8.0";
const HOST = "127.0.0.1";
const START_MS = 60_000;

// Kept between rehearsals; it has no place in the workspace, which has nothing else of its 300 packages.
const home = fileURLToPath(new URL("build/registry", import.meta.url));

/** Installs Verdaccio where it is not there yet; returns its program. */
function install() {
  const program = join(home, "node_modules/verdaccio/bin/verdaccio");
  const manifest = join(home, "node_modules/verdaccio/package.json");
  if (existsSync(manifest) && JSON.parse(readFileSync(manifest, "utf8")).version === VERDACCIO)
    return program;
  mkdirSync(home, { recursive: true });
  const project = {
    private: true,
    dependencies: { verdaccio: VERDACCIO },
    // A dependency asks for it by a tag, which mirrors of the registry may not have.
    overrides: { "node-fetch": "2.7.0" },
  };
  writeFileSync(join(home, "package.json"), JSON.stringify(project));
  const { status, stderr } = spawnSync("npm", ["install", "--no-package-lock", "--no-audit", "--no-fund"], {
    cwd: home,
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`Verdaccio cannot be installed:\n${stderr}`);
  return program;
}

async function freePort() {
  const server = createServer().listen(0, HOST);
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/** Someone who may publish; returns the token. */
async function signUp(url) {
  const name = "rehearsal";
  const response = await fetch(new URL(`-/user/org.couchdb.user:${name}`, url), {
    method: "PUT",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ name, password: randomBytes(16).toString("hex") }),
  });
  const { token, error } = await response.json();
  if (!token) throw new Error(`the registry gives no token: ${error}`);
  return token;
}

/**
 * Starts a registry on loopback that keeps its packages in `folder`.
 *
 * @returns its address, the text of an .npmrc that leads there, and what ends it
 */
export async function startRegistry(folder) {
  const program = install();
  const port = await freePort();
  const url = `http://${HOST}:${port}/`;
  const config = {
    storage: join(folder, "storage"),
    auth: { htpasswd: { file: join(folder, "htpasswd") } },
    uplinks: {},
    packages: { "**": { access: "$all", publish: "$authenticated" } },
    web: { enable: false },
    log: { type: "stdout", level: "warn" },
  };
  mkdirSync(folder, { recursive: true });
  // JSON is YAML, too.
  const file = join(folder, "config.yaml");
  writeFileSync(file, JSON.stringify(config));
  const server = spawn(process.execPath, [program, "--config", file, "--listen", `${HOST}:${port}`], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [server.stdout, server.stderr]) {
    stream.setEncoding("utf8").on("data", (text) => {
      output = (output + text).slice(-10_000);
    });
  }
  const stop = () => server.kill();
  const deadline = Date.now() + START_MS;
  while (!(await answers(url))) {
    if (server.exitCode === null && Date.now() < deadline) await sleep(100);
    else {
      stop();
      throw new Error(`the registry does not start:\n${output}`);
    }
  }
  const npmrc = [`registry=${url}`, `//${HOST}:${port}/:_authToken=${await signUp(url)}`, ""].join("\n");
  return { url, npmrc, stop };
}

async function answers(url) {
  try {
    return (await fetch(new URL("-/ping", url))).ok;
  } catch {
    return false;
  }
}
