import type { RankCase } from "../case.js";
import { same } from "../check.js";
import { each, rounds, setUp } from "./common.js";

const ranks = 4;

/** Experts of `rank` alone, for setups with `perRank` experts on each. */
const onlyTo = (rank: number, perRank: number, topK: number) => () =>
  Array.from({ length: topK }, (_, k) => rank * perRank + (k % perRank));

const anyRankIdle = rounds("zero tokens: on each rank in turn", { ranks, tokens: 6 }, (round) =>
  each(ranks, 0).map((_, idle) =>
    round(each(ranks, 0).map((_, r) => (r === idle ? 0 : 1 + ((r + idle) % 6)))),
  ),
);

const allIdle = rounds(
  "zero tokens: on all ranks, with slots and with none",
  { ranks, tokens: 6 },
  (round) => [
    round(each(ranks, 0)),
    round(each(ranks, 0), { slots: 0 }),
    round(each(ranks, 0), { slots: 3 }),
    round(each(ranks, 2)),
    round(each(ranks, 0), { slots: 0 }),
    round(each(ranks, 0), { slots: 0 }),
    round([0, 6, 0, 1]),
  ],
);

const oneBusy = rounds("zero tokens: on all ranks but one", { ranks, tokens: 5 }, (round) =>
  each(ranks, 0).map((_, busy) => round(each(ranks, 0).map((_, r) => (r === busy ? 5 : 0)))),
);

const everyPattern = rounds("zero tokens: every subset of four ranks", { ranks, tokens: 3 }, (round) =>
  Array.from({ length: 2 ** ranks }, (_, mask) =>
    round(each(ranks, 0).map((_, r) => (mask & (1 << r) ? 1 + ((mask + r) % 3) : 0))),
  ),
);

const alternating = rounds(
  "zero tokens: alternating 4, 0, 3, 0, 2, 0, 1, 0",
  { ranks: 8, tokens: 4, topK: 3 },
  (round) => [
    round([4, 0, 3, 0, 2, 0, 1, 0]),
    round([0, 4, 0, 3, 0, 2, 0, 1]),
    round([4, 0, 3, 0, 2, 0, 1, 0]),
  ],
);

const everyRound = rounds(
  "zero tokens: on a different rank each round, 40 rounds",
  { ranks: 5, tokens: 4 },
  (round) =>
    Array.from({ length: 40 }, (_, i) => {
      const counts = each(5, 0).map((_, r) => (r === i % 5 ? 0 : 1 + ((i + r) % 4)));
      return round(counts, { slots: Math.max(...counts) });
    }),
);

const toOneRank = rounds(
  "zero tokens: all tokens go to one rank, the others receive nothing",
  { ranks, tokens: 7, experts: 8 },
  (round) => each(ranks, 0).map((_, to) => round([7, 2, 0, 5], { routing: onlyTo(to, 2, 2) })),
);

const nowhere = rounds(
  "zero tokens: all entries are padding, so that nobody receives anything and all rows combine to zeros",
  { ranks, tokens: 3 },
  (round) => [round([3, 1, 0, 2], { routing: () => [-1, -1] })],
);

const oneRankAlone = rounds("zero tokens: on a single rank", { ranks: 1, tokens: 3, experts: 4 }, (round) => [
  round([0]),
  round([3]),
  round([0], { slots: 0 }),
]);

const withEverything = rounds(
  "zero tokens: with statistics, a named id payload and two lanes",
  { ranks, tokens: 3, maxExpertStats: 5, roundsInFlight: 2 },
  (round) =>
    [
      [0, 0, 0, 0],
      [0, 3, 0, 1],
      [2, 0, 0, 0],
      [0, 0, 0, 0],
    ].map((counts) => round(counts, { stats: 5, invalidTokenExpertId: -7 })),
);

/** An idle rank costs nothing but its presence: nobody receives a row from it that nobody routed. */
function idleCosts(): RankCase {
  const { config, round } = setUp({ ranks, tokens: 4, experts: 8 });
  return {
    name: "zero tokens: an idle rank sends no row and receives none",
    ranks,
    config,
    async run(context) {
      const a2a = await context.create();
      // Rank 2 is idle, and no token chooses its experts 4 and 5.
      const spec = round([4, 1, 0, 3], { routing: (_, token) => [token % 4, 6 + (token % 2)] });
      const flight = await context.launch(a2a, context.round(0, spec));
      const report = await flight.arrive();
      const counts = Array.from((await a2a.read(flight.dispatch.recvCounts)) as Int32Array);
      if (context.rank === 2) {
        same("rows sent by the idle rank", report.tokensSent, 0);
        same("rows received by the idle rank", report.tokensReceived, 0);
        same("recvCounts of the idle rank", counts, [0, 0, 0, 0]);
      } else same("rows received from the idle rank", counts[2], 0);
      await flight.offer();
      await flight.finish();
      if (context.rank === 2) {
        same("shape of the idle rank's output", [...flight.combine!.output.shape], [0, 8]);
      }
    },
  };
}

export const zeroTokens: readonly RankCase[] = [
  anyRankIdle,
  allIdle,
  oneBusy,
  everyPattern,
  alternating,
  everyRound,
  toOneRank,
  nowhere,
  oneRankAlone,
  withEverything,
  idleCosts(),
];
