import { parentPort } from "node:worker_threads";
import { joinThreadGroup } from "@moe-a2a/core";
import { loadBackend } from "./backends.js";
import { rankCase } from "./cases/index.js";
import { type Job, writeNote } from "./pool.js";
import { type RankResult, RankRun, RoundStore } from "./rank.js";

/** One rank of one case. */
async function runJob(job: Job): Promise<RankResult> {
  const group = joinThreadGroup(job.ticket);
  const target = await loadBackend(job.backend);
  const run = { target, kind: "threads" as const, case: rankCase(job.case), seed: job.seed };
  const rank = new RankRun(run, group, new RoundStore(1), {
    note: (where) => writeNote(job.note, where),
    async die(how) {
      if (how === "exits") process.exit(0);
      parentPort?.postMessage("terminate");
      // Blocked for good, so that only the end of the thread helps.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
      throw new Error("the thread was not terminated");
    },
  });
  const result = await rank.execute();
  // Rejections nobody handles end the thread in the meantime, which is this case's failure.
  await new Promise(setImmediate);
  return result;
}

// One job after another.
parentPort?.on("message", (job: Job) => {
  void runJob(job).then((result) => parentPort?.postMessage(result));
});
