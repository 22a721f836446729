import type { CombineDType, MoeAllToAll, Tensor } from "@moe-a2a/core";
import type { MoeA2ADispatcher } from "./dispatcher.js";
import type { FlashinferCombineInput, FlashinferDispatchOutput } from "./formats.js";
import type { TopKOutput } from "./topk.js";

export interface MoeA2ADispatcherOptions<T extends Tensor = Tensor> {
  readonly a2a: MoeAllToAll<T>;
  readonly hiddenSize: number;
  /** Of the hidden states that go in, and of the combined ones that come out. */
  readonly dtype: CombineDType;
  /** The id in padding slots: -1 (default) for expert runners that skip negative ids, else another id they skip. */
  readonly invalidTokenExpertId?: number;
  /** Offers `moeOutput`, a view of the combine buffer, so that expert output is not copied again. Default false. */
  readonly combineInPlace?: boolean;
  /** Keeps this dispatcher to one lane, for two dispatchers that overlap out of turn. Default: lanes in turn. */
  readonly lane?: 0 | 1;
}

export interface DispatchOptions {
  /** Token counts of all DP ranks in this step, from which every rank works out the same slot count. */
  readonly dpGlobalNumTokens?: readonly number[];
  /** Attention-TP ranks that share out each DP rank's tokens. Default 1. */
  readonly attnTpSize?: number;
}

export interface CombineOptions<T extends Tensor = Tensor> {
  /** Where the result goes, `[L, H]`. Default: a new tensor. */
  readonly out?: T;
}

/** What a hook returns that only looks: nothing. */
// biome-ignore lint/suspicious/noConfusingVoidType: undefined would ask such a hook for a return statement
export type Unchanged = void;

/** Sees, and may replace, what is about to be dispatched. */
export type PreDispatchHook<T extends Tensor = Tensor> = (
  dispatcher: MoeA2ADispatcher<T>,
  hiddenStates: T,
  topkOutput: TopKOutput<T>,
) => readonly [hiddenStates: T, topkOutput: TopKOutput<T>] | Unchanged;

/** Sees, and may replace, what was received. */
export type PostDispatchHook<T extends Tensor = Tensor> = (
  dispatcher: MoeA2ADispatcher<T>,
  output: FlashinferDispatchOutput<T>,
) => FlashinferDispatchOutput<T> | Unchanged;

/** Sees, and may replace, the expert output. */
export type PreCombineHook<T extends Tensor = Tensor> = (
  dispatcher: MoeA2ADispatcher<T>,
  combineInput: FlashinferCombineInput<T>,
) => FlashinferCombineInput<T> | Unchanged;

/** Sees, and may replace, the combined hidden states. */
export type PostCombineHook<T extends Tensor = Tensor> = (
  dispatcher: MoeA2ADispatcher<T>,
  hiddenStates: T,
) => T | Unchanged;
