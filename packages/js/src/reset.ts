import { argumentError, type CheckContext, describe, MoeA2AError } from "@moe-a2a/core";
import { clearAbortRecords } from "./abort-record.js";
import type { RankContext } from "./context.js";
import type { Window } from "./memory.js";
import { wireRound } from "./round-number.js";

/** What ranks tell one another when they meet for a reset. */
interface Meeting {
  readonly activeRanks: readonly number[];
  readonly nextRounds: readonly number[];
  readonly generation: number;
}

/**
 * Checks the membership of a reset.
 *
 * @returns the ranks, ascending
 * @throws ERR_MOE_A2A_ARGUMENT for anything but distinct ranks with this one among them
 */
export function checkActiveRanks({ config, rank }: CheckContext, given: unknown): readonly number[] {
  if (!Array.isArray(given))
    throw argumentError(rank, "activeRanks", `is ${describe(given)}, not an array of ranks`);
  const ranks = [...given].sort((a, b) => a - b);
  for (const [i, r] of ranks.entries()) {
    if (!Number.isInteger(r) || r < 0 || r >= config.epSize) {
      throw argumentError(rank, "activeRanks", `names ${describe(r)}; ranks are 0…${config.epSize - 1}`);
    }
    if (r === ranks[i - 1]) throw argumentError(rank, "activeRanks", `names rank ${r} twice`);
  }
  if (!ranks.includes(rank)) {
    throw argumentError(
      rank,
      "activeRanks",
      `[${ranks.join(", ")}] leaves out rank ${rank} itself; a rank that is left out does not call reset()`,
    );
  }
  return ranks;
}

function mismatch(context: RankContext, values: readonly unknown[]): MoeA2AError<"ERR_MOE_A2A_MISMATCH"> {
  const list = values.map((value, r) => `rank ${r}: [${value}]`).filter((_, r) => values[r] !== undefined);
  return new MoeA2AError(
    "ERR_MOE_A2A_MISMATCH",
    `rank ${context.rank}, reset: ranks disagree on activeRanks (${list.join(", ")}); every rank named has to name the same`,
    { field: "activeRanks", values },
  );
}

function meetingKey(context: RankContext, number: number): string {
  return `reset:${context.instance}:${number}`;
}

/**
 * The number under which the named ranks meet: the first that none of them has used up.
 *
 * @throws ERR_MOE_A2A_MISMATCH where the others have just disagreed without waiting for this rank, and do not meet again
 * so far: all are to know
 */
function joinMeeting(context: RankContext, ranks: readonly number[]): number {
  const { windows, control, own, group } = context;
  const mine = Atomics.load(own.words, control.meeting);
  const number = Math.max(
    ...ranks.map((rank) => Atomics.load((windows[rank] as Window).words, control.meeting)),
  );
  Atomics.store(own.words, control.meeting, number);
  if (number > mine && !group.gatherings.hasBegun(meetingKey(context, number), ranks)) {
    const missed = group.gatherings.failure(meetingKey(context, number - 1), ranks);
    if (missed?.code === "ERR_MOE_A2A_MISMATCH") throw missed;
  }
  return number;
}

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
  const { own, control, windows, config, group } = context;
  Atomics.store(own.words, control.generation, generation);
  context.generation = generation;
  for (let peer = 0; peer < config.epSize; peer++) {
    if (ranks.includes(peer)) continue;
    // A rank that was given up and wakes later finds its window in another generation, and does no harm.
    Atomics.store((windows[peer] as Window).words, control.generation, generation);
    group.ring(peer);
  }
}

/**
 * Meets the named ranks, cleans this rank's window while nobody sends, meets again, and starts the next generation.
 *
 * @throws (rejects) ERR_MOE_A2A_PEER_TIMEOUT naming who did not come, ERR_MOE_A2A_MISMATCH where ranks name different
 * members
 */
export async function resetRank(
  context: RankContext,
  ranks: readonly number[],
  timeoutMs: number,
): Promise<void> {
  const { group, own, control, rank, config } = context;
  const number = joinMeeting(context, ranks);
  const meeting = meetingKey(context, number);
  const cleaned = `${meeting}:cleaned`;
  context.meetings = [meeting, cleaned];
  const departure = (peer: number) => context.departure(peer);
  const options = { ranks, timeoutMs, phase: "reset", where: "reset", departure } as const;
  const mine: Meeting = {
    activeRanks: ranks,
    nextRounds: context.lanes.map((lane) => lane.nextRound),
    generation: Atomics.load(own.words, control.generation),
  };
  try {
    const met = await group.gatherings.gather<Meeting>(meeting, mine, {
      ...options,
      series: { name: `reset:${context.instance}`, number },
      check: (peer, theirs) => {
        if (theirs.activeRanks.join() === ranks.join()) return undefined;
        const values: unknown[] = new Array(config.epSize).fill(undefined);
        values[rank] = [...ranks];
        values[peer] = [...theirs.activeRanks];
        return mismatch(context, values);
      },
    });
    // All named ranks have stopped sending, and none sends again before the second meeting.
    const values = ranks.map((r) => met[r] as Meeting);
    const nextRounds = context.lanes.map((_, l) => Math.max(...values.map((value) => value.nextRounds[l]!)));
    const generation = (Math.max(...values.map((value) => value.generation)) + 1) | 0;
    cleanWindow(context, nextRounds);
    raiseGeneration(context, ranks, generation);
    await group.gatherings.gather(cleaned, undefined, {
      ...options,
      series: { name: `reset:${context.instance}:cleaned`, number },
    });
    context.startGeneration(generation, ranks, nextRounds);
  } catch (error) {
    Atomics.store(own.words, control.meeting, number + 1);
    // Who is already past the first meeting must not wait in the second for a rank that failed in the first.
    if (error instanceof MoeA2AError) group.gatherings.giveUp(cleaned, error);
    throw error;
  } finally {
    context.meetings = [];
  }
  Atomics.store(own.words, control.meeting, number + 1);
}
