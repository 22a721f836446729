import type { RankCase } from "../case.js";
import { each, rounds } from "./common.js";

/** Ranks, tokens, hidden size, length. */
const lists = [
  [2, 5, 8, 32],
  [4, 16, 16, 32],
  [8, 8, 8, 64],
] as const;

export const statistics: readonly RankCase[] = [
  ...lists.map(([ranks, tokens, hidden, stats]) =>
    rounds(
      `statistics: ${stats} values from ${ranks} ranks`,
      { ranks, tokens, hidden, maxExpertStats: stats },
      (round) => [
        round(each(ranks, tokens), { stats }),
        round(each(ranks, 0), { stats }),
        round(each(ranks, 1), { stats }),
      ],
    ),
  ),
  rounds(
    "statistics: lengths that change each round, also none",
    { ranks: 3, tokens: 3, maxExpertStats: 9 },
    (round) =>
      [9, 1, undefined, 4, 9, undefined, 3].map((stats, i) =>
        round([i % 3, (i + 1) % 4, (i + 2) % 3], { stats }),
      ),
  ),
  rounds(
    "statistics: with zero tokens on some ranks or all, and no slots",
    { ranks: 4, tokens: 3, maxExpertStats: 7 },
    (round) => [
      round([0, 3, 0, 0], { stats: 7 }),
      round([0, 0, 0, 0], { stats: 7, slots: 0 }),
      round([0, 0, 0, 2], { stats: 7 }),
    ],
  ),
  rounds("statistics: from one rank alone", { ranks: 1, tokens: 2, maxExpertStats: 3 }, (round) => [
    round([2], { stats: 3 }),
    round([0], { stats: 2 }),
    round([1], { stats: 0 }),
  ]),
];
