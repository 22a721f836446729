import type { Tensor } from "@moe-a2a/core";

/** The router's choice for L tokens: SGLang's `StandardTopKOutput`. */
export interface StandardTopKOutput<T extends Tensor = Tensor> {
  /** May be left out: routers put out this form as a rule. */
  readonly format?: "standard";
  /** float32 `[L, K]`. */
  readonly topkWeights: T;
  /** int32 `[L, K]`; -1 is padding. */
  readonly topkIds: T;
  readonly routerLogits?: T;
}

/** What a bypassed router was asked for; frameworks add fields of their own. */
export interface TopKConfig {
  readonly topK: number;
}

/** Routing put off until someone needs it: SGLang's `BypassedTopKOutput`. */
export interface BypassedTopKOutput<T extends Tensor = Tensor> {
  readonly format: "bypassed";
  readonly hiddenStates: T;
  readonly routerLogits: T;
  readonly topkConfig: TopKConfig;
  toStandard(): StandardTopKOutput<T>;
}

/** A router's choice, made or put off. */
export type TopKOutput<T extends Tensor = Tensor> = StandardTopKOutput<T> | BypassedTopKOutput<T>;
/** The names of the forms that a router's choice has. */
export type TopKOutputFormat = NonNullable<TopKOutput["format"]>;

/** Whether the router has chosen. */
export function isStandardTopKOutput<T extends Tensor>(
  output: TopKOutput<T>,
): output is StandardTopKOutput<T> {
  return (output.format ?? "standard") === "standard";
}

/** Whether the choice was put off. */
export function isBypassedTopKOutput<T extends Tensor>(
  output: TopKOutput<T>,
): output is BypassedTopKOutput<T> {
  return output.format === "bypassed";
}
