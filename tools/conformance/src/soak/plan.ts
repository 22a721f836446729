import { type CpuTensor, expertOwner, type MoeAllToAllConfig, type OracleInput } from "@moe-a2a/core";
import { Random } from "../random.js";
import { makeRound, type PayloadSpec, type Routing } from "../round.js";

const MAX_TOKENS = 48;
const HIDDEN = 40;
const TOP_K = 6;
const STATS = 5;

/** Where the payload of expert ids stands. */
export const ID_PAYLOAD = 1;

const payloads: readonly PayloadSpec[] = [
  { dtype: "bfloat16", n: HIDDEN },
  { dtype: "int32", n: TOP_K, ids: true },
  { dtype: "uint8", n: 13 },
  { dtype: "float32", n: TOP_K },
];

export function soakConfig(ranks: number): MoeAllToAllConfig {
  return {
    epSize: ranks,
    numExperts: 4 * ranks + 3,
    topK: TOP_K,
    maxTokensPerRank: MAX_TOKENS,
    maxDispatchBytesPerToken: HIDDEN * 2 + TOP_K * 8 + 13,
    maxCombineBytesPerToken: HIDDEN * 2,
    maxExpertStats: STATS,
    invalidExpert: "drop",
    roundsInFlight: 2,
    timeoutMs: 20_000,
  };
}

/** One set of inputs, as many tokens as fit; rounds take the first of them. */
export interface Variant {
  /** By rank. */
  readonly inputs: readonly OracleInput[];
  /** Rows that the first `L` tokens of rank `r` send to rank `d`: `sent[r][L * ranks + d]`. */
  readonly sent: readonly Int32Array[];
}

/** Different inputs, uploaded once. */
export function makeVariants(config: MoeAllToAllConfig, seed: number): Variant[] {
  const { epSize: R, numExperts: E, topK: K } = config;
  const routings: readonly Routing[] = [
    "distinct",
    "padded",
    "wild",
    "repeated",
    () => Array.from({ length: K }, (_, k) => k % 4),
    (rank, token) => Array.from({ length: K }, (_, k) => (rank + token + 4 * k) % E),
  ];
  return routings.map((routing, v) => {
    const counts = new Array<number>(R).fill(MAX_TOKENS);
    const spec = { counts, payloads, routing, stats: STATS, hidden: HIDDEN, dtype: "bfloat16" } as const;
    const { inputs } = makeRound(config, spec, `soak/${seed}/${v}`);
    return { inputs, sent: inputs.map((input) => countSent(config, input.tokenSelectedExperts)) };
  });
}

function countSent(config: MoeAllToAllConfig, ids: CpuTensor): Int32Array {
  const { epSize: R, numExperts: E, topK: K } = config;
  const sent = new Int32Array((MAX_TOKENS + 1) * R);
  for (let t = 0; t < MAX_TOKENS; t++) {
    sent.copyWithin((t + 1) * R, t * R, (t + 1) * R);
    const owners = new Set<number>();
    for (const id of (ids.data as Int32Array).subarray(t * K, (t + 1) * K)) {
      if (id >= 0 && id < E) owners.add(expertOwner(config, id));
    }
    for (const owner of owners) sent[(t + 1) * R + owner]!++;
  }
  return sent;
}

/** One random round, the same on every rank. */
export interface SoakRound {
  readonly variant: number;
  readonly counts: readonly number[];
  readonly slots: number;
  readonly invalidId: number;
  readonly stats: boolean;
  /** Which ranks wait for the dispatch before they combine, as bits. */
  readonly waits: number;
}

/** Draws rounds, one after another: zeros of every pattern, m from the least possible to the capacity. */
export function* soakRounds(ranks: number, variants: number, seed: number): Generator<SoakRound, never> {
  const random = new Random("soak", seed);
  const all = 2 ** ranks - 1;
  for (;;) {
    const pattern = random.int(0, 7);
    const one = 2 ** random.int(0, ranks - 1);
    const idle = [all, 0, one, all - one][pattern] ?? random.int(0, all);
    const largest = random.pick([2, 8, MAX_TOKENS]);
    const counts = Array.from({ length: ranks }, (_, r) => {
      const tokens = random.int(1, largest);
      return Math.floor(idle / 2 ** r) % 2 ? 0 : tokens;
    });
    const most = Math.max(...counts);
    yield {
      variant: random.int(0, variants - 1),
      counts,
      slots: random.oneIn(2) ? most : random.int(most, MAX_TOKENS),
      invalidId: random.pick([-1, -3, 1_000_000]),
      stats: random.oneIn(2),
      waits: random.bits() >>> 0,
    };
  }
}
