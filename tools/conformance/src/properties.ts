import { type CombineDType, DTYPES } from "@moe-a2a/core";
import * as fc from "fast-check";
import type { DrivenCase } from "./case.js";
import type { PayloadSpec } from "./round.js";
import type { World, WorldRound } from "./world.js";

const MAX_RANKS = 9;
const MAX_TOKENS = 5;
/** Rounds of a world. */
const MIN_ROUNDS = 5;
const MAX_ROUNDS = 9;

/** Objects that print as they are written. */
const plain = { noNullPrototype: true } as const;

const combineDType = fc.constantFrom<CombineDType>("float32", "float16", "bfloat16");

const payload: fc.Arbitrary<PayloadSpec> = fc.record(
  {
    dtype: fc.constantFrom(...DTYPES),
    n: fc.integer({ min: 1, max: 19 }),
  },
  plain,
);

const round: fc.Arbitrary<WorldRound> = fc.record(
  {
    // All or nobody idle as often as anything between.
    idle: fc.oneof(fc.constant(0), fc.constant(2 ** MAX_RANKS - 1), fc.nat({ max: 2 ** MAX_RANKS - 1 })),
    counts: fc.array(fc.nat({ max: MAX_TOKENS }), { minLength: MAX_RANKS, maxLength: MAX_RANKS }),
    slack: fc.constantFrom(0, 0, 1, 3),
    payloads: fc.array(payload, { minLength: 1, maxLength: 4 }),
    idPayload: fc.constantFrom("none" as const, "named" as const, "unnamed" as const),
    invalidTokenExpertId: fc.constantFrom(undefined, -3, 1_000_000),
    routing: fc.constantFrom("distinct" as const, "repeated" as const, "padded" as const, "wild" as const),
    stats: fc.option(fc.integer({ min: 1, max: 4 }), { nil: undefined }),
    hidden: fc.integer({ min: 1, max: 9 }),
    dtype: combineDType,
    outDtypes: fc.array(fc.option(combineDType, { nil: undefined }), {
      minLength: MAX_RANKS,
      maxLength: MAX_RANKS,
    }),
    values: fc.constantFrom("spread" as const, "special" as const, "bits" as const),
    membership: fc.oneof({ weight: 5, arbitrary: fc.constant(0) }, fc.nat({ max: 2 ** MAX_RANKS - 1 })),
  },
  plain,
);

/** Random worlds of at most so many ranks. */
function worlds(maxRanks: number): fc.Arbitrary<World> {
  return fc.record(
    {
      seed: fc.nat({ max: 2 ** 31 - 1 }),
      ranks: fc.integer({ min: 1, max: Math.min(MAX_RANKS, maxRanks) }),
      moreExperts: fc.nat({ max: 20 }),
      topK: fc.integer({ min: 1, max: 10 }),
      lanes: fc.constantFrom(1 as const, 2 as const),
      drop: fc.boolean(),
      rounds: fc.array(round, { minLength: MIN_ROUNDS, maxLength: MAX_ROUNDS, size: "max" }),
    },
    plain,
  );
}

/** Time for making a failing world smaller. */
const SHRINK_MS = 60_000;

const randomWorlds: DrivenCase = {
  name: "properties: random worlds",
  async drive({ target, kind, seed, rounds: least = target.worldRounds[kind], play }) {
    let rounds = 0;
    let zeros = 0;
    let failedAt: number | undefined;
    const property = fc.asyncProperty(worlds(target.maxRanks), async (w) => {
      // Worlds that hang take long to shrink; out of time, no smaller one counts as failing any more.
      if (failedAt !== undefined && performance.now() - failedAt > SHRINK_MS) return;
      try {
        await play({ world: w });
      } catch (error) {
        failedAt ??= performance.now();
        throw error;
      }
      rounds += w.rounds.length;
      for (const r of w.rounds) {
        for (let rank = 0; rank < w.ranks; rank++) if ((r.idle >> rank) & 1 || r.counts[rank] === 0) zeros++;
      }
    });
    await fc.assert(property, { seed, numRuns: Math.ceil(least / MIN_ROUNDS) });
    return `${rounds} rounds, ${zeros} times a rank without tokens`;
  },
};

export const properties: readonly DrivenCase[] = [randomWorlds];
