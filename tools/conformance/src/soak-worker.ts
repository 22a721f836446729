import { parentPort, workerData } from "node:worker_threads";
import { joinThreadGroup, type ThreadTicket } from "@moe-a2a/core";
import { loadBackend } from "./backends.js";
import { explain } from "./rank.js";
import { growth, type MemorySample, sampleMemory } from "./soak/memory.js";
import { soakConfig } from "./soak/plan.js";
import { type ReplayResult, soakReplays } from "./soak/replays.js";
import { Soak, type SoakResult } from "./soak/rounds.js";

/** What a rank is asked to do. */
export interface SoakJob {
  readonly ticket: ThreadTicket;
  readonly backend: string;
  readonly rounds: number;
  readonly replays: number;
  readonly seconds: number;
  readonly seed: number;
}

export type SoakMessage =
  | {
      readonly rank: number;
      readonly rounds: SoakResult;
      readonly replays?: ReplayResult;
      readonly memory: readonly MemorySample[];
    }
  | { readonly rank: number; readonly failure: string };

async function run(job: SoakJob): Promise<SoakMessage> {
  const group = joinThreadGroup(job.ticket);
  const { rank, size } = group;
  const target = await loadBackend(job.backend);
  const a2a = await target.backend.create(soakConfig(size), group, target.placement(rank));
  const memory: MemorySample[] = [];
  const measure = async () => {
    // One rank looks at the whole process.
    if (rank === 0) memory.push(await sampleMemory(target));
  };
  const rounds = await new Soak(a2a, target, job.seed).run(group, { ...job, measure });
  const [before, after] = memory;
  const grown = before && after ? growth(before, after) : undefined;
  if (grown) throw new Error(`memory is not flat: ${grown}`);
  const replays =
    job.replays > 0 && target.cuda ? await soakReplays(a2a, target, group, job.replays, job.seed) : undefined;
  await group.exchange("done", new Uint8Array());
  await a2a.close();
  await group.close();
  return { rank, rounds, memory, ...(replays ? { replays } : {}) };
}

const job = workerData as SoakJob;
run(job).then(
  (message) => parentPort!.postMessage(message),
  (error: unknown) => {
    const failure: SoakMessage = { rank: job.ticket.rank, failure: explain(error) };
    parentPort!.postMessage(failure);
    // Leaves at once, so that the peers hear of it.
    setImmediate(() => process.exit(1));
  },
);
