import {
  type CombineDType,
  expertOwner,
  type MoeAllToAllConfig,
  type TypedArrayOf,
  toFloat32,
} from "@moe-a2a/core";
import type { RankCase } from "../case.js";
import { sameBytes } from "../check.js";
import { Random } from "../random.js";
import { each, rounds, setUp } from "./common.js";

/** One rank: tokens, hidden size, experts, top K. */
const oneRank = [
  [902, 7168, 256, 8],
  [10, 288, 128, 4],
  [10, 8, 8, 2],
] as const;

const single: RankCase[] = oneRank.flatMap(([tokens, hidden, experts, topK]) =>
  (["empty", "foreign"] as const).flatMap((memory) =>
    [false, true].map((out) =>
      rounds(
        `shapes: 1 rank, ${tokens} × ${hidden}, ${experts} experts, top ${topK}, payloads in ${memory} memory, ${out ? "out given" : "no out"}`,
        { ranks: 1, tokens, hidden, experts, topK },
        (round) => [round([tokens])],
        { options: { memory, out, inPlace: memory === "empty" } },
      ),
    ),
  ),
);

/** Ranks, tokens, hidden size, experts, top K. */
const several = [
  [2, 5, 8, 4, 2],
  [4, 32, 32768, 8, 2],
  [8, 16, 2048, 16, 2],
  [4, 16, 32, 6, 2],
  [5, 16, 64, 8, 2],
  [3, 16, 16, 10, 2],
  [4, 16, 4096, 8, 2],
  [4, 16, 2880, 8, 4],
  [8, 16, 5120, 16, 6],
  [8, 16, 7168, 16, 8],
  [8, 16, 4096, 16, 8],
  [8, 16, 4096, 20, 10],
  [8, 16, 4096, 32, 16],
  [8, 16, 4096, 44, 22],
] as const;

const multiple = several.map(([ranks, tokens, hidden, experts, topK]) =>
  rounds(
    `shapes: ${ranks} ranks, ${tokens} × ${hidden}, ${experts} experts, top ${topK}`,
    { ranks, tokens, hidden, experts, topK },
    (round) => [round(each(ranks, tokens))],
  ),
);

const manyExperts = [6, 8, 10, 16, 22].map((topK) =>
  rounds(
    `shapes: top ${topK} on 4 ranks`,
    { ranks: 4, tokens: 12, hidden: 16, experts: 2 * topK + 1, topK },
    (round) => [round(each(4, 12)), round([12, 0, 3, 7], { slots: 12 })],
  ),
);

const unevenCounts = [
  [16, 32, 64, 48],
  [100, 50],
  [10, 20, 30, 40, 50, 60, 70, 80],
  [1, 1, 1, 1],
  each(8, 640),
];

const uneven = unevenCounts.map((counts) =>
  rounds(
    `shapes: tokens by rank ${counts.every((c) => c === counts[0]) ? `${counts[0]} × ${counts.length}` : counts.join(", ")}`,
    { ranks: counts.length, tokens: Math.max(...counts), hidden: 16 },
    (round) => [round(counts)],
  ),
);

const randomCounts = [1, 2, 8].map((topK) =>
  rounds(
    `shapes: random 1 to 99 tokens per rank, top ${topK}`,
    { ranks: 4, tokens: 99, hidden: 16, experts: 16, topK },
    (round) => {
      const random = new Random("counts", topK);
      return Array.from({ length: 3 }, () => round(each(4, 0).map(() => random.int(1, 99))));
    },
  ),
);

const fivePayloads = rounds(
  "shapes: five payloads bfloat16, float16, int32, uint8, int32",
  {
    ranks: 4,
    tokens: 16,
    payloads: [
      { dtype: "bfloat16", n: 288 },
      { dtype: "float16", n: 31 },
      { dtype: "int32", n: 2, ids: true },
      { dtype: "uint8", n: 13 },
      { dtype: "int32", n: 1 },
    ],
  },
  (round) => [round([16, 3, 9, 16]), round(each(4, 16), { nameIds: false })],
);

/** One expert of the dense layer: scales and shifts each element, each step rounded to float32. */
const expert = (x: number, id: number): number => Math.fround(Math.fround(x * (0.5 + id / 7)) + id);

