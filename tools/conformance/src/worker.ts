import { parentPort } from "node:worker_threads";
import { joinThreadGroup } from "@moe-a2a/core";
import { backends } from "./backends.js";
import { rankCase } from "./cases/index.js";
import { type Job, writeNote } from "./pool.js";
import { RankRun, RoundStore } from "./rank.js";

// One job after another: each is one rank of one case.
parentPort?.on("message", (job: Job) => {
  const target = backends[job.backend];
  if (!target) throw new Error(`no backend named ${job.backend}`);
  const run = { target, kind: "threads" as const, case: rankCase(job.case), seed: job.seed };
  const group = joinThreadGroup(job.ticket);
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
  void rank.execute().then(async (result) => {
    // Rejections nobody handles end the thread in the meantime, which is this case's failure.
    await new Promise(setImmediate);
    parentPort?.postMessage(result);
  });
});
