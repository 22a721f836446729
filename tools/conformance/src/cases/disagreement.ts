import type { CombineDType, MoeAllToAll } from "@moe-a2a/core";
import type { Context, RankCase } from "../case.js";
import { fails, rejects, same } from "../check.js";
import type { PayloadSpec, RoundSpec } from "../round.js";
import { each, setUp } from "./common.js";

const ranks = 3;
const { config, round } = setUp({
  ranks,
  tokens: 6,
  maxDispatchBytesPerToken: 64,
  maxCombineBytesPerToken: 64,
  maxExpertStats: 8,
  timeoutMs: 20_000,
});

/** After a disagreement: all ranks reset, and go on as if nothing had been. */
async function recover(context: Context, a2a: MoeAllToAll): Promise<void> {
  await context.barrier();
  context.at("reset");
  await a2a.reset({ timeoutMs: 20_000 });
  for (const [turn, counts] of [each(ranks, 6), [0, 4, 1], each(ranks, 0)].entries()) {
    context.at(`round ${turn} after the reset`);
    await context.play(a2a, context.round(`after/${turn}`, round(counts, { stats: 8 })));
  }
}

/** A round that rank 1 sees differently from the others. */
interface Difference {
  readonly name: string;
  readonly field: string;
  readonly usual: Partial<RoundSpec>;
  readonly strange: Partial<RoundSpec>;
  /** What the ranks said, by rank. */
  readonly values: readonly unknown[];
}

const uint8 = (...lengths: readonly number[]): PayloadSpec[] => lengths.map((n) => ({ dtype: "uint8", n }));

const differences: readonly Difference[] = [
  {
    name: "m, larger on one rank",
    field: "runtimeMaxTokensPerRank",
    usual: { slots: 4 },
    strange: { slots: 6 },
    values: [4, 6, 4],
  },
  {
    name: "m, smaller on one rank",
    field: "runtimeMaxTokensPerRank",
    usual: { slots: 6 },
    strange: { slots: 3 },
    values: [6, 3, 6],
  },
  {
    name: "m, none on an idle rank",
    field: "runtimeMaxTokensPerRank",
    usual: { slots: 5 },
    strange: { slots: 0, counts: each(ranks, 0) },
    values: [5, 0, 5],
  },
  {
    name: "the number of payloads",
    field: "payloadCount",
    usual: { payloads: uint8(3, 5) },
    strange: { payloads: uint8(3, 5, 2) },
    values: [2, 3, 2],
  },
  {
    name: "row bytes",
    field: "rowBytes",
    usual: { payloads: uint8(3, 5) },
    strange: { payloads: uint8(3, 60) },
    values: [
      [3, 5],
      [3, 60],
      [3, 5],
    ],
  },
  {
    name: "row bytes that add up to the same",
    field: "rowBytes",
    usual: { payloads: uint8(3, 5) },
    strange: { payloads: uint8(5, 3) },
    values: [
      [3, 5],
      [5, 3],
      [3, 5],
    ],
  },
  {
    name: "the length of statistics",
    field: "expertStatsLength",
    usual: { stats: 8 },
    strange: { stats: 3 },
    values: [8, 3, 8],
  },
  {
    name: "whether there are statistics",
    field: "expertStatsLength",
    usual: {},
    strange: { stats: 4 },
    values: [0, 4, 0],
  },
];

const inDispatch: RankCase[] = differences.flatMap(({ name, field, usual, strange, values }) =>
  [false, true].map((idle) => ({
    name: `disagreement: ${name}${idle ? ", with idle ranks" : ""}`,
    ranks,
    config,
    async run(context: Context) {
      const { rank } = context;
      const a2a = await context.create();
      await context.play(a2a, context.round("before", round([2, 3, 1])));
      const counts = idle ? [0, 2, 0] : [3, 2, 1];
      const own = rank === 1 ? { counts, ...strange } : { counts, ...usual };
      // Each rank's own belief; the oracle has nothing to say about such a round.
      const made = context.round(`disagreement/${rank === 1}`, { ...round(counts), ...own });
      context.at("disagreeing dispatch");
      const flight = await context.launch(a2a, made);
      const { dispatch } = flight;
      const error = await rejects("ready()", dispatch.ready(), "ERR_MOE_A2A_MISMATCH", {
        fields: { field },
        says: [field, ...values.map((value, r) => `rank ${r}: ${JSON.stringify(value)}`)],
      });
      same("values by rank", error.values, values);
      await rejects("ready() again", dispatch.ready(), "ERR_MOE_A2A_MISMATCH", { fields: { field } });
      await flight.expectNothing();
      await recover(context, a2a);
    },
  })),
);

