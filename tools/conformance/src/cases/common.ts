import { bytesPerElement, type CombineDType, type MoeAllToAllConfig } from "@moe-a2a/core";
import type { Context, RankCase } from "../case.js";
import type { PlayOptions } from "../flight.js";
import type { PayloadSpec, RoundSpec } from "../round.js";

/** The usual case: sizes in a few words. */
export interface Setup extends Partial<MoeAllToAllConfig> {
  readonly ranks: number;
  /** Capacity per rank. */
  readonly tokens: number;
  /** Default two per rank. */
  readonly experts?: number;
  /** Default one payload of hidden states, one of ids, one of weights. */
  readonly payloads?: readonly PayloadSpec[];
  /** Default 8. */
  readonly hidden?: number;
  /** Default bfloat16. */
  readonly dtype?: CombineDType;
}

/** Row bytes of payloads. */
export function rowBytes(payloads: readonly PayloadSpec[]): number {
  return payloads.reduce((sum, { dtype, n }) => sum + n * bytesPerElement(dtype), 0);
}

/** What a serving framework sends: hidden states, expert ids, weights. */
export function servingPayloads(hidden: number, topK: number): readonly PayloadSpec[] {
  return [
    { dtype: "bfloat16", n: hidden },
    { dtype: "int32", n: topK, ids: true },
    { dtype: "float32", n: topK },
  ];
}

/** A config, and rounds that fit it. */
export function setUp(setup: Setup): {
  readonly config: MoeAllToAllConfig;
  round(counts: readonly number[], over?: Partial<RoundSpec>): RoundSpec;
} {
  const {
    ranks,
    tokens,
    experts = 2 * ranks,
    hidden = 8,
    dtype = "bfloat16",
    payloads: given,
    ...over
  } = setup;
  const topK = over.topK ?? Math.min(2, experts);
  const payloads = given ?? servingPayloads(hidden, topK);
  const config: MoeAllToAllConfig = {
    epSize: ranks,
    numExperts: experts,
    topK,
    maxTokensPerRank: tokens,
    maxDispatchBytesPerToken: rowBytes(payloads),
    maxCombineBytesPerToken: hidden * bytesPerElement(dtype),
    ...over,
  };
  return { config, round: (counts, more) => ({ counts, payloads, hidden, dtype, ...more }) };
}

/** The same number for every rank. */
export function each(ranks: number, tokens: number): number[] {
  return new Array<number>(ranks).fill(tokens);
}

/** Ways to play a round that never change its results: all of them come up within a few rounds. */
export function vary({ rank, canBlock }: Pick<Context, "rank" | "canBlock">, turn: number): PlayOptions {
  const n = rank + turn;
  return {
    memory: n % 3 === 1 ? "foreign" : "empty",
    inPlace: n % 2 === 0,
    out: n % 5 === 0,
    sync: canBlock && n % 4 === 3,
  };
}

/** A case of rounds one after another on one instance. */
export function rounds(
  name: string,
  setup: Setup,
  specs: (round: (counts: readonly number[], over?: Partial<RoundSpec>) => RoundSpec) => readonly RoundSpec[],
  more: Pick<RankCase, "groups" | "deadlineMs"> & { readonly options?: PlayOptions } = {},
): RankCase {
  const { config, round } = setUp(setup);
  const { options, ...rest } = more;
  return {
    name,
    ranks: setup.ranks,
    config,
    ...rest,
    async run(context) {
      context.at("create");
      const a2a = await context.create();
      for (const [turn, spec] of specs(round).entries()) {
        context.at(`round ${turn}`);
        await context.play(a2a, context.round(turn, spec), options ?? vary(context, turn));
      }
    },
  };
}

/** Lets a rank be late. */
export function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
