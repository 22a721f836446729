import type { Job } from "./rank-host.js";
import type { Told } from "./rank-process.js";
import { runJob } from "./run-job.js";

const tell = (told: Told): void => void process.send?.(told);

// One job after another.
process.on("message", async (job: Job) => {
  const result = await runJob(job, {
    note: (where) => tell({ note: where }),
    async die(how) {
      if (how === "exits") process.exit(0);
      process.kill(process.pid, "SIGKILL");
      throw new Error("the process was not killed");
    },
    // Returns when the process goes on.
    pause: () => void process.kill(process.pid, "SIGSTOP"),
    resume: (rank) => tell({ resume: rank }),
  });
  tell({ result });
});
// Whoever started this process has gone.
process.on("disconnect", () => process.exit(1));
