import type { Tensor } from "@moe-a2a/core";
import type { MoeA2ADispatcher } from "./dispatcher.js";
import type { FlashinferCombineInput, FlashinferDispatchOutput } from "./formats.js";
import type { Unchanged } from "./hooks.js";
import type { TopKOutput } from "./topk.js";

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
