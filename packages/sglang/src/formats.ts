import type { CombineDType, DispatchReport, ReadyOptions, Tensor } from "@moe-a2a/core";
import type { StandardTopKOutput, TopKOutput } from "./topk.js";

/** Tokens that stayed where they were. */
export interface StandardDispatchOutput<T extends Tensor = Tensor> {
  readonly format: "standard";
  readonly hiddenStates: T;
  readonly hiddenStatesScale: T | undefined;
  readonly topkOutput: TopKOutput<T>;
}

/** Tokens packed expert by expert, in DeepEP's normal mode. */
export interface DeepEPNormalDispatchOutput<T extends Tensor = Tensor> {
  readonly format: "deepepNormal";
  readonly hiddenStates: T;
  readonly hiddenStatesScale: T | undefined;
  readonly topkIds: T;
  readonly topkWeights: T;
  readonly numRecvTokensPerExpert: readonly number[];
}

/** Tokens in one padded block per expert, in DeepEP's low-latency mode. */
export interface DeepEPLLDispatchOutput<T extends Tensor = Tensor> {
  readonly format: "deepepLl";
  readonly hiddenStates: T;
  readonly hiddenStatesScale: T | undefined;
  readonly topkIds: T;
  readonly topkWeights: T;
  readonly maskedM: T;
  readonly expectedM: number;
}

/**
 * Tokens in the slots they were received in: row `s * m + j` is the j-th token from rank s. This is what
 * `MoeA2ADispatcher` makes. It holds until the round's combine is ready.
 */
export interface FlashinferDispatchOutput<T extends Tensor = Tensor> {
  readonly format: "flashinfer";
  /** `[R * m, H]`, or as wide as the quantised form. */
  readonly hiddenStates: T;
  /** Block scales of the received rows, where a quantised form travels. */
  readonly hiddenStatesScale: T | undefined;
  /** Received ids and weights, `[R * m, K]` each; every id of a padding row is the invalid id. */
  readonly topkOutput: StandardTopKOutput<T>;
  /** `[R * m, H]` in the combine buffer, with `combineInPlace`: expert output written here is not copied again. */
  readonly moeOutput: T | undefined;
  readonly outputDtype: CombineDType;
  /** int32 `[R]`: rows received from each rank; the rest of its m rows are padding. */
  readonly recvCounts: T;
  /** What this dispatch did; on a GPU this waits for it, and tells of its failure. */
  ready(options?: ReadyOptions): Promise<DispatchReport>;
}

export type DispatchOutput<T extends Tensor = Tensor> =
  | StandardDispatchOutput<T>
  | DeepEPNormalDispatchOutput<T>
  | DeepEPLLDispatchOutput<T>
  | FlashinferDispatchOutput<T>;
export type DispatchOutputFormat = DispatchOutput["format"];

export interface StandardCombineInput<T extends Tensor = Tensor> {
  readonly format: "standard";
  readonly hiddenStates: T;
}

export interface DeepEPNormalCombineInput<T extends Tensor = Tensor> {
  readonly format: "deepepNormal";
  readonly hiddenStates: T;
  readonly topkIds: T;
  readonly topkWeights: T;
}

export interface DeepEPLLCombineInput<T extends Tensor = Tensor> {
  readonly format: "deepepLl";
  readonly hiddenStates: T;
  readonly topkIds: T;
  readonly topkWeights: T;
}

/** What `MoeA2ADispatcher` combines: the experts' results `[R * m, H]`, row for row as they were received. */
export interface FlashinferCombineInput<T extends Tensor = Tensor> {
  readonly format: "flashinfer";
  readonly hiddenStates: T;
}

export type CombineInput<T extends Tensor = Tensor> =
  | StandardCombineInput<T>
  | DeepEPNormalCombineInput<T>
  | DeepEPLLCombineInput<T>
  | FlashinferCombineInput<T>;
export type CombineInputFormat = CombineInput["format"];

export function isStandardDispatchOutput<T extends Tensor>(
  output: DispatchOutput<T>,
): output is StandardDispatchOutput<T> {
  return output.format === "standard";
}

export function isDeepEPNormalDispatchOutput<T extends Tensor>(
  output: DispatchOutput<T>,
): output is DeepEPNormalDispatchOutput<T> {
  return output.format === "deepepNormal";
}

export function isDeepEPLLDispatchOutput<T extends Tensor>(
  output: DispatchOutput<T>,
): output is DeepEPLLDispatchOutput<T> {
  return output.format === "deepepLl";
}

export function isFlashinferDispatchOutput<T extends Tensor>(
  output: DispatchOutput<T>,
): output is FlashinferDispatchOutput<T> {
  return output.format === "flashinfer";
}

export function isStandardCombineInput<T extends Tensor>(
  input: CombineInput<T>,
): input is StandardCombineInput<T> {
  return input.format === "standard";
}

export function isDeepEPNormalCombineInput<T extends Tensor>(
  input: CombineInput<T>,
): input is DeepEPNormalCombineInput<T> {
  return input.format === "deepepNormal";
}

export function isDeepEPLLCombineInput<T extends Tensor>(
  input: CombineInput<T>,
): input is DeepEPLLCombineInput<T> {
  return input.format === "deepepLl";
}

export function isFlashinferCombineInput<T extends Tensor>(
  input: CombineInput<T>,
): input is FlashinferCombineInput<T> {
  return input.format === "flashinfer";
}
