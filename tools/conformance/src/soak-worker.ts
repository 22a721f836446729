import { parentPort, workerData } from "node:worker_threads";
import { explain } from "./rank.js";
import { runSoak, type SoakJob, type SoakMessage } from "./soak/job.js";

const job = workerData as SoakJob;
runSoak(job).then(
  (message) => parentPort!.postMessage(message),
  (error: unknown) => {
    const failure: SoakMessage = { rank: job.rank, failure: explain(error) };
    parentPort!.postMessage(failure);
    // Leaves at once, so that the peers hear of it.
    setImmediate(() => process.exit(1));
  },
);
