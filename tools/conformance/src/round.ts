import {
  type CombineDType,
  type CpuTensor,
  type DType,
  fromFloat32,
  type MoeAllToAllConfig,
  type OracleDispatch,
  type OracleInput,
  oracleCombine,
  oracleDispatch,
  type Tensor,
  tensor,
} from "@moe-a2a/core";
import { Random } from "./random.js";

/** A payload `[L, n]` of random bytes; with `ids`, int32 of the token's expert ids (n is then `topK`). */
export interface PayloadSpec {
  readonly dtype: DType;
  readonly n: number;
  readonly ids?: boolean;
}

/** How expert ids are drawn. `wild` ids are partly no expert's; a list gives one rank's token its ids. */
export type Routing =
  | "distinct"
  | "repeated"
  | "padded"
  | "wild"
  | ((rank: number, token: number, random: Random) => readonly number[]);

/**
 * What expert outputs hold: values whose sums depend on the order (`spread`), the edges of the format (`special`), or any
 * bits. Padding slots always hold NaN, which no sum may pick up.
 */
export type Values = "spread" | "special" | "bits" | ((rank: number, element: number) => number);

/** What the ranks bring to a round. */
export interface RoundSpec {
  /** Tokens by rank. */
  readonly counts: readonly number[];
  /** m; default the capacity. */
  readonly slots?: number | undefined;
  readonly payloads: readonly PayloadSpec[];
  readonly routing?: Routing;
  /** Default -1. */
  readonly invalidTokenExpertId?: number | undefined;
  /** Whether the dispatch names the payload of expert ids, where there is one. Default true. */
  readonly nameIds?: boolean;
  /** Length of `expertStats`; default none. */
  readonly stats?: number | undefined;
  readonly hidden: number;
  readonly dtype: CombineDType;
  /** By rank; ranks with one pass their own `out` of this dtype. */
  readonly outDtypes?: readonly (CombineDType | undefined)[] | undefined;
  readonly values?: Values;
  /** Default all. */
  readonly active?: readonly number[] | undefined;
}

/** A round of all ranks, with what the oracle makes of it. */
export interface Round {
  readonly spec: RoundSpec;
  readonly slots: number;
  /** By rank, like all that follows. */
  readonly inputs: readonly OracleInput[];
  readonly expertOutputs: readonly CpuTensor[];
  readonly dispatched: readonly (OracleDispatch | undefined)[];
  readonly outputs: readonly (CpuTensor | undefined)[];
}

function drawIds(config: MoeAllToAllConfig, routing: Routing, rank: number, token: number, random: Random) {
  const { topK: K, numExperts: E } = config;
  if (typeof routing === "function") return routing(rank, token, random);
  if (routing === "repeated") return Array.from({ length: K }, () => random.int(0, E - 1));
  const ids = random.distinct(K, E);
  if (routing === "distinct") return ids;
  if (random.oneIn(8)) return ids.map(() => -1);
  const strange = routing === "wild" ? [-1, -2, E, 2 ** 31 - 1, -(2 ** 31)] : [-1];
  return ids.map((id) => (random.oneIn(4) ? random.pick(strange) : id));
}

const specials: Record<CombineDType, readonly number[]> = {
  // ±0, smallest and largest subnormals, smallest normal, largest finite, ±Infinity, 1, and NaN: quiet, signalling, all
  // bits set.
  float32: [
    0, 0x80000000, 1, 0x80000001, 0x7fffff, 0x800000, 0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000,
    0x7fc00000, 0x7f800001, 0x7fffffff, 0xffffffff, 0x3f800000,
  ],
  float16: [
    0, 0x8000, 1, 0x8001, 0x3ff, 0x400, 0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7e00, 0x7c01, 0x7fff, 0xffff,
    0x3c00,
  ],
  bfloat16: [
    0, 0x8000, 1, 0x8001, 0x7f, 0x80, 0x7f7f, 0xff7f, 0x7f80, 0xff80, 0x7fc0, 0x7f81, 0x7fff, 0xffff, 0x3f80,
  ],
};

/** Powers of two to draw from, within the format's range; as many as a power of two. */
const spread = {
  narrow: { large: 2 ** 14, scales: Array.from({ length: 16 }, (_, e) => 2 ** (e - 20)) },
  wide: { large: 2 ** 30, scales: Array.from({ length: 32 }, (_, e) => 2 ** (e - 24)) },
} as const;

