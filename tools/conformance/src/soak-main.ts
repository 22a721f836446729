import { fork } from "node:child_process";
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import { createThreadGroup } from "@moe-a2a/core";
import { ProcessPlaces } from "./process-places.js";
import type { SoakJob, SoakMessage, SoakPlace } from "./soak/job.js";

const help = `Plays random rounds for a long time, and compares one in 61 byte for byte with the oracle. On CUDA it then replays
a captured round, its count changing in device memory, and compares one replay in 37. In the end it makes and closes
instances, over and over. What ranks have in use must stay flat.

  npm run soak -- [options]

  --backend NAME    js or cuda; default js
  --group KIND      threads or processes; default threads
  --ranks N         default 4
  --rounds N        default 200000
  --replays N       default 20000; CUDA only
  --cycles N        default 2000
  --seconds N       stops the rounds after that time, too; default 3600
  --seed N          default 1
  --json FILE       writes the figures there, too

The last line of its output is JSON.`;

/** The engine's young generation grows late and by tens of MiB per thread, which would hide what leaks. */
const YOUNG_MB = 6;

type Tell = (message: SoakMessage) => void;
type Fail = (rank: number, what: string) => void;

function startThread(job: SoakJob, tell: Tell, fail: Fail): Promise<void> {
  const worker = new Worker(new URL("./soak-worker.js", import.meta.url), {
    workerData: job,
    resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MB },
  });
  worker.on("message", tell);
  worker.on("error", (error: Error) => fail(job.rank, error.stack ?? error.message));
  return new Promise((resolve) => worker.on("exit", () => resolve()));
}

function startProcess(job: SoakJob, tell: Tell, fail: Fail): Promise<void> {
  const child = fork(fileURLToPath(new URL("./soak-process.js", import.meta.url)), {
    serialization: "advanced",
    // Of each of its two halves, and as much again.
    execArgv: [`--max-semi-space-size=${YOUNG_MB / 3}`],
  });
  child.on("message", tell);
  child.send(job);
  return new Promise((resolve) => {
    child.on("exit", (code, signal) => {
      if (code !== 0) fail(job.rank, `its process ended with ${signal ?? `exit code ${code}`}`);
      resolve();
    });
  });
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      backend: { type: "string", default: "js" },
      group: { type: "string", default: "threads" },
      ranks: { type: "string", default: "4" },
      rounds: { type: "string", default: "200000" },
      replays: { type: "string", default: "20000" },
      cycles: { type: "string", default: "2000" },
      seconds: { type: "string", default: "3600" },
      seed: { type: "string", default: "1" },
      json: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(help);
    return;
  }
  const number = (
    name: "ranks" | "rounds" | "replays" | "cycles" | "seconds" | "seed",
    low: number,
  ): number => {
    const value = Number(values[name]);
    if (Number.isSafeInteger(value) && value >= low) return value;
    throw new Error(`--${name} is "${values[name]}"; it must be an integer from ${low} on`);
  };
  const { backend, group } = values;
  if (group !== "threads" && group !== "processes") throw new Error("--group is threads or processes");
  const options = {
    backend,
    rounds: number("rounds", 1),
    replays: number("replays", 0),
    cycles: number("cycles", 0),
    seconds: number("seconds", 1),
    seed: number("seed", 0),
  };
  const count = number("ranks", 1);
  const messages: SoakMessage[] = [];
  const fail: Fail = (rank, what) => {
    console.error(`rank ${rank}: ${what}`);
    process.exitCode = 1;
  };
  const tell: Tell = (message) => {
    messages.push(message);
    if ("failure" in message) fail(message.rank, message.failure);
  };
  const folder = new ProcessPlaces();
  const places: SoakPlace[] =
    group === "threads"
      ? createThreadGroup(count).map((ticket) => ({ kind: "threads", ticket }))
      : (await folder.next(count)).map((join) => ({ kind: "processes", options: join }));
  const start = group === "threads" ? startThread : startProcess;
  const began = performance.now();
  await Promise.all(places.map((place, rank) => start({ rank, place, ...options }, tell, fail)));
  folder.close();
  if (messages.length < count) process.exitCode = 1;
  const ranks = messages.sort((a, b) => a.rank - b.rank);
  const seconds = Math.round((performance.now() - began) / 1000);
  const failed = process.exitCode ? 1 : 0;
  const figures = { tool: "soak", backend, group, seed: options.seed, seconds, failed, ranks };
  if (values.json) writeFileSync(values.json, `${JSON.stringify(figures)}\n`);
  console.log(JSON.stringify(figures));
}

main().catch((error: Error) => {
  console.error(error.message);
  process.exitCode = 2;
});
