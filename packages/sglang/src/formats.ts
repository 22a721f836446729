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

/** Dispatched tokens in one of four forms; `format` tells which. */
export type DispatchOutput<T extends Tensor = Tensor> =
  | StandardDispatchOutput<T>
  | DeepEPNormalDispatchOutput<T>
  | DeepEPLLDispatchOutput<T>
  | FlashinferDispatchOutput<T>;
/** The names of the forms that dispatched tokens have. */
export type DispatchOutputFormat = DispatchOutput["format"];

/** Results of tokens that stayed where they were. */
export interface StandardCombineInput<T extends Tensor = Tensor> {
  readonly format: "standard";
  readonly hiddenStates: T;
}

/** Results of tokens packed expert by expert, in DeepEP's normal mode. */
export interface DeepEPNormalCombineInput<T extends Tensor = Tensor> {
  readonly format: "deepepNormal";
  readonly hiddenStates: T;
  readonly topkIds: T;
  readonly topkWeights: T;
}

/** Results of tokens in one padded block per expert, in DeepEP's low-latency mode. */
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

/** Experts' results in one of four forms; `format` tells which. */
export type CombineInput<T extends Tensor = Tensor> =
  | StandardCombineInput<T>
  | DeepEPNormalCombineInput<T>
  | DeepEPLLCombineInput<T>
  | FlashinferCombineInput<T>;
/** The names of the forms that experts' results have. */
export type CombineInputFormat = CombineInput["format"];

/** Whether the tokens stayed where they were. */
export function isStandardDispatchOutput<T extends Tensor>(
  output: DispatchOutput<T>,
): output is StandardDispatchOutput<T> {
  return output.format === "standard";
}

/** Whether the tokens have the form of DeepEP's normal mode. */
export function isDeepEPNormalDispatchOutput<T extends Tensor>(
  output: DispatchOutput<T>,
): output is DeepEPNormalDispatchOutput<T> {
  return output.format === "deepepNormal";
}

/** Whether the tokens have the form of DeepEP's low-latency mode. */
export function isDeepEPLLDispatchOutput<T extends Tensor>(
  output: DispatchOutput<T>,
): output is DeepEPLLDispatchOutput<T> {
  return output.format === "deepepLl";
}

/** Whether the tokens have the form that `MoeA2ADispatcher` makes. */
export function isFlashinferDispatchOutput<T extends Tensor>(
  output: DispatchOutput<T>,
): output is FlashinferDispatchOutput<T> {
  return output.format === "flashinfer";
}

/** Whether the results are those of tokens that stayed where they were. */
export function isStandardCombineInput<T extends Tensor>(
  input: CombineInput<T>,
): input is StandardCombineInput<T> {
  return input.format === "standard";
}

/** Whether the results have the form of DeepEP's normal mode. */
export function isDeepEPNormalCombineInput<T extends Tensor>(
  input: CombineInput<T>,
): input is DeepEPNormalCombineInput<T> {
  return input.format === "deepepNormal";
}

/** Whether the results have the form of DeepEP's low-latency mode. */
export function isDeepEPLLCombineInput<T extends Tensor>(
  input: CombineInput<T>,
): input is DeepEPLLCombineInput<T> {
  return input.format === "deepepLl";
}

/** Whether the results have the form that `MoeA2ADispatcher` takes. */
export function isFlashinferCombineInput<T extends Tensor>(
  input: CombineInput<T>,
): input is FlashinferCombineInput<T> {
  return input.format === "flashinfer";
}
