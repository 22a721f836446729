import { type CombineDType, oracleCombine } from "@moe-a2a/core";
import type { TestOptions } from "../backends.js";
import type { RankCase } from "../case.js";
import { same, sameOutput } from "../check.js";
import type { Values } from "../round.js";
import { each, rounds, setUp } from "./common.js";

const dtypes: readonly CombineDType[] = ["float32", "float16", "bfloat16"];

const values: Record<string, Values> = {
  "values whose sums depend on the order": "spread",
  "edges of the format: infinities, NaN, subnormals, -0, overflow": "special",
  "any bits": "bits",
};

const sums: RankCase[] = dtypes.flatMap((dtype) =>
  Object.entries(values).map(([name, kind]) =>
    rounds(
      `combine: ${dtype}, ${name}`,
      { ranks: 4, tokens: 8, experts: 9, topK: 5, hidden: 37, dtype },
      (round) => [
        round([8, 3, 0, 8], { values: kind }),
        round([1, 8, 8, 0], { values: kind, routing: "padded" }),
      ],
    ),
  ),
);

/** Every dtype of the input with every dtype of the output, another one on each rank. */
const mixed: RankCase[] = dtypes.map((dtype) =>
  rounds(
    `combine: ${dtype} into outputs of other dtypes`,
    { ranks: 4, tokens: 6, experts: 9, topK: 4, hidden: 21, dtype },
    (round) =>
      (["spread", "special", "bits"] as const).map((kind) =>
        round(each(4, 6), { values: kind, outDtypes: [...dtypes, undefined] }),
      ),
  ),
);

const ways: RankCase[] = [false, true].flatMap((inPlace) =>
  [false, true].map((out) =>
    rounds(
      `combine: expert output ${inPlace ? "in combineBuffer()" : "in other memory"}, ${out ? "out given" : "no out"}`,
      { ranks: 3, tokens: 6, hidden: 11, dtype: "float16" },
      (round) => [round([6, 0, 2]), round([1, 5, 6]), round([0, 0, 0]), round([6, 6, 6])],
      { options: { inPlace, out } },
    ),
  ),
);

const hiddenSizes = rounds(
  "combine: other hidden sizes and dtypes each round, within the same bytes",
  { ranks: 3, tokens: 4, maxCombineBytesPerToken: 132 },
  (round) =>
    [1, 2, 3, 15, 16, 17, 33].flatMap((hidden) =>
      dtypes.map((dtype, i) =>
        round([4, i, 3], { hidden, dtype, outDtypes: [undefined, dtypes[(i + 1) % 3]] }),
      ),
    ),
);

/** Chosen values: what each of the token's owners returns, in the order of k, and the sum. */
function exactly(
  name: string,
  dtype: CombineDType,
  parts: readonly number[],
  expected: number,
  outDtype: CombineDType = "float32",
): RankCase {
  const ranks = parts.length;
  const { config, round } = setUp({ ranks, tokens: 1, experts: ranks, topK: ranks, hidden: 3, dtype });
  return {
    name: `combine: ${name}`,
    ranks,
    config,
    async run(context) {
      const a2a = await context.create();
      const spec = round([1, ...each(ranks - 1, 0)], {
        // Descending ranks, so that the order of k is not the order of ranks.
        routing: () => parts.map((_, k) => ranks - 1 - k),
        values: (rank) => parts[ranks - 1 - rank] as number,
        outDtypes: each(ranks, 0).map(() => outDtype),
      });
      const world = context.round(0, spec);
      if (context.rank === 0) {
        // The oracle has to agree with the sum worked out by hand, too.
        const values = outDtype === "float32" ? [expected, expected, expected] : undefined;
        if (values) same("oracle", Array.from(world.outputs[0]!.data, Number), values);
        else
          sameOutput("oracle", world.outputs[0]!.data, {
            ...world.outputs[0]!,
            data: new Uint16Array(3).fill(expected),
          });
      }
      await context.play(a2a, world);
    },
  };
}

