import type { CombineDType, MoeAllToAll, Tensor } from "@moe-a2a/core";

/** What a dispatcher is made with. */
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

/** What a dispatch is told beside its tensors. */
export interface DispatchOptions {
  /** Token counts of all DP ranks in this step, from which every rank works out the same slot count. */
  readonly dpGlobalNumTokens?: readonly number[];
  /** Attention-TP ranks that share out each DP rank's tokens. Default 1. */
  readonly attnTpSize?: number;
}

/** What a combine is told beside its input. */
export interface CombineOptions<T extends Tensor = Tensor> {
  /** Where the result goes, `[L, H]`. Default: a new tensor. */
  readonly out?: T;
}
