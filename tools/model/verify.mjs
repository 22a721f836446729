import { spawn } from "node:child_process";
import { cp, mkdir } from "node:fs/promises";

import { fileURLToPath } from "node:url";
import { readPanOutput } from "./pan-output.mjs";
import { inWords } from "./violations.mjs";

const promela = fileURLToPath(new URL("promela", import.meta.url));

/** Of one search. One that hits any of these proves nothing. */
const LIMITS = { depth: 5_000, megabytes: 3_000, seconds: 120 };

/** Runs a program to its end, or until the time is up. */
function run(command, args, { cwd, seconds = 60 }) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd, stdio: ["ignore", "pipe", "pipe"], timeout: seconds * 1000 });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8");
      stream.on("data", (text) => {
        output += text;
      });
    }
    child.on("error", reject);
    child.on("close", (code, signal) => resolve({ output, code, signal }));
  });
}

function macros(parameters) {
  return Object.entries(parameters).map(([name, value]) =>
    value === true ? `-D${name}` : `-D${name}=${value}`,
  );
}

/**
 * Makes a verifier for one world and searches all of it.
 *
 * @param {string} directory for everything that is written; made if it is not there
 * @param {Record<string, number | true>} parameters macros of promela/world.pml
 * @param {{ optimize: boolean }} options `optimize` is worth its compile time where there are many states
 */
export async function verify(directory, parameters, { optimize }) {
  const started = performance.now();
  await mkdir(directory, { recursive: true });
  await cp(promela, directory, { recursive: true });
  const step = async (command, args) => {
    const { output, code } = await run(command, args, { cwd: directory });
    if (code !== 0) throw new Error(`${command} ${args.join(" ")} failed in ${directory}:\n${output}`);
  };
  await step("spin", ["-a", ...macros(parameters), "round.pml"]);
  const flags = ["-w", "-DSAFETY", "-DCOLLAPSE", `-DMEMLIM=${LIMITS.megabytes}`];
  await step("gcc", [optimize ? "-O1" : "-O0", ...flags, "-o", "pan", "pan.c"]);
  // A smaller hash table than usual: to clear that takes longer than most of these searches.
  const pan = await run("./pan", ["-n", "-w22", `-m${LIMITS.depth}`], {
    cwd: directory,
    seconds: LIMITS.seconds,
  });
  const found = readPanOutput(pan.output);
  if (pan.signal && found.result !== "violated") {
    found.result = "truncated";
    found.why = `stopped by ${pan.signal}; the limit is ${LIMITS.seconds} s`;
  }
  if (found.result === "violated") found.why = inWords(found.why);
  return { ...found, seconds: (performance.now() - started) / 1000 };
}

/** What happened on the way to the violation that `verify()` found in this directory, a line per event. */
export async function trail(directory, parameters) {
  const { output } = await run("spin", ["-t", "-T", "-B", ...macros(parameters), "round.pml"], {
    cwd: directory,
  });
  return output.trimEnd();
}

/** Names the programs that are missing. */
export async function missingPrograms() {
  const missing = [];
  for (const [program, args] of [
    ["spin", ["-V"]],
    ["gcc", ["--version"]],
  ]) {
    const works = await run(program, args, { cwd: "." }).then(
      ({ code }) => code === 0,
      () => false,
    );
    if (!works) missing.push(program);
  }
  return missing;
}
