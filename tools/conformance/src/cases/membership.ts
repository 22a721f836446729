import type { MoeAllToAll } from "@moe-a2a/core";
import type { Context, RankCase } from "../case.js";
import { expectError, fails, rejects, same, throws } from "../check.js";
import { Flight } from "../flight.js";
import type { RoundSpec } from "../round.js";
import { each, type Setup, setUp, vary } from "./common.js";

type MakeRound = ReturnType<typeof setUp>["round"];

/** A stretch of rounds with one membership. */
interface Stretch {
  readonly active: readonly number[];
  readonly specs: (round: MakeRound) => readonly RoundSpec[];
}

/** Changes the membership from stretch to stretch; ranks that are left out do nothing meanwhile. */
function stretches(name: string, setup: Setup, list: readonly Stretch[]): RankCase {
  const { config, round } = setUp(setup);
  return {
    name: `membership: ${name}`,
    ranks: setup.ranks,
    config,
    async run(context) {
      const a2a = await context.create();
      same(
        "activeRanks at first",
        [...a2a.activeRanks],
        each(setup.ranks, 0).map((_, r) => r),
      );
      for (const [s, { active, specs }] of list.entries()) {
        if (active.includes(context.rank)) {
          context.at(`reset to ${active}`);
          await a2a.reset({ activeRanks: active });
          same("activeRanks", [...a2a.activeRanks], [...active]);
          for (const [turn, spec] of specs(round).entries()) {
            context.at(`stretch ${s} round ${turn}`);
            const made = context.round(`${s}/${turn}`, { ...spec, active });
            await context.play(a2a, made, vary(context, turn));
          }
        }
        await context.barrier();
      }
    },
  };
}

/** Ranks, tokens, hidden size, absent rank. */
const absent = [
  [4, 16, 32, 2],
  [5, 16, 64, 0],
] as const;

const oneAbsent = absent.map(([ranks, tokens, hidden, gone]) =>
  stretches(`rank ${gone} of ${ranks} absent`, { ranks, tokens, hidden, topK: 3 }, [
    {
      active: each(ranks, 0).flatMap((_, r) => (r === gone ? [] : [r])),
      specs: (round) => [
        round(each(ranks, tokens)),
        round(
          each(ranks, 0).map((_, r) => (r * 5) % tokens),
          { routing: "padded" },
        ),
      ],
    },
  ]),
);

const withEverything = stretches(
  "absent ranks together with statistics and zero tokens",
  { ranks: 5, tokens: 4, topK: 4, experts: 13, maxExpertStats: 6, invalidExpert: "drop" },
  [
    {
      active: [0, 2, 4],
      specs: (round) => [
        round([4, 0, 0, 0, 3], { stats: 6, routing: "wild" }),
        round([0, 0, 0, 0, 0], { stats: 6, slots: 0 }),
        round([0, 0, 4, 0, 0], { stats: 2, slots: 4 }),
      ],
    },
    {
      active: [1, 2],
      specs: (round) => [round([0, 0, 1, 0, 0], { stats: 6 }), round(each(5, 4), { stats: 1 })],
    },
  ],
);

const alone = stretches("one rank on its own", { ranks: 3, tokens: 4 }, [
  { active: [1], specs: (round) => [round([0, 4, 0]), round([0, 0, 0]), round([0, 2, 0], { slots: 2 })] },
  { active: [0, 1, 2], specs: (round) => [round([4, 4, 4])] },
]);

const backAndForth = stretches("ranks leave and come back", { ranks: 4, tokens: 5, topK: 3 }, [
  { active: [0, 1, 3], specs: (round) => [round(each(4, 5)), round([1, 2, 0, 3])] },
  { active: [0, 1, 2, 3], specs: (round) => [round(each(4, 5)), round([0, 5, 0, 1])] },
  { active: [2], specs: (round) => [round([0, 0, 5, 0])] },
  { active: [1, 2], specs: (round) => [round(each(4, 2)), round([0, 0, 3, 0])] },
  { active: [0, 3], specs: (round) => [round(each(4, 2))] },
  { active: [0, 1, 2, 3], specs: (round) => [round(each(4, 5)), round([5, 0, 5, 0])] },
]);

const unchanged = stretches("reset of a healthy instance without a change", { ranks: 3, tokens: 3 }, [
  { active: [0, 1, 2], specs: (round) => [round([3, 0, 1])] },
  { active: [0, 1, 2], specs: () => [] },
  { active: [0, 1, 2], specs: (round) => [round([0, 3, 3])] },
]);

const twoLanes = stretches(
  "ranks leave and come back with two lanes",
  { ranks: 3, tokens: 3, roundsInFlight: 2 },
  [
    { active: [0, 1, 2], specs: (round) => [round([3, 0, 1])] },
    { active: [0, 2], specs: (round) => [round([3, 0, 1]), round([0, 0, 1]), round([2, 0, 0])] },
    { active: [0, 1, 2], specs: (round) => [round([3, 3, 1]), round([0, 1, 0]), round([2, 0, 2])] },
  ],
);

