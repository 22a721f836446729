import type { CudaTestOptions, Delays, Mapping } from "../backend-cuda.js";
import type { Context, RankCase } from "../case.js";
import type { RoundSpec } from "../round.js";
import { offeredAsReceived } from "./combine.js";
import { each, type Setup, setUp, vary } from "./common.js";

const needs = { cuda: true } as const;

/** Rounds on an instance whose work is cut in a certain way. */
function mapped(
  name: string,
  setup: Setup,
  options: Pick<CudaTestOptions, "mapping" | "maxSms" | "wireForm">,
  specs: (round: ReturnType<typeof setUp>["round"]) => readonly RoundSpec[],
): RankCase {
  const { config, round } = setUp(setup);
  return {
    name: `mappings: ${name}`,
    ranks: setup.ranks,
    config,
    needs,
    async run(context) {
      const a2a = await context.create({}, options);
      for (const [turn, spec] of specs(round).entries()) {
        context.at(`round ${turn}`);
        await context.play(a2a, context.round(turn, spec), vary(context, turn));
      }
    },
  };
}

const some = (round: ReturnType<typeof setUp>["round"]) => [
  round([37, 0, 5]),
  round([0, 1, 37], { slots: 37 }),
  round(each(3, 0), { slots: 0 }),
  round([1, 1, 1], { slots: 1 }),
  round([33, 37, 32], { routing: "padded" }),
];

/** Rows that the 16-byte path takes, and rows that it does not. */
const widths = [
  ["aligned rows", { hidden: 64 }],
  ["odd rows", { hidden: 37 }],
] as const;

/** Values of the C header. */
const WARP = 1;
const BLOCK = 2;
const SLOTS_BY = { recount: 1, scan: 2 } as const;

const kinds = [
  ["a warp per token", { kind: WARP }],
  ["a block per token", { kind: BLOCK }],
  ["rows split over 2 blocks", { kind: BLOCK, splits: 2 }],
  ["rows split over 7 blocks", { kind: BLOCK, splits: 7 }],
  ["rows split over 64 blocks", { kind: BLOCK, splits: 64 }],
  ["one token per tile", { tokensPerTile: 1 }],
  ["32 tokens per tile", { tokensPerTile: 32 }],
  ["one block", { blocks: 1 }],
  ["3 blocks", { blocks: 3 }],
] as const satisfies readonly (readonly [string, Mapping])[];

const cut: RankCase[] = kinds.flatMap(([name, mapping]) =>
  widths.map(([width, { hidden }]) =>
    mapped(
      `${name}, ${width}`,
      { ranks: 3, tokens: 37, topK: 3, hidden },
      { mapping, wireForm: "rows" },
      some,
    ),
  ),
);

const packetKinds = [
  ["rows split over 2 blocks", { splits: 2 }],
  ["rows split over 7 blocks", { splits: 7 }],
  ["rows split over 64 blocks", { splits: 64 }],
  ["one block", { blocks: 1 }],
  ["3 blocks", { blocks: 3 }],
  ["20000 blocks", { blocks: 20_000 }],
] as const satisfies readonly (readonly [string, Mapping])[];

const inPackets: RankCase[] = packetKinds.flatMap(([name, mapping]) =>
  widths.map(([width, { hidden }]) =>
    mapped(`in packets, ${name}, ${width}`, { ranks: 3, tokens: 37, topK: 3, hidden }, { mapping }, some),
  ),
);

const pushKinds = [
  ["as chosen", {}],
  ["one block", { blocks: 1 }],
  ["3 blocks", { blocks: 3 }],
  ["20000 blocks", { blocks: 20_000 }],
] as const satisfies readonly (readonly [string, Mapping])[];

const pushed: RankCase[] = pushKinds.flatMap(([name, mapping]) =>
  widths.map(([width, { hidden }]) =>
    mapped(
      `pushed results, ${name}, ${width}`,
      { ranks: 4, tokens: 37, topK: 3, hidden },
      { mapping, wireForm: "pushedRows" },
      (round) => [
        round([37, 0, 5, 1]),
        round([0, 1, 37, 36], { slots: 37 }),
        round(each(4, 0), { slots: 0 }),
        round(each(4, 0), { slots: 3 }),
        round([1, 1, 1, 0], { slots: 1 }),
        round([33, 37, 32, 7], { routing: "padded" }),
      ],
    ),
  ),
);

/** Sums into another format than that of the results, whose rows are longer here than what is dispatched. */
const pushedFormats: RankCase[] = (["float32", "float16"] as const).map((dtype) =>
  mapped(
    `pushed results in ${dtype}, summed into every format`,
    { ranks: 3, tokens: 37, topK: 3, hidden: 20, dtype, payloads: [{ dtype: "float32", n: 24 }] },
    { wireForm: "pushedRows" },
    (round) => [
      round([37, 5, 9], { outDtypes: ["bfloat16", "float16", "float32"] }),
      round([1, 37, 0], { outDtypes: [undefined, "bfloat16", "float16"] }),
      round([8, 9, 37], { outDtypes: ["float32", undefined, "bfloat16"] }),
    ],
  ),
);

