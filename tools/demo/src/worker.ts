import { parentPort, workerData } from "node:worker_threads";
import { joinThreadGroup } from "@moe-a2a/core";
import type { ThreadInput } from "./rank/protocol.js";
import { runRank } from "./rank/run.js";

const { ticket, weights, ...input } = workerData as ThreadInput;

void runRank(input, {
  weights: () => weights,
  join: async () => joinThreadGroup(ticket),
  tell: (message) => parentPort!.postMessage(message),
}).then((last) => {
  parentPort!.postMessage(last);
  // Leaves at once, so that the peers hear of it from their group.
  if (last.kind === "failed") process.exit(1);
});