/** The experts of `ids` that live on `rank`, summed in the order of the ids. */
function runExperts(
  config: MoeAllToAllConfig,
  rank: number,
  row: Float32Array,
  ids: ArrayLike<number>,
): Float32Array {
  const sum = new Float32Array(row.length);
  for (const id of Array.from(ids)) {
    if (id < 0 || id >= config.numExperts || expertOwner(config, id) !== rank) continue;
    for (let h = 0; h < sum.length; h++) sum[h] = Math.fround(sum[h]! + expert(row[h]!, id));
  }
  return sum;
}

/** The round's purpose: the experts' sums come back as if one rank had computed them all. */
function denseLayer(dtype: CombineDType, ranks: number, experts: number, topK: number): RankCase {
  const hidden = 24;
  const { config, round } = setUp({
    ranks,
    tokens: 20,
    hidden,
    experts,
    topK,
    dtype: "float32",
    payloads: [
      { dtype, n: hidden },
      { dtype: "int32", n: topK, ids: true },
    ],
  });
  return {
    name: `shapes: dispatch, experts, combine against a dense layer of ${experts} experts, top ${topK}, ${dtype} on ${ranks} ranks`,
    ranks,
    config,
    async run(context) {
      const { rank } = context;
      const a2a = await context.create();
      const counts = each(ranks, 0).map((_, r) => (r === 1 ? 0 : 20 - 3 * (r % 4)));
      const world = context.round(0, round(counts, { routing: "padded", invalidTokenExpertId: -1 }));
      const flight = await context.launch(a2a, world);
      await flight.arrive();
      const { dispatch } = flight;

      const rows = toFloat32(dtype, (await a2a.read(dispatch.recv[0]!)) as TypedArrayOf<CombineDType>);
      const ids = (await a2a.read(dispatch.recv[1]!)) as Int32Array;
      const results = new Float32Array(rows.length);
      // No look at recvCounts: an expert runner sees nothing but the ids, and skips those of padding slots.
      for (let slot = 0; slot < ids.length / topK; slot++) {
        const row = rows.subarray(slot * hidden, (slot + 1) * hidden);
        results.set(
          runExperts(config, rank, row, ids.subarray(slot * topK, (slot + 1) * topK)),
          slot * hidden,
        );
      }
      const buffer = dispatch.combineBuffer(hidden, "float32");
      await a2a.write(buffer, results);
      const combine = dispatch.combine(buffer);
      await combine.ready();

      const own = world.inputs[rank]!;
      const tokens = toFloat32(dtype, own.payloads[0]!.data as TypedArrayOf<CombineDType>);
      const dense = new Float32Array(tokens.length);
      for (let t = 0; t < counts[rank]!; t++) {
        const row = tokens.subarray(t * hidden, (t + 1) * hidden);
        const chosen = own.tokenSelectedExperts.data.subarray(t * topK, (t + 1) * topK) as Int32Array;
        const owners = new Set(Array.from(chosen, (id) => (id < 0 ? -1 : expertOwner(config, id))));
        owners.delete(-1);
        for (const owner of owners) {
          const part = runExperts(config, owner, row, chosen);
          for (let h = 0; h < hidden; h++) {
            dense[t * hidden + h] = Math.fround(dense[t * hidden + h]! + part[h]!);
          }
        }
      }
      sameBytes(
        "combined rows against the dense layer",
        withoutNaN(await a2a.read(combine.output)),
        withoutNaN(dense),
      );
    },
  };
}

/** NaN is NaN, whatever its bits. */
function withoutNaN(data: ArrayLike<number | bigint>): Float32Array {
  return Float32Array.from(data as ArrayLike<number>, (x) => (Number.isNaN(x) ? Number.NaN : x));
}

export const shapes: readonly RankCase[] = [
  ...single,
  ...multiple,
  ...manyExperts,
  ...uneven,
  ...randomCounts,
  fivePayloads,
  denseLayer("bfloat16", 4, 16, 4),
  denseLayer("float16", 3, 10, 3),
  denseLayer("float32", 5, 8, 6),
];
