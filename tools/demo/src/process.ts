import { joinProcessGroup } from "@moe-a2a/core";
import { createWeights } from "./model/weights.js";
import type { ProcessInput } from "./rank/protocol.js";
import { runRank } from "./rank/run.js";

const leave = (): never => process.exit(1);

process.once("message", async ({ group, ...input }: ProcessInput) => {
  const last = await runRank(input, {
    weights: () => createWeights(input.shape, input.seed),
    join: () => joinProcessGroup(group),
    // Where it cannot be sent, a disconnect follows.
    tell: (message) => void process.send!(message, () => {}),
  });
  process.send!(last, () => {
    // At once, so that the peers hear of it from their group.
    if (last.kind === "failed") leave();
    // What is left to send to peers still goes out.
    process.channel?.unref();
  });
});

// Whoever started this process has gone, maybe before it could listen.
process.on("disconnect", leave);
if (!process.connected) leave();