const pushedInPlaceOfRows = offeredAsReceived({
  name: "mappings: pushed results, received rows offered as they are",
  needs,
  options: { wireForm: "pushedRows" },
});

/** With few SMs, results are pushed from 4 MiB of each rank on: all three forms, on one lane and in the same places. */
const allForms: RankCase = mapped(
  "packets, pulled results and pushed results in turn",
  { ranks: 2, tokens: 300, experts: 6, topK: 2, hidden: 8192, timeoutMs: 10_000 },
  { maxSms: 4 },
  (round) =>
    [300, 8, 100, 290, 0, 1, 300].map((slots, turn) =>
      round([turn % 3 === 1 ? 0 : slots, Math.min(slots, 7)], { slots }),
    ),
);

/** Rounds in packets and others take turns on one lane: 64 slots are the most that go in packets. */
const inTurn: RankCase = mapped(
  "packets and rows in turn",
  { ranks: 4, tokens: 200, experts: 12, topK: 3, hidden: 96, maxExpertStats: 2 },
  {},
  (round) =>
    [1, 64, 65, 0, 2, 200, 3, 0, 64, 7].flatMap((slots, turn) => [
      round([slots, 0, turn % 2 ? 0 : slots, Math.min(slots, 1)], { slots }),
      round(each(4, slots), { slots, ...(turn % 3 === 0 ? { stats: 2 } : {}) }),
    ]),
);

/** Both ways to learn a tile's first slots, with more tiles than a block has threads. */
const slots: RankCase[] = (["recount", "scan"] as const).map((slotsBy) =>
  mapped(
    `slots by ${slotsBy}, 3000 tokens`,
    { ranks: 3, tokens: 3000, experts: 9, topK: 4, hidden: 4 },
    { mapping: { slotsBy: SLOTS_BY[slotsBy] } },
    (round) => [round([3000, 17, 0]), round([1, 2999, 3000], { routing: "padded" }), round([0, 0, 33])],
  ),
);

/** Grids far larger than what is resident: blocks that wait must not keep those out that are waited for. */
const oversubscribed: RankCase[] = (["recount", "scan"] as const).flatMap((slotsBy) =>
  [2, 4].map((ranks) =>
    mapped(
      `20000 blocks on ${ranks} ranks, slots by ${slotsBy}`,
      { ranks, tokens: 600, topK: 2, hidden: 32, timeoutMs: 10_000 },
      { mapping: { blocks: 20_000, tokensPerTile: 1, slotsBy: SLOTS_BY[slotsBy] }, wireForm: "rows" },
      (round) => [
        round(each(ranks, 600)),
        round(each(ranks, 0)),
        round(each(ranks, 0).map((_, r) => (r === 0 ? 600 : 0))),
      ],
    ),
  ),
);

const fewSms: RankCase = mapped(
  "no more than 4 SMs",
  { ranks: 3, tokens: 200, topK: 3, hidden: 128 },
  { maxSms: 4 },
  (round) => [round([200, 0, 133]), round([7, 200, 0])],
);

const MOMENTS = ["beforeStores", "beforeFlag", "afterFlag", "afterWait"] as const;
/** Far longer than a phase takes. */
const DELAY_NS = 400_000;
const PHASES = { dispatch: [DELAY_NS, 0], combine: [0, DELAY_NS] } as const;

/** Each rank in turn is slow at one moment of each phase: no result may depend on who comes first. */
const delayed: RankCase[] = MOMENTS.map((moment) => {
  const ranks = 4;
  const { config, round } = setUp({ ranks, tokens: 9, topK: 3, maxExpertStats: 3, timeoutMs: 10_000 });
  const rounds = (turn: number) => [
    round([9, 0, 4, 1], { stats: 3, routing: "padded" }),
    round([0, turn, 0, 9], { stats: 2 }),
    round(each(ranks, 0), { slots: 0 }),
    round(each(ranks, 9), { slots: 9 }),
  ];
  return {
    name: `mappings: a delay of ${DELAY_NS / 1000} µs at ${moment}, on each rank and in each phase in turn`,
    ranks,
    config,
    needs,
    async run(context: Context) {
      for (let slow = 0; slow < ranks; slow++) {
        for (const [phase, pair] of Object.entries(PHASES)) {
          context.at(`rank ${slow} slow in ${phase}`);
          const delays: Delays = context.rank === slow ? { [moment]: pair } : {};
          const a2a = await context.create({}, { delays });
          for (const [turn, spec] of rounds(slow).entries()) {
            await context.play(a2a, context.round(`${slow}/${phase}/${turn}`, spec), vary(context, turn));
          }
          await context.barrier();
          await a2a.close();
        }
      }
    },
  };
});

export const cudaMappings: readonly RankCase[] = [
  ...cut,
  ...inPackets,
  ...pushed,
  ...pushedFormats,
  pushedInPlaceOfRows,
  allForms,
  inTurn,
  ...slots,
  ...oversubscribed,
  fewSms,
  ...delayed,
];
