import { isMoeA2AError, type MoeA2AError, type ResetState } from "@moe-a2a/core";
import { clearAbortRecords, phaseNumber } from "./abort-record.js";
import type { RankContext } from "./context.js";
import { wireRound } from "./round-number.js";

/** Makes this rank's window as it was before the first round, while nobody sends. */
function cleanWindow(
  { own, control, layout, lanes, config }: RankContext,
  nextRounds: readonly number[],
): void {
  for (const lane of lanes) {
    const before = wireRound(nextRounds[lane.index]! - 1);
    for (let source = 0; source < config.epSize; source++) {
      Atomics.store(own.words, lane.flag("dispatch", source), before);
      Atomics.store(own.words, lane.flag("combine", source), before);
    }
  }
  clearAbortRecords(own, layout, control, config.epSize);
}

/** Raises the generation of this rank's window and of those left out; the other named ranks raise their own. */
function raiseGeneration(context: RankContext, ranks: readonly number[], generation: number): void {
  const { own, control, wire, config } = context;
  Atomics.store(own.words, control.generation, generation);
  context.generation = generation;
  for (let peer = 0; peer < config.epSize; peer++) {
    if (ranks.includes(peer)) continue;
    // A rank that was given up and wakes later finds its window in another generation, and does no harm.
    wire.raiseGeneration(peer, generation);
  }
}

/**
 * Tells the named ranks, in the new generation, that this rank has failed to start it. Some may have met a second time all
 * the same, and would wait for it in their first round; the others try again, and clean their windows before.
 */
function tellOfFailure(
  { wire, rank }: RankContext,
  ranks: readonly number[],
  { generation, nextRounds }: ResetState,
  error: MoeA2AError,
): void {
  const completed = nextRounds.map((round) => phaseNumber(round - 1, "combine"));
  for (const peer of ranks) {
    if (peer !== rank) wire.tellFailure(peer, { error, generation, completed });
  }
}

/**
 * Meets the named ranks and starts the next generation with them.
 *
 * @throws (rejects) ERR_MOE_A2A_PEER_TIMEOUT naming who did not come, ERR_MOE_A2A_MISMATCH where ranks name different
 * members
 */
export async function resetRank(
  context: RankContext,
  ranks: readonly number[],
  timeoutMs: number,
): Promise<void> {
  const { group } = context;
  // What the others have given up on, or have left this rank out of, may not have been read yet.
  if (group.afterCatchingUp) await new Promise<void>(group.afterCatchingUp);
  if (context.isClosed()) throw context.givenUpError("closed");
  const mine = {
    nextRounds: context.lanes.map((lane) => lane.nextRound),
    generation: Atomics.load(context.own.words, context.control.generation),
  };
  let cleaned: ResetState | undefined;
  try {
    await context.meetings.run(ranks, timeoutMs, mine, {
      clean: (agreed) => {
        cleanWindow(context, agreed.nextRounds);
        raiseGeneration(context, ranks, agreed.generation);
        cleaned = agreed;
      },
      start: ({ nextRounds, generation }) => context.startGeneration(generation, ranks, nextRounds),
    });
  } catch (error) {
    if (cleaned && isMoeA2AError(error, "ERR_MOE_A2A_PEER_TIMEOUT")) {
      tellOfFailure(context, ranks, cleaned, error);
    }
    throw error;
  }
}
