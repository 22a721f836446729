import { DTYPES } from "@moe-a2a/core";
import type { RankCase } from "../case.js";
import type { PayloadSpec } from "../round.js";
import { rounds } from "./common.js";

const tokens = 5;
const counts = [5, 0, 3];
const more = [1, 4, 5];

/** The same rounds from both kinds of memory. */
function both(name: string, payloads: readonly PayloadSpec[]): RankCase[] {
  return (["empty", "foreign"] as const).map((memory) =>
    rounds(
      `rows: ${name}, from ${memory} memory`,
      { ranks: 3, tokens, payloads },
      (round) => [round(counts), round(more)],
      { options: { memory } },
    ),
  );
}

const lengths = [1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 33, 255, 257].map((n) =>
  rounds(
    `rows: of ${n} byte${n === 1 ? "" : "s"}`,
    { ranks: 3, tokens, payloads: [{ dtype: "uint8", n }] },
    (round) => [round(counts), round(more), round(counts, { slots: 5, routing: "padded" })],
  ),
);

const views = [1, 2, 3, 5, 7].map((offset) =>
  rounds(
    `rows: views ${offset} element${offset === 1 ? "" : "s"} past an aligned address`,
    {
      ranks: 3,
      tokens,
      payloads: [
        { dtype: "uint8", n: 17 },
        { dtype: "bfloat16", n: 5 },
        { dtype: "int32", n: 2, ids: true },
        { dtype: "int64", n: 3 },
      ],
    },
    (round) => [round(counts), round(more)],
    { options: { memory: "foreign", offset, out: true } },
  ),
);

const dtypes = DTYPES.flatMap((dtype) => both(`of ${dtype}`, [{ dtype, n: 3 }]));

const number = [1, 2, 3, 4, 5, 6, 7, 8].map((count) =>
  rounds(
    `rows: ${count} payload${count === 1 ? "" : "s"} of all dtypes`,
    {
      ranks: 3,
      tokens,
      payloads: Array.from({ length: count }, (_, p) => ({
        dtype: DTYPES[(p * 3 + count) % DTYPES.length]!,
        n: 1 + ((p * 5 + count) % 9),
      })),
    },
    (round) => [round(counts), round(more), round(counts, { slots: 5 })],
  ),
);

const mixed = both("of odd lengths side by side", [
  { dtype: "uint8", n: 1 },
  { dtype: "uint8", n: 2 },
  { dtype: "uint8", n: 3 },
  { dtype: "int32", n: 2, ids: true },
  { dtype: "uint8", n: 15 },
  { dtype: "float16", n: 1 },
  { dtype: "uint8", n: 17 },
]);

/** Any split over payloads fits into the bytes that the config names, in any order. */
const splits = rounds(
  "rows: other payloads each round, within the same bytes",
  { ranks: 3, tokens, payloads: [], maxDispatchBytesPerToken: 48 },
  (round) => {
    const specs: PayloadSpec[][] = [
      [{ dtype: "uint8", n: 48 }],
      Array.from({ length: 8 }, (): PayloadSpec => ({ dtype: "uint8", n: 6 })),
      [
        { dtype: "int64", n: 5 },
        { dtype: "uint8", n: 8 },
      ],
      [{ dtype: "uint8", n: 1 }],
      [
        { dtype: "uint8", n: 47 },
        { dtype: "float8_e5m2", n: 1 },
      ],
    ];
    return specs.flatMap((payloads) => [round(counts, { payloads }), round(more, { payloads })]);
  },
);

const empty = rounds(
  "rows: of no bytes beside others",
  {
    ranks: 3,
    tokens,
    payloads: [
      { dtype: "float32", n: 0 },
      { dtype: "uint8", n: 3 },
    ],
  },
  (round) => [round(counts), round(more)],
);

export const rows: readonly RankCase[] = [
  ...lengths,
  ...views,
  ...dtypes,
  ...number,
  ...mixed,
  splits,
  empty,
];
