import { parentPort, workerData } from "node:worker_threads";
import { type Group, joinThreadGroup, type ThreadTicket } from "@moe-a2a/core";
import { type BlockedFigures, type BlockedWork, blockedRounds } from "./blocked.js";
import { type CopyFigures, type CopyWork, copyOnThread } from "./copy.js";
import type { Plan } from "./plan.js";

export type Work = CopyWork | BlockedWork;
export type Measured<W extends Work> = W extends CopyWork ? CopyFigures : BlockedFigures;

export interface WorkerJob {
  readonly ticket: ThreadTicket;
  readonly plan: Plan;
  readonly work: Work;
}

function measure(group: Group, { plan, work }: WorkerJob): Promise<CopyFigures | BlockedFigures> {
  return work.kind === "copy" ? copyOnThread(group, plan, work) : blockedRounds(group, plan, work);
}

const job = workerData as WorkerJob;
const group = joinThreadGroup(job.ticket);
measure(group, job).then(
  async (figures) => {
    await group.exchange("done", new Uint8Array());
    await group.close();
    parentPort!.postMessage(figures);
  },
  (error: unknown) => {
    throw error;
  },
);
