import { setTimeout as sleep } from "node:timers/promises";
import type { LastWord, Progress, RankSummary } from "../rank/protocol.js";

/** Time for the other ranks to end by themselves, and to say more, after the first has failed. */
const GRACE_MS = 1_000;

/** A thread or process with one rank. */
export interface RankHost {
  /** Settles when it is gone, with what to say of that if the rank itself had no last word. */
  readonly ended: Promise<string>;
  /** Ends it, where it still runs; settles when it is gone. */
  terminate(): Promise<unknown>;
}

/** Starts one rank; `hear` gets what it says. */
export type StartRank = (hear: (message: Progress | LastWord) => void) => RankHost;

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
 * Runs ranks.
 *
 * @param starts by rank
 * @param onProgress hears of steps and answers
 * @returns the ranks' summaries, by rank, once all of them have ended
 * @throws (rejects) {@link RanksFailed} where a rank failed or ended early; no thread or process runs on after that
 */
export async function runRanks(
  starts: readonly StartRank[],
  onProgress: (message: Progress) => void,
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

  const hosts: RankHost[] = [];
  try {
    for (const [rank, start] of starts.entries()) {
      const host = start((message) => {
        if (message.kind === "failed") fail(message);
        else if (message.kind === "done") summaries[rank] = message.summary;
        else onProgress(message);
      });
      hosts.push(host);
    }
    const ended = Promise.all(
      hosts.map(async (host, rank) => {
        const message = await host.ended;
        const known = failures.some((failure) => failure.rank === rank);
        if (!summaries[rank] && !known) fail({ rank, message, byPeer: false });
      }),
    );
    await Promise.race([ended, failed]);
    if (failures.length === 0) return summaries;
    await Promise.race([ended, sleep(GRACE_MS, undefined, { ref: false })]);
    throw new RanksFailed(describeFailures(failures));
  } finally {
    await Promise.all(hosts.map((host) => host.terminate()));
  }
}

/** The causes before those who only noticed. */
function describeFailures(failures: readonly Failure[]): string {
  return [...failures]
    .sort((a, b) => Number(a.byPeer) - Number(b.byPeer) || a.rank - b.rank)
    .map(({ rank, message }) => `rank ${rank}: ${message}`)
    .join("\n");
}