const chosen: RankCase[] = [
  exactly("2^24 + 1 + 1 stays 2^24: each sum is rounded to float32", "float32", [2 ** 24, 1, 1], 2 ** 24),
  exactly("1 + 1 + 2^24 does not: ascending k, not ascending rank", "float32", [1, 1, 2 ** 24], 2 ** 24 + 2),
  exactly("a single -0 sums to +0", "bfloat16", [-0], 0),
  exactly("-0 + -0 sums to +0", "float16", [-0, -0], 0),
  exactly("bfloat16 256 + 1 + 1 is rounded once", "bfloat16", [256, 1, 1], 0x4381, "bfloat16"),
  exactly("bfloat16 256 + 1 is a tie, to even", "bfloat16", [256, 1], 0x4380, "bfloat16"),
  exactly("bfloat16 258 + 1 is a tie, to even", "bfloat16", [258, 1], 0x4382, "bfloat16"),
  exactly("float16 2048 + 1 is a tie, to even", "float16", [2048, 1], 0x6800, "float16"),
  exactly("float16 2050 + 1 is a tie, to even", "float16", [2050, 1], 0x6802, "float16"),
  exactly("float16 65504 + 16 overflows to infinity", "float16", [65504, 16], 0x7c00, "float16"),
  exactly("float16 65504 + 8 does not", "float16", [65504, 8], 0x7bff, "float16"),
  exactly(
    "float16 65504 + 65504 − 65504 is exact: no saturation on the way",
    "float16",
    [65504, 65504, -65504],
    0x7bff,
    "float16",
  ),
  exactly("float16 -65504 - 65504 is -infinity", "float16", [-65504, -65504], 0xfc00, "float16"),
  exactly("float16 subnormals add up", "float16", [2 ** -24, 2 ** -24, 2 ** -23], 4, "float16"),
  exactly("bfloat16 subnormals add up", "bfloat16", [2 ** -133, 2 ** -133], 2, "bfloat16"),
  exactly("float32 subnormals add up", "float32", [2 ** -149, 2 ** -148], 3 * 2 ** -149),
  exactly("float16 subnormals widen exactly", "float16", [2 ** -24], 2 ** -24),
  exactly("bfloat16 subnormals widen exactly", "bfloat16", [2 ** -133], 2 ** -133),
  exactly("float32 overflows to infinity", "float32", [3e38, 3e38, -3e38], Number.POSITIVE_INFINITY),
  exactly(
    "infinity - infinity is NaN",
    "float32",
    [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY],
    Number.NaN,
  ),
  exactly("float32 into bfloat16 rounds once, ties to even", "float32", [1, 2 ** -8], 0x3f80, "bfloat16"),
  exactly(
    "float32 just above a tie rounds up in bfloat16",
    "float32",
    [1 + 2 ** -8, 2 ** -20],
    0x3f81,
    "bfloat16",
  ),
  exactly("float32 into float16 subnormals, ties to even", "float32", [3 * 2 ** -25], 2, "float16"),
  exactly("float32 half of the smallest float16 subnormal becomes zero", "float32", [2 ** -25], 0, "float16"),
];

/** The simplest experts of all: what was received goes back as it is. */
export function offeredAsReceived(
  more: Pick<RankCase, "needs"> & { readonly name: string; readonly options?: TestOptions },
): RankCase {
  const { name, options, ...rest } = more;
  const ranks = 3;
  const hidden = 12;
  const payloads = [{ dtype: "bfloat16", n: hidden }] as const;
  const { config, round } = setUp({ ranks, tokens: 90, topK: 4, hidden, payloads });
  // Rows of the next round may come to lie over these, in another order: few tokens and many take turns.
  const rounds = [
    [5, 0, 3],
    each(ranks, 5),
    [0, 1, 0],
    [90, 90, 0],
    [1, 2, 64],
    each(ranks, 90),
    [64, 0, 0],
    [90, 1, 7],
  ];
  return {
    name,
    ranks,
    config,
    ...rest,
    async run(context) {
      const a2a = await context.create({}, options);
      for (const [turn, counts] of rounds.entries()) {
        const made = context.round(turn, round(counts));
        const flight = await context.launch(a2a, made);
        await flight.arrive();
        const combine = flight.dispatch.combine(flight.dispatch.recv[0]!);
        await combine.ready();
        const expertOutputs = made.dispatched.map((d) => d!.recv[0]!);
        const expected = oracleCombine({ dispatched: made.dispatched, expertOutputs })[context.rank]!;
        sameOutput("output", await a2a.read(combine.output), expected);
      }
    },
  };
}

export const combine: readonly RankCase[] = [
  ...sums,
  ...mixed,
  ...ways,
  offeredAsReceived({ name: "combine: received rows offered as they are" }),
  hiddenSizes,
  ...chosen,
];
