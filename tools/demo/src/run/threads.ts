import { Worker } from "node:worker_threads";
import { createThreadGroup } from "@moe-a2a/core";
import { createWeights } from "../model/weights.js";
import type { RankInput, ThreadInput } from "../rank/protocol.js";
import type { StartRank } from "./ranks.js";

/** Ranks on worker threads, in a group of their own, which share the model's weights. */
export function onThreads(inputs: readonly RankInput[]): StartRank[] {
  const { shape, seed } = inputs[0]!;
  const weights = createWeights(shape, seed);
  const tickets = createThreadGroup(inputs.length);
  return inputs.map((input, rank) => onThread({ ...input, ticket: tickets[rank]!, weights }));
}

function onThread(workerData: ThreadInput): StartRank {
  return (hear) => {
    const worker = new Worker(new URL("./worker.js", import.meta.url), { workerData });
    worker.on("message", hear);
    const ended = new Promise<string>((resolve) => {
      worker.on("error", (error) => resolve(error.stack ?? String(error)));
      worker.on("exit", (code) => resolve(`its worker ended early with exit code ${code}`));
    });
    return { ended, terminate: () => worker.terminate() };
  };
}
