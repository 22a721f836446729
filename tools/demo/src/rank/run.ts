import { type Group, isMoeA2AError } from "@moe-a2a/core";
import { createMoeAllToAll } from "@moe-a2a/sglang";
import { viewWeights } from "../model/weights.js";
import { Model } from "./model.js";
import { Moe } from "./moe.js";
import type { LastWord, Progress, RankInput, RankSummary } from "./protocol.js";
import { serve } from "./serve.js";

/** What a rank needs of the thread or process that it lives in. */
export interface Home {
  weights(): SharedArrayBuffer;
  join(): Promise<Group>;
  tell(message: Progress): void;
}

/** Runs one rank from its group's beginning to its last word, which is returned. */
export async function runRank(input: RankInput, home: Home): Promise<LastWord> {
  try {
    return { kind: "done", summary: await serveRank(input, home) };
  } catch (error) {
    return {
      kind: "failed",
      rank: input.rank,
      message: error instanceof Error ? (error.stack ?? error.message) : String(error),
      byPeer: isMoeA2AError(error, "ERR_MOE_A2A_PEER_TIMEOUT") || isMoeA2AError(error, "ERR_MOE_A2A_ABORTED"),
    };
  }
}

async function serveRank(
  { rank, config, backend, shape, seed, requests, fault }: RankInput,
  home: Home,
): Promise<RankSummary> {
  const layers = viewWeights(shape, home.weights());
  const group = await home.join();
  const a2a = await createMoeAllToAll(config, group, { backend });
  const moe = new Moe(a2a, shape, fault === "combine");
  const model = new Model(rank, shape, layers, seed, moe);
  const served = await serve(group, model, shape.layers, requests, config.maxTokensPerRank, {
    step(step, tokensByRank) {
      // Every rank knows the whole step; one of them is enough to tell.
      if (rank === 0) home.tell({ kind: "step", step, tokensByRank });
    },
    answer(request, tokens) {
      home.tell({ kind: "answer", request: request.id, tokens });
      if (fault === "worker") throw new Error(`stopped on purpose after the answer to request ${request.id}`);
    },
  });
  await a2a.close();
  await group.close();
  const { compared, mismatches, first: firstMismatch } = moe.checker;
  return { ...served, rank, compared, mismatches, firstMismatch };
}
