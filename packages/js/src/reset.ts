import { argumentError, type CheckContext, describe, MoeA2AError } from "@moe-a2a/core";
import { clearAbortRecords } from "./abort-record.js";
import type { RankContext } from "./context.js";
import type { Window } from "./memory.js";
import { wireRound } from "./round-number.js";

/** What ranks tell one another when they meet for a reset. */
interface Meeting {
  readonly activeRanks: readonly number[];
  readonly nextRounds: readonly number[];
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

/**
 * Meets the named ranks, cleans this rank's window while nobody sends, meets again, and starts the next generation.
 *
 * The window's generation names the meeting, as all windows have the same one, also those of ranks that were left out.
 */
export async function resetRank(
  context: RankContext,
  ranks: readonly number[],
  timeoutMs: number,
): Promise<void> {
  const { group, own, control, layout, rank, config } = context;
  const generation = Atomics.load(own.words, control.generation);
  let attempt = 0;
  const name = (): string => `reset:${context.instance}:${generation}:${attempt}`;
  while (group.failed(name(), ranks)) attempt++;

  const options = { ranks, timeoutMs, phase: "reset", where: "reset" } as const;
  const mine: Meeting = { activeRanks: ranks, nextRounds: context.lanes.map((lane) => lane.nextRound) };
  const met = await group.gather<Meeting>(name(), mine, {
    ...options,
    check: (peer, theirs) => {
      if (theirs.activeRanks.join() === ranks.join()) return undefined;
      const values: unknown[] = new Array(config.epSize).fill(undefined);
      values[rank] = [...ranks];
      values[peer] = [...theirs.activeRanks];
      return mismatch(context, values);
    },
  });

  // All named ranks have stopped sending: none sends again before the second meeting.
  const nextRounds = context.lanes.map((_, l) => Math.max(...ranks.map((r) => met[r]!.nextRounds[l]!)));
  for (const lane of context.lanes) {
    const before = wireRound(nextRounds[lane.index]! - 1);
    for (let source = 0; source < config.epSize; source++) {
      Atomics.store(own.words, lane.flag("dispatch", source), before);
      Atomics.store(own.words, lane.flag("combine", source), before);
    }
  }
  clearAbortRecords(own, layout, control, config.epSize);
  const next = (generation + 1) | 0;
  Atomics.store(own.words, control.generation, next);
  for (let peer = 0; peer < config.epSize; peer++) {
    if (ranks.includes(peer)) continue;
    // A rank that was given up and wakes later finds its window in another generation, and does no harm.
    Atomics.store((context.windows[peer] as Window).words, control.generation, next);
    group.ring(peer);
  }
  await group.gather(`${name()}:clean`, undefined, options);
  context.startGeneration(next, ranks, nextRounds);
}
