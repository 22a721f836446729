import type { RankCase } from "../case.js";
import { each, rounds } from "./common.js";

const counts = (ranks: number, turn: number): number[] =>
  each(ranks, 0).map((_, r) => ((r * 7 + turn * 5) % 6 === 0 ? 0 : (r * 3 + turn) % 5));

const anyRanks: RankCase[] = [1, 2, 3, 5, 6, 7, 8, 9].map((ranks) =>
  rounds(
    `experts: ${ranks} ranks, ${3 * ranks + 1} experts, top 3`,
    { ranks, tokens: 4, experts: 3 * ranks + 1, topK: 3, hidden: 5 },
    (round) => [0, 1, 2].map((turn) => round(counts(ranks, turn))),
  ),
);

const emulated: RankCase[] = [24, 64].map((ranks) =>
  rounds(
    `experts: ${ranks} ranks`,
    { ranks, tokens: 4, experts: ranks + 13, topK: 8, hidden: 6 },
    (round) => [0, 1].map((turn) => round(counts(ranks, turn))),
    { groups: ["local"] },
  ),
);

const anyTopK: RankCase[] = [1, 2, 3, 5, 6, 7, 8, 9, 10, 16, 20, 22, 32].map((topK) =>
  rounds(
    `experts: top ${topK} of ${topK + 3}, 3 ranks`,
    { ranks: 3, tokens: 5, experts: topK + 3, topK, hidden: 7, dtype: "float32" },
    (round) => [round([5, 0, 4]), round([1, 5, 2], { routing: "padded" })],
  ),
);

const uneven: RankCase[] = [
  [2, 3, 2],
  [3, 4, 4],
  [4, 5, 3],
  [4, 7, 5],
  [5, 6, 6],
  [7, 13, 4],
  [7, 20, 9],
].map(([ranks, experts, topK]) =>
  rounds(
    `experts: ${experts} experts over ${ranks} ranks, top ${topK}, combined in float32`,
    { ranks: ranks!, tokens: 6, experts: experts!, topK: topK!, hidden: 4, dtype: "float32" },
    (round) => [
      round(each(ranks!, 6)),
      round(counts(ranks!, 1)),
      round(counts(ranks!, 2), { routing: "padded" }),
    ],
  ),
);

const extremes: RankCase[] = [
  rounds(
    "experts: one expert per rank, every token to all",
    { ranks: 5, tokens: 4, experts: 5, topK: 5 },
    (round) => [round([4, 0, 1, 2, 3])],
  ),
  rounds("experts: one rank, one expert", { ranks: 1, tokens: 3, experts: 1, topK: 1 }, (round) => [
    round([3]),
    round([0]),
  ]),
  rounds(
    "experts: the same expert named more than once goes there once",
    { ranks: 3, tokens: 8, experts: 4, topK: 4 },
    (round) => [round([8, 0, 5], { routing: "repeated" }), round([2, 8, 8], { routing: () => [3, 3, 3, 3] })],
  ),
  rounds(
    "experts: more than a million of them",
    { ranks: 3, tokens: 8, experts: 1_000_003, topK: 6 },
    (round) => [round([8, 0, 5])],
  ),
];

export const experts: readonly RankCase[] = [...anyRanks, ...emulated, ...anyTopK, ...uneven, ...extremes];
