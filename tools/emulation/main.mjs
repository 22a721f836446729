// Runs the kernels on the CPU in random worlds, byte for byte against the tests' own reference.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { each } from "../model/pool.mjs";
import { findNvcc } from "../nvcc.mjs";
import { buildAddon, buildTest } from "./build.mjs";
import { mutants } from "./mutants.mjs";
import { worldsOf } from "./worlds.mjs";

const usage = `npm run emulate -- [options]
npm run emulate -- addon <script> [arguments]
  runs a Node program, in which @moe-a2a/cuda finds emulated GPUs
  --worlds <n>     how many, default 100
  --seed <n>       of the first, default 1; the others follow
  --mutants        also kernels with a mistake, each of which has to be found
  --jobs <n>       at a time, default 2
  --help`;

const { NODE_OPTIONS = "", REQUIRE_CUDA } = process.env;
const directory = fileURLToPath(new URL("build", import.meta.url));

/** Worlds in which a mistake has to show, at the least. */
const WORLDS_PER_MUTANT = 400;

/** Of one world, which takes a fraction of a second. */
const TIMEOUT_MS = 120_000;

function run(program, { args, env }) {
  return new Promise((done) => {
    const child = spawn(program, args, {
      env: { ...process.env, ...env },
      timeout: TIMEOUT_MS,
      killSignal: "SIGKILL",
    });
    let said = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (data) => {
        said += data;
      });
    }
    child.on("close", (code, signal) => done({ isFine: code === 0, said: said || `ended by ${signal}` }));
  });
}

/** Where the CUDA toolkit's headers lie, as its compiler says. */
function headersOf(nvcc) {
  const { stderr } = spawnSync(nvcc, ["--dryrun", "-x", "cu", "-c", "-o", "none.o", "none.cu"], {
    encoding: "utf8",
  });
  const includes = /^#\$ INCLUDES=(.*)$/m.exec(stderr)?.[1] ?? "";
  const found = [...includes.matchAll(/"-I(.+?)"/g)].map(([, path]) => path);
  return found.length > 0 ? found : ["/usr/local/cuda/include"];
}

const commandOf = ({ program, args, env }) =>
  `${Object.entries(env)
    .flatMap(([name, value]) => `${name}=${value}`)
    .join(" ")} ${program} ${args.join(" ")}`;

/** The worlds in which the programs fail, by their names, the first `enough` of them. */
async function failuresOf(programs, seeds, jobs, enough = Number.POSITIVE_INFINITY) {
  const failures = [];
  await each(seeds, jobs, async (seed) => {
    for (const world of worldsOf(seed)) {
      const program = programs[world.program];
      if (!program || failures.length >= enough) continue;
      const { isFine, said } = await run(program, world);
      if (!isFine) failures.push({ seed, world, said });
    }
  });
  return failures;
}

const seconds = (from, to) => ((to - from) / 1000).toFixed(0);

/** Random worlds, and kernels with a mistake. */
async function playWorlds(values, options) {
  const first = Number.parseInt(values.seed, 10);
  const worlds = Number.parseInt(values.worlds, 10);
  const seedsOf = (length) => Array.from({ length }, (_, i) => first + i);
  const seeds = seedsOf(worlds);
  const wrong = [];
  const started = performance.now();
  const programs = {};
  for (const program of ["rounds_test", "stop_test"]) {
    programs[program] = await buildTest(program, directory, options);
  }
  const built = performance.now();
  const failures = await failuresOf(programs, seeds, options.jobs);
  for (const { world, said } of failures) {
    console.error(`${commandOf(world)}\n${said.split("\n").slice(0, 12).join("\n")}\n`);
    wrong.push(commandOf(world));
  }
  console.log(
    `${seeds.length - new Set(failures.map(({ seed }) => seed)).size} of ${seeds.length} worlds are as they have to be ` +
      `(built in ${seconds(started, built)} s, run in ${seconds(built, performance.now())} s)`,
  );
  for (const { name, what, program = "rounds_test", change } of values.mutants ? mutants : []) {
    const mutant = await buildTest(program, join(directory, "mutant"), {
      ...options,
      change,
      base: directory,
    });
    const [found] = await failuresOf(
      { [program]: mutant },
      seedsOf(Math.max(worlds, WORLDS_PER_MUTANT)),
      options.jobs,
      1,
    );
    console.log(`${name} (${what}): ${found ? `found by seed ${found.seed}` : "NOT FOUND"}`);
    if (!found) wrong.push(name);
  }
  return wrong.length === 0 ? 0 : 1;
}

/** A program with the addon over emulated GPUs, which work by themselves and by the clock on the wall. */
async function runWithAddon([script, ...args], options) {
  const EMULATED_ADDON = await buildAddon(directory, options);
  const hook = fileURLToPath(new URL("use-addon.cjs", import.meta.url));
  const env = {
    ...process.env,
    EMULATED_ADDON,
    EMULATION_ALONE: "1",
    NODE_OPTIONS: `${NODE_OPTIONS} --require ${JSON.stringify(hook)}`,
  };
  const child = spawn(process.execPath, [script, ...args], { env, stdio: "inherit" });
  const [code, signal] = await once(child, "close");
  if (signal) console.error(`${script} was ended by ${signal}`);
  return code ?? 1;
}

async function main() {
  const [first, ...program] = process.argv.slice(2);
  const { values } = parseArgs({
    args: first === "addon" ? [] : process.argv.slice(2),
    options: {
      worlds: { type: "string", default: "100" },
      seed: { type: "string", default: "1" },
      mutants: { type: "boolean", default: false },
      jobs: { type: "string", default: "2" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help || (first === "addon" && program.length === 0)) {
    console.log(usage);
    return values.help ? 0 : 2;
  }
  const nvcc = findNvcc();
  if (!nvcc) {
    console.error("The kernels are not emulated: there is no CUDA toolkit, whose headers they need.");
    return REQUIRE_CUDA === "1" ? 1 : 0;
  }
  const options = { headers: headersOf(nvcc), jobs: Math.max(1, Number.parseInt(values.jobs, 10) || 1) };
  try {
    return first === "addon" ? await runWithAddon(program, options) : await playWorlds(values, options);
  } catch (error) {
    if (!/ENOENT|boost\/context|lboost_context/.test(error.message)) throw error;
    console.error(error.message);
    console.error(
      "The emulation needs g++ and Boost.Context. On Debian: apt-get install g++ libboost-context-dev",
    );
    return 1;
  }
}

process.exitCode = await main();
