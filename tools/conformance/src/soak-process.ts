import { explain } from "./rank.js";
import { runSoak, type SoakJob, type SoakMessage } from "./soak/job.js";

const tell = (message: SoakMessage, then: () => void): void => void process.send?.(message, then);

process.once("message", (job: SoakJob) => {
  runSoak(job).then(
    (message) => tell(message, () => process.disconnect()),
    (error: unknown) => tell({ rank: job.rank, failure: explain(error) }, () => process.exit(1)),
  );
});