/** Fills one row of expert output. */
function fillRow(
  row: CpuTensor["data"],
  dtype: CombineDType,
  values: Values,
  random: Random,
  at: [number, number],
) {
  if (values === "bits") return random.fill(row);
  if (values === "special") {
    // As bits: a NaN keeps its payload only where no number is made of it.
    const bits =
      dtype === "float32" ? new Uint32Array(row.buffer, row.byteOffset, row.length) : (row as Uint16Array);
    for (let i = 0; i < bits.length; i++) bits[i] = random.pick(specials[dtype]);
    return;
  }
  const floats = new Float32Array(row.length);
  const { large, scales } = spread[dtype === "float16" ? "narrow" : "wide"];
  for (let i = 0; i < floats.length; i++) {
    if (typeof values === "function") floats[i] = values(at[0], at[1] + i);
    else {
      // Values of many magnitudes, and one in four so large that the others drown in it, until its negative comes.
      const bits = random.bits();
      if ((bits & 3) === 0) floats[i] = bits & 4 ? large : -large;
      else floats[i] = (bits >> 15) * scales[(bits >>> 10) & (scales.length - 1)]!;
    }
  }
  fromFloat32(dtype, floats, row as never);
}

function makeInput(config: MoeAllToAllConfig, spec: RoundSpec, rank: number, random: Random): OracleInput {
  const count = spec.counts[rank] as number;
  const ids = Array.from({ length: count }, (_, token) =>
    drawIds(config, spec.routing ?? "distinct", rank, token, random),
  );
  const tokenSelectedExperts = tensor("int32", [count, config.topK], ids.flat());
  const payloads = spec.payloads.map(({ dtype, n, ids: isIds }) => {
    const payload = tensor(dtype, [count, n]);
    if (isIds) (payload.data as Int32Array).set(tokenSelectedExperts.data);
    else random.fill(payload.data);
    return payload;
  });
  let expertStats: CpuTensor<"int32"> | undefined;
  if (spec.stats !== undefined) {
    expertStats = tensor("int32", [spec.stats]);
    random.fill(expertStats.data);
  }
  const idPayload = spec.nameIds === false ? -1 : spec.payloads.findIndex((p) => p.ids);
  return {
    tokenSelectedExperts,
    payloads,
    expertStats,
    ...(idPayload < 0
      ? {}
      : { expertIdPayloadIndex: idPayload, invalidTokenExpertId: spec.invalidTokenExpertId }),
  };
}

function makeExpertOutput(
  spec: RoundSpec,
  slots: number,
  rank: number,
  recvCounts: Int32Array,
  random: Random,
) {
  const output = tensor(spec.dtype, [recvCounts.length, slots, spec.hidden]);
  new Uint8Array(output.data.buffer).fill(0xff);
  recvCounts.forEach((count, source) => {
    for (let slot = 0; slot < count; slot++) {
      const at = (source * slots + slot) * spec.hidden;
      const row = output.data.subarray(at, at + spec.hidden);
      fillRow(row, spec.dtype, spec.values ?? "spread", random, [rank, at]);
    }
  });
  return output;
}

/** Makes a round from a seed: the same on every rank and thread. */
export function makeRound(config: MoeAllToAllConfig, spec: RoundSpec, seed: string): Round {
  const inputs = spec.counts.map((_, rank) => makeInput(config, spec, rank, new Random(seed, "input", rank)));
  return complete(config, spec, inputs, seed);
}

/** The first rows of a tensor, in its memory. */
export function firstRows<T extends Tensor>({ dtype, shape, device, data }: T, rows: number): T {
  const width = shape[1] as number;
  const part = typeof data === "bigint" ? data : (data as Uint8Array).subarray(0, rows * width);
  return { dtype, shape: [rows, width], device, data: part } as unknown as T;
}

/** A round of the first tokens of another, among these ranks. */
export function shortened(
  config: MoeAllToAllConfig,
  { spec, inputs }: Round,
  counts: readonly number[],
  active: readonly number[] | undefined,
  seed: string,
): Round {
  const short = inputs.map(({ tokenSelectedExperts, payloads, ...rest }, rank) => ({
    ...rest,
    tokenSelectedExperts: firstRows(tokenSelectedExperts, counts[rank]!),
    payloads: payloads.map((p) => firstRows(p, counts[rank]!)),
  }));
  return complete(config, { ...spec, counts, active }, short, seed);
}

/** What the oracle makes of it all. */
function complete(
  config: MoeAllToAllConfig,
  spec: RoundSpec,
  inputs: readonly OracleInput[],
  seed: string,
): Round {
  const slots = spec.slots ?? config.maxTokensPerRank;
  const active = (rank: number): boolean => spec.active?.includes(rank) ?? true;
  const dispatched = oracleDispatch({
    config,
    activeRanks: spec.active,
    runtimeMaxTokensPerRank: slots,
    inputs: inputs.map((input, rank) => (active(rank) ? input : undefined)),
  });
  const expertOutputs = spec.counts.map((_, rank) => {
    const counts = dispatched[rank]?.recvCounts.data ?? new Int32Array(config.epSize);
    return makeExpertOutput(spec, slots, rank, counts, new Random(seed, "experts", rank));
  });
  const outputs = oracleCombine({ dispatched, expertOutputs, outDtypes: spec.outDtypes });
  return { spec, slots, inputs, expertOutputs, dispatched, outputs };
}
