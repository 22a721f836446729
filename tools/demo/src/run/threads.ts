import { Worker } from "node:worker_threads";
import type { RankInput, RankMessage, RankSummary } from "../rank/protocol.js";

/** Time for the other ranks to end by themselves, and to say more, after the first has failed. */
const GRACE_MS = 1_000;

/** One or more ranks failed. */
export class RanksFailed extends Error {
  override name = "RanksFailed";
}

interface Failure {
  readonly rank: number;
  readonly message: string;
  readonly byPeer: boolean;
}

/**
 * Runs each rank on a worker thread.
 *
 * @param onMessage hears of steps and answers
 * @returns the ranks' summaries, by rank, once all of them have ended
 * @throws (rejects) {@link RanksFailed} where a rank failed or ended early; no worker runs on after that
 */
export async function runRanks(
  inputs: readonly RankInput[],
  onMessage: (message: RankMessage) => void,
): Promise<RankSummary[]> {
  const summaries: RankSummary[] = [];
  const failures: Failure[] = [];
  let firstFailed = (): void => {};
  const failed = new Promise<void>((resolve) => {
    firstFailed = resolve;
  });
  const fail = (failure: Failure): void => {
    failures.push(failure);
    firstFailed();
  };

  const workers = inputs.map(
    (workerData) => new Worker(new URL("./worker.js", import.meta.url), { workerData }),
  );
  const ended = Promise.all(
    workers.map(
      (worker, rank) =>
        new Promise<void>((resolve) => {
          worker.on("message", (message: RankMessage) => {
            if (message.kind === "failed") fail(message);
            else if (message.kind === "done") summaries[rank] = message.summary;
            else onMessage(message);
          });
          worker.on("error", (error) => {
            fail({ rank, message: error.stack ?? String(error), byPeer: false });
          });
          worker.on("exit", (code) => {
            const known = failures.some((failure) => failure.rank === rank);
            if (!summaries[rank] && !known) {
              fail({ rank, message: `its worker ended early with exit code ${code}`, byPeer: false });
            }
            resolve();
          });
        }),
    ),
  );
  await Promise.race([ended, failed]);
  if (failures.length === 0) return summaries;

  let timer: NodeJS.Timeout | undefined;
  const grace = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, GRACE_MS);
  });
  await Promise.race([ended, grace]);
  clearTimeout(timer);
  const known = [...failures];
  await Promise.all(workers.map((worker) => worker.terminate()));
  throw new RanksFailed(describeFailures(known));
}

/** The causes before those who only noticed. */
function describeFailures(failures: readonly Failure[]): string {
  return [...failures]
    .sort((a, b) => Number(a.byPeer) - Number(b.byPeer) || a.rank - b.rank)
    .map(({ rank, message }) => `rank ${rank}: ${message}`)
    .join("\n");
}
