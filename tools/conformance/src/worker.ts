import { parentPort } from "node:worker_threads";
import type { Job } from "./rank-host.js";
import { pauseThread, type Told, writeNote } from "./rank-thread.js";
import { runJob } from "./run-job.js";

const tell = (told: Told): void => parentPort?.postMessage(told);

// One job after another.
parentPort?.on("message", async (job: Job) => {
  const { place } = job;
  const result = await runJob(job, {
    note: (where) => {
      if (place.kind === "threads") writeNote(place.note, where);
    },
    async die(how) {
      if (how === "exits") process.exit(0);
      tell("terminate");
      // Blocked for good, so that only the end of the thread helps.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
      throw new Error("the thread was not terminated");
    },
    pause() {
      if (place.kind === "threads") pauseThread(place.note);
    },
    resume: (rank) => tell({ resume: rank }),
  });
  tell({ result });
});
