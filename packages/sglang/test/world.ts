import {
  type CpuTensor,
  createLocalGroup,
  expertRange,
  type MoeAllToAll,
  type MoeAllToAllConfig,
  tensor,
} from "@moe-a2a/core";
import {
  combineBytesPerToken,
  createMoeAllToAll,
  dispatchBytesPerToken,
  type FlashinferCombineInput,
  type FlashinferDispatchOutput,
  type StandardTopKOutput,
} from "../src/index.js";

export const hiddenSize = 8;

/** A small float32 world; `over` replaces what a test is about. */
export function configOf(over: Partial<MoeAllToAllConfig> = {}): MoeAllToAllConfig {
  const topK = over.topK ?? 2;
  return {
    epSize: 2,
    numExperts: 4,
    topK,
    maxTokensPerRank: 8,
    maxDispatchBytesPerToken: dispatchBytesPerToken({ hiddenSize, dtype: "float32", topK }),
    maxCombineBytesPerToken: combineBytesPerToken({ hiddenSize, dtype: "float32" }),
    timeoutMs: 5000,
    ...over,
  };
}

/** All ranks of a new local group. */
export async function createRanks(config: MoeAllToAllConfig): Promise<MoeAllToAll<CpuTensor>[]> {
  const groups = createLocalGroup(config.epSize);
  return await Promise.all(groups.map((group) => createMoeAllToAll(config, group, { backend: "js" })));
}

/** Numbers in [0, 1) that follow from `seed` alone. */
export function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

export interface Tokens {
  readonly hiddenStates: CpuTensor<"float32">;
  readonly topkOutput: StandardTopKOutput<CpuTensor>;
}

/** Tokens whose dense results are exact in float32: small integers, weights that are powers of two. */
export function makeTokens(
  random: () => number,
  rows: number,
  config: MoeAllToAllConfig,
  width = hiddenSize,
): Tokens {
  const { topK, numExperts } = config;
  const pick = (n: number): number => Math.floor(random() * n);
  const ids = Array.from({ length: rows }, () => {
    const left = Array.from({ length: numExperts }, (_, e) => e);
    return Array.from({ length: topK }, () => {
      const [id] = left.splice(pick(left.length), 1);
      return pick(8) === 0 ? -1 : id!;
    });
  });
  const hidden = Array.from({ length: rows * width }, () => pick(9) - 4);
  const weights = Array.from({ length: rows * topK }, () => 2 ** -pick(3));
  return {
    hiddenStates: tensor("float32", [rows, width], hidden),
    topkOutput: {
      format: "standard",
      topkIds: tensor("int32", [rows, topK], ids.flat()),
      topkWeights: tensor("float32", [rows, topK], weights),
    },
  };
}

function addExpert(out: Float32Array, x: ArrayLike<number>, id: number, weight: number): void {
  for (let h = 0; h < out.length; h++) {
    out[h]! += weight * ((id + 1) * x[h]! + id * x[(h + 1) % out.length]!);
  }
}

const rowOf = (t: CpuTensor, row: number): ArrayLike<number> => {
  const width = t.shape.at(-1)!;
  return t.data.subarray(row * width, (row + 1) * width) as ArrayLike<number>;
};

/** The whole layer on one rank, without any dispatch. */
export function dense({ hiddenStates, topkOutput }: Tokens): number[] {
  const [rows, width] = hiddenStates.shape as [number, number];
  const out = new Float32Array(rows * width);
  for (let t = 0; t < rows; t++) {
    const ids = rowOf(topkOutput.topkIds, t);
    const weights = rowOf(topkOutput.topkWeights, t);
    for (let k = 0; k < ids.length; k++) {
      if (ids[k] === -1) continue;
      addExpert(out.subarray(t * width, (t + 1) * width), rowOf(hiddenStates, t), ids[k]!, weights[k]!);
    }
  }
  return [...out];
}

/** Runs the experts of one rank over received rows, told apart from padding by their ids alone, as real runners do. */
export function runExperts(
  { config, epRank }: Pick<MoeAllToAll, "config" | "epRank">,
  received: FlashinferDispatchOutput<CpuTensor>,
  hiddenStates: CpuTensor = received.hiddenStates,
): FlashinferCombineInput<CpuTensor> {
  const { start, end } = expertRange(config, epRank);
  const { topkIds, topkWeights } = received.topkOutput;
  const [rows, width] = hiddenStates.shape as [number, number];
  const out = (received.moeOutput ?? tensor("float32", [rows, width])) as CpuTensor<"float32">;
  out.data.fill(0);
  for (let row = 0; row < rows; row++) {
    const ids = rowOf(topkIds, row);
    const weights = rowOf(topkWeights, row);
    for (let k = 0; k < ids.length; k++) {
      if (ids[k]! < start || ids[k]! >= end) continue;
      addExpert(
        out.data.subarray(row * width, (row + 1) * width),
        rowOf(hiddenStates, row),
        ids[k]!,
        weights[k]!,
      );
    }
  }
  return { format: "flashinfer", hiddenStates: out };
}