/** Results that rank 1 offers in another form. */
interface CombineDifference {
  readonly name: string;
  readonly field: string;
  readonly usual: readonly [hidden: number, dtype: CombineDType];
  readonly strange: readonly [hidden: number, dtype: CombineDType];
  readonly values: readonly unknown[];
}

const combineDifferences: readonly CombineDifference[] = [
  {
    name: "the hidden size",
    field: "hiddenSize",
    usual: [8, "bfloat16"],
    strange: [9, "bfloat16"],
    values: [8, 9, 8],
  },
  {
    name: "the dtype of equally long rows",
    field: "dtype",
    usual: [8, "bfloat16"],
    strange: [8, "float16"],
    values: ["bfloat16", "float16", "bfloat16"],
  },
  {
    name: "the dtype of longer rows",
    field: "dtype",
    usual: [8, "float16"],
    strange: [8, "float32"],
    values: ["float16", "float32", "float16"],
  },
];

const inCombine: RankCase[] = combineDifferences.map(({ name, field, usual, strange, values }) => ({
  name: `disagreement: ${name} of a combine`,
  ranks,
  config,
  async run(context: Context) {
    const { rank } = context;
    const a2a = await context.create();
    const [hidden, dtype] = rank === 1 ? strange : usual;
    // All ranks dispatch the same; only what they offer afterwards differs.
    const made = context.round(`disagreement/${rank === 1}`, {
      ...round([3, 0, 6], { routing: () => [0, 5] }),
      hidden,
      dtype,
    });
    const flight = await context.launch(a2a, made, { out: true, inPlace: rank === 2 });
    await flight.dispatch.ready();
    await flight.offer();
    context.at("disagreeing combine");
    const error = await rejects("ready()", flight.combine!.ready(), "ERR_MOE_A2A_MISMATCH", {
      fields: { field },
      says: [field, ...values.map((value, r) => `rank ${r}: ${JSON.stringify(value)}`)],
    });
    same("values by rank", error.values, values);
    await flight.expectNaN();
    await recover(context, a2a);
  },
}));

/** With two rounds in flight both fail, also on a rank that looks after the others have found out. */
const inTwoLanes: RankCase[] = [false, true].map((late) => ({
  name: `disagreement: fails both rounds in flight, on all ranks${late ? ", also on one that comes to the second later" : ""}`,
  ranks,
  config: { ...config, roundsInFlight: 2 },
  async run(context: Context) {
    const { rank } = context;
    const a2a = await context.create();
    const slots = rank === 1 ? 5 : 6;
    const expected = { fields: { field: "runtimeMaxTokensPerRank", values: [6, 5, 6] } };
    const first = await context.launch(a2a, context.round(`first/${slots}`, round([2, 0, 1], { slots })));
    if (late && rank === 2) await context.barrier();
    const made = context.round("second", round([0, 1, 1]));
    // The second round may have arrived before the first one failed; it cannot be completed any more.
    const second = async () => (await context.launch(a2a, made)).complete();
    const readFirst = () => rejects("first round", first.dispatch.ready(), "ERR_MOE_A2A_MISMATCH", expected);
    if (late && rank === 2) {
      await fails("second round", second, "ERR_MOE_A2A_MISMATCH", expected);
      await readFirst();
    } else {
      const reading = readFirst();
      if (late) {
        await reading;
        await context.barrier();
      }
      await fails("second round", second, "ERR_MOE_A2A_MISMATCH", expected);
      await reading;
    }
    await recover(context, a2a);
  },
}));

const differentLanes: RankCase = {
  name: "disagreement: ranks that use different lanes wait for one another, but not for ever",
  ranks,
  config: { ...config, roundsInFlight: 2, timeoutMs: 400 },
  async run(context) {
    const a2a = await context.create();
    const made = context.round("fault", round([2, 0, 1]));
    const flight = await context.launch(a2a, made, { lane: context.rank === 1 ? 1 : 0 });
    await rejects("ready()", flight.dispatch.ready(), "ERR_MOE_A2A_PEER_TIMEOUT", {
      fields: { phase: "dispatch", kind: "timeout" },
    });
    await recover(context, a2a);
  },
};

export const disagreement: readonly RankCase[] = [...inDispatch, ...inCombine, ...inTwoLanes, differentLanes];
