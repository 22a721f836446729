import { isMoeA2AError, type MoeA2AErrorOf, type ResetState } from "@moe-a2a/core";
import type { CudaContext } from "./context.js";
import { MISSING_KINDS } from "./outcome.js";

function maskOf(ranks: readonly number[]): bigint {
  return ranks.reduce((mask, rank) => mask | (1n << BigInt(rank)), 0n);
}

/** By lane, as the library wants them: always two. */
function roundWords(nextRounds: readonly number[]): Uint32Array {
  return Uint32Array.from({ length: 2 }, (_, lane) => (nextRounds[lane] ?? 0) >>> 0);
}

/**
 * Stops this rank's kernels, meets the named ranks, cleans this rank's window while nobody sends, meets again, and starts
 * the next generation with them.
 *
 * @throws (rejects) ERR_MOE_A2A_PEER_TIMEOUT naming who did not come, ERR_MOE_A2A_MISMATCH where ranks name different
 * members, ERR_MOE_A2A_CUDA, ERR_MOE_A2A_STATE where `close()` was called meanwhile
 */
export async function resetRank(
  context: CudaContext,
  ranks: readonly number[],
  timeoutMs: number,
): Promise<void> {
  // What was enqueued before is sent all the same, as peers may be about to get it; nobody is waited for any more.
  context.call("reset()", (native, id) => native.stop(id, true));
  await context.occupy("reset()", (native, id) => native.drain(id));
  context.checkOpen("reset()");
  const mask = maskOf(ranks);
  const mine = {
    nextRounds: context.lanes.map((lane) => lane.nextRound),
    generation: context.peers.generation,
  };
  let cleaned: ResetState | undefined;
  const clean = ({ nextRounds, generation }: ResetState): void => {
    context.call("reset()", (native, id) => {
      native.clean(id, roundWords(nextRounds));
      native.raiseGeneration(id, generation, mask);
    });
    context.peers.raiseGeneration(generation, ranks);
    context.generation = generation;
    cleaned = { nextRounds, generation };
  };
  const start = ({ nextRounds, generation }: ResetState): void => {
    context.call("reset()", (native, id) =>
      native.startGeneration(id, generation, mask, roundWords(nextRounds)),
    );
    context.startGeneration(generation, ranks, nextRounds);
  };
  try {
    await context.peers.meetings.run(ranks, timeoutMs, mine, { clean, start });
  } catch (error) {
    if (cleaned && !context.isClosed() && isMoeA2AError(error, "ERR_MOE_A2A_PEER_TIMEOUT")) {
      tellOfFailure(context, mask, cleaned, error);
    }
    throw error;
  }
}

/**
 * Tells the named ranks, in the new generation, that this rank has failed to start it. Some may have met a second time all
 * the same, and would wait for it in their first round; the others try again, and clean their windows before.
 */
function tellOfFailure(
  context: CudaContext,
  mask: bigint,
  { nextRounds, generation }: ResetState,
  { kind, missingRanks }: MoeA2AErrorOf<"ERR_MOE_A2A_PEER_TIMEOUT">,
): void {
  const missing = maskOf(missingRanks);
  context.call("reset()", (native, id) =>
    native.tellFailedReset(
      id,
      MISSING_KINDS.indexOf(kind),
      missing,
      generation,
      mask,
      roundWords(nextRounds),
    ),
  );
}
