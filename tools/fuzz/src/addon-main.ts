import { once } from "node:events";
import { openSync, writeSync } from "node:fs";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import { Caller, loadAddon } from "./addon/calls.js";
import { writeFigures } from "./figures/write.js";
import { Random } from "./frames/random.js";
import { isChild, reportAlive, runChild, supervise } from "./supervise.js";
import { prepareValues, Thrown } from "./surface/values.js";

/** Tears a thread down that is calling the addon. */
async function tearDown(seed: number, turns: number): Promise<void> {
  const worker = new Worker(new URL("./addon/thread.js", import.meta.url), { workerData: seed });
  for (let turn = 0; turn < turns; turn++) await once(worker, "message");
  await worker.terminate();
}

/** Calls the addon's functions with anything at all; they have to throw an Error or return. */
async function main(): Promise<boolean> {
  const { values } = parseArgs({
    options: {
      calls: { type: "string", default: "200000" },
      threads: { type: "string", default: "50" },
      seed: { type: "string", default: "1" },
      json: { type: "string" },
      last: { type: "string" },
    },
  });
  const addon = loadAddon();
  if (!addon) {
    console.log("addon: not built here (npm run build:native builds it)");
    return true;
  }
  const { deviceCount } = (addon.platform as () => { deviceCount: number })();
  if (deviceCount > 0) {
    console.log("addon: handles of streams are the driver's, so it is only called where there is no GPU");
    return true;
  }
  await prepareValues();
  // A listener that throws is the caller's own doing.
  for (const event of ["unhandledRejection", "uncaughtException"]) {
    process.on(event, (error) => {
      if (error instanceof Thrown) return;
      console.log("FAILED:", error);
      process.exit(1);
    });
  }
  const seed = Number(values.seed);
  const random = new Random(seed);
  const caller = new Caller(addon, random);
  const last = values.last ? openSync(values.last, "w") : undefined;
  const about = (what: string): void => {
    if (last !== undefined) writeSync(last, what.padEnd(300), 0);
    reportAlive();
  };
  const outcomes: Record<string, number> = {};
  const start = performance.now();
  for (let call = 0; call < Number(values.calls); call++) {
    const outcome = caller.call(about);
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    // What takes time is told by a turn of its own.
    if (call % 500 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  for (let thread = 0; thread < Number(values.threads); thread++) {
    about(`thread ${thread}, torn down`);
    await tearDown(seed * 1000 + thread, 1 + random.below(20));
  }
  const [calls, threads, functions] = [Number(values.calls), Number(values.threads), caller.functions.length];
  const each = Object.entries(outcomes).map(([outcome, count]) => `${outcome} ${count}`);
  console.log(
    `addon: ${calls} calls of ${functions} functions, ${threads} threads torn down, seed ${seed}: ${each.join(", ")}`,
  );
  const seconds = (performance.now() - start) / 1000;
  writeFigures(values.json, {
    tool: "addon",
    ...{ calls, functions, threads, seed, seconds, failed: 0, outcomes },
  });
  return true;
}

if (isChild()) await runChild(main);
else process.exitCode = await supervise(new URL(import.meta.url), process.argv.slice(2));
