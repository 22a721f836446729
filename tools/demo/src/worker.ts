import { parentPort, workerData } from "node:worker_threads";
import { isMoeA2AError, joinThreadGroup } from "@moe-a2a/core";
import { createMoeAllToAll } from "@moe-a2a/sglang";
import { viewWeights } from "./model/weights.js";
import { Model } from "./rank/model.js";
import { Moe } from "./rank/moe.js";
import type { RankInput, RankMessage } from "./rank/protocol.js";
import { serve } from "./rank/serve.js";

const input = workerData as RankInput;
const tell = (message: RankMessage): void => parentPort!.postMessage(message);

async function run({
  ticket,
  config,
  backend,
  shape,
  weights,
  seed,
  requests,
  fault,
}: RankInput): Promise<void> {
  const group = joinThreadGroup(ticket);
  const a2a = await createMoeAllToAll(config, group, { backend });
  const moe = new Moe(a2a, shape, fault === "combine");
  const { rank } = group;
  const model = new Model(rank, shape, viewWeights(shape, weights), seed, moe);
  const served = await serve(group, model, shape.layers, requests, config.maxTokensPerRank, {
    step(step, tokensByRank) {
      // Every rank knows the whole step; one of them is enough to tell.
      if (rank === 0) tell({ kind: "step", step, tokensByRank });
    },
    answer(request, tokens) {
      tell({ kind: "answer", request: request.id, tokens });
      if (fault === "worker") throw new Error(`stopped on purpose after the answer to request ${request.id}`);
    },
  });
  await a2a.close();
  await group.close();
  const { compared, mismatches, first: firstMismatch } = moe.checker;
  tell({ kind: "done", summary: { ...served, rank, compared, mismatches, firstMismatch } });
}

run(input).catch((error: unknown) => {
  tell({
    kind: "failed",
    rank: input.ticket.rank,
    message: error instanceof Error ? (error.stack ?? error.message) : String(error),
    byPeer: isMoeA2AError(error, "ERR_MOE_A2A_PEER_TIMEOUT") || isMoeA2AError(error, "ERR_MOE_A2A_ABORTED"),
  });
  // Leaves at once, so that the peers hear of it from their group.
  process.exit(1);
});