/** The others agree to go on without a rank that does not know yet. */
function leftOut(): RankCase {
  const { config, round } = setUp({ ranks: 3, tokens: 4, timeoutMs: 20_000 });
  return {
    name: "membership: a rank that was left out may not take part, and is told so",
    ranks: 3,
    config,
    async run(context) {
      const { rank } = context;
      const a2a = await context.create();
      await context.play(a2a, context.round(0, round([4, 1, 2])));
      await context.barrier();
      if (rank !== 1) await a2a.reset({ activeRanks: [0, 2] });
      await context.barrier();

      const without = context.round(1, { ...round([3, 0, 4]), active: [0, 2] });
      const all = context.round(2, round([1, 4, 3]));
      if (rank === 1) {
        context.at("take part although left out");
        const input = await Flight.input(a2a, all, context.target);
        await stateOf(context, () => a2a.dispatch(input).ready());
        // It may not go on by itself either.
        throws("abort() of a left-out rank", () => a2a.abort("no"), "ERR_MOE_A2A_STATE");
      } else await context.play(a2a, without);
      await context.barrier();

      context.at("come back");
      await a2a.reset({ activeRanks: [0, 1, 2] });
      await context.play(a2a, all);
    },
  };
}

/** The call itself fails, or the round where the call cannot know. */
async function stateOf({ target }: Context, call: () => Promise<unknown>): Promise<void> {
  if (target.traits.callsSeeMemory) throws("dispatch() of a left-out rank", call, "ERR_MOE_A2A_STATE");
  else await fails("round of a left-out rank", async () => call(), "ERR_MOE_A2A_STATE");
}

const refused: RankCase = (() => {
  const { config, round } = setUp({ ranks: 3, tokens: 2 });
  return {
    name: "membership: what no rank can be left in is refused, and harms nothing",
    ranks: 3,
    config,
    async run(context) {
      const { rank } = context;
      const a2a = await context.create();
      const others = [0, 1, 2].filter((r) => r !== rank);
      const lists: [unknown, readonly (string | number)[]][] = [
        [others, [`rank ${rank}`, "activeRanks"]],
        [[], [`rank ${rank}`]],
        [
          [0, 1, 2, 3],
          ["activeRanks", 3],
        ],
        [
          [-1, rank],
          ["activeRanks", -1],
        ],
        [
          [rank, 0.5],
          ["activeRanks", "0.5"],
        ],
        [[rank, rank], ["twice"]],
        ["all", ["activeRanks"]],
      ];
      for (const [activeRanks, says] of lists) {
        const reset = a2a.reset({ activeRanks: activeRanks as number[] });
        await rejects(`reset to ${activeRanks}`, reset, "ERR_MOE_A2A_ARGUMENT", {
          fields: { argument: "activeRanks" },
          says,
        });
      }
      for (const timeoutMs of [0, -1, 1.5, 2 ** 31, Number.NaN]) {
        await rejects(`reset in ${timeoutMs} ms`, a2a.reset({ timeoutMs }), "ERR_MOE_A2A_ARGUMENT", {
          says: ["timeoutMs", String(timeoutMs)],
        });
      }
      await context.play(a2a, context.round(0, round([2, 0, 1])));
    },
  };
})();

/** Resets until all have agreed; a rank that is told of a disagreement tries again. */
async function agree(a2a: MoeAllToAll, activeRanks: readonly number[]): Promise<void> {
  for (;;) {
    try {
      await a2a.reset({ activeRanks });
      return;
    } catch (error) {
      expectError("reset()", error, "ERR_MOE_A2A_MISMATCH", { fields: { field: "activeRanks" } });
    }
  }
}

const disagreeing: RankCase = (() => {
  const { config, round } = setUp({ ranks: 3, tokens: 2, timeoutMs: 20_000 });
  return {
    name: "membership: ranks that name different memberships are told so, and can agree afterwards",
    ranks: 3,
    config,
    async run(context) {
      const a2a = await context.create();
      if (context.rank === 2) {
        await rejects("reset", a2a.reset({ activeRanks: [0, 2] }), "ERR_MOE_A2A_MISMATCH", {
          fields: { field: "activeRanks" },
          says: ["activeRanks", /0,\s*1,\s*2/, /\[0,\s*2\]/],
        });
      }
      await agree(a2a, [0, 1, 2]);
      await context.play(a2a, context.round(0, round([2, 0, 1])));
    },
  };
})();

export const membership: readonly RankCase[] = [
  ...oneAbsent,
  withEverything,
  alone,
  backAndForth,
  unchanged,
  twoLanes,
  leftOut(),
  refused,
  disagreeing,
];
