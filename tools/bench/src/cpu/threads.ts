import { Worker } from "node:worker_threads";
import { createThreadGroup } from "@moe-a2a/core";
import type { Plan } from "./plan.js";
import type { Measured, Work, WorkerJob } from "./worker.js";

/** Has every rank of a thread group do the same work. @returns what each measured, by rank */
export async function onThreads<W extends Work>(epSize: number, plan: Plan, work: W): Promise<Measured<W>[]> {
  const tickets = createThreadGroup(epSize);
  return Promise.all(
    tickets.map((ticket) => {
      const job: WorkerJob = { ticket, plan, work };
      const worker = new Worker(new URL("./cpu/worker.js", import.meta.url), { workerData: job });
      return new Promise<Measured<W>>((resolve, reject) => {
        worker.on("message", resolve);
        worker.on("error", reject);
        worker.on("exit", (code) => reject(new Error(`rank ${ticket.rank} ended with exit code ${code}`)));
      });
    }),
  );
}
