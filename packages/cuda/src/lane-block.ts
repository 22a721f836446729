import {
  type CheckedCombine,
  type CheckedDispatch,
  type CheckedTensor,
  type CudaTensor,
  DTYPES,
} from "@moe-a2a/core";

/** Indices of int32 words and 64-bit words in a lane's block; the same as in `native/rank.hpp`. */
const WORD = {
  numLocalTokens: 0,
  maxTokens: 1,
  payloadCount: 2,
  expertIdPayload: 3,
  invalidExpertId: 4,
  statsLength: 5,
  rowBytes: 8,
  dispatchMapping: 16,
  hiddenSize: 24,
  dtype: 25,
  outDtype: 26,
  combineMapping: 28,
} as const;
const LONG = {
  dispatchStream: 20,
  tokenCount: 21,
  expertIds: 22,
  stats: 23,
  payloads: 24,
  recvOffsets: 32,
  combineStream: 40,
  expertOutput: 41,
  output: 42,
  dispatchCapture: 43,
  combineCapture: 44,
} as const;

const BLOCK_BYTES = 512;

/** How work is cut, for tests; 0 leaves the choice to the library. See `struct moe_a2a_mapping`. */
export interface Mapping {
  readonly kind?: number;
  readonly tokensPerTile?: number;
  readonly splits?: number;
  readonly blocks?: number;
  readonly slotsBy?: number;
}

/** Where a phase goes to: a stream, and what names the capture that this is part of, or 0. */
export interface Place {
  readonly stream: bigint;
  readonly capture: bigint;
}

/** The arguments of a lane's phases, where the addon reads them: one call per phase, and no object on the way. */
export class LaneBlock {
  readonly memory = new ArrayBuffer(BLOCK_BYTES);
  readonly #words = new Int32Array(this.memory);
  readonly #longs = new BigUint64Array(this.memory);
  /** What stands in the block, and passed all checks: the next checks hand it back where they find the same. */
  #dispatch: CheckedDispatch<CudaTensor> | undefined;
  #dispatchStream = 0n;
  #dispatchCapture = 0n;
  #recvOffsets: readonly bigint[] | undefined;
  #combine: CheckedCombine<CudaTensor> | undefined;
  #output: CheckedTensor<CudaTensor> | undefined;
  #combineStream = 0n;
  #combineCapture = 0n;

  /** The last dispatch's arguments. */
  get dispatch(): CheckedDispatch<CudaTensor> | undefined {
    return this.#dispatch;
  }

  /** The last combine's arguments. */
  get combine(): CheckedCombine<CudaTensor> | undefined {
    return this.#combine;
  }

  /** Where the last combine's sums went. */
  get output(): CheckedTensor<CudaTensor> | undefined {
    return this.#output;
  }

  setMapping({ kind = 0, tokensPerTile = 0, splits = 0, blocks = 0, slotsBy = 0 }: Mapping): void {
    const mapping = [kind, tokensPerTile, splits, blocks, slotsBy];
    this.#words.set(mapping, WORD.dispatchMapping);
    this.#words.set(mapping, WORD.combineMapping);
  }

  setDispatch(checked: CheckedDispatch<CudaTensor>, { stream, capture }: Place): void {
    if (checked === this.#dispatch && stream === this.#dispatchStream && capture === this.#dispatchCapture) {
      return;
    }
    const words = this.#words;
    const longs = this.#longs;
    const { payloads, rowBytes } = checked;
    this.#dispatch = checked;
    this.#dispatchStream = stream;
    this.#dispatchCapture = capture;
    this.#recvOffsets = undefined;
    words[WORD.numLocalTokens] = checked.numLocalTokens;
    words[WORD.maxTokens] = checked.maxTokens;
    words[WORD.payloadCount] = payloads.length;
    words[WORD.expertIdPayload] = checked.expertIdPayloadIndex;
    words[WORD.invalidExpertId] = checked.invalidTokenExpertId;
    words[WORD.statsLength] = checked.statsLength;
    longs[LONG.dispatchStream] = stream;
    longs[LONG.dispatchCapture] = capture;
    longs[LONG.tokenCount] = checked.tokenCount?.data ?? 0n;
    longs[LONG.expertIds] = checked.tokenSelectedExperts.data;
    longs[LONG.stats] = checked.expertStats?.data ?? 0n;
    for (let p = 0; p < payloads.length; p++) {
      words[WORD.rowBytes + p] = rowBytes[p]!;
      longs[LONG.payloads + p] = payloads[p]!.data;
    }
  }

  /** After the addon's `dispatch()`: where each payload's rows lie in the window, in bytes. */
  recvOffsets(count: number): readonly bigint[] {
    if (this.#recvOffsets) return this.#recvOffsets;
    const offsets: bigint[] = [];
    for (let p = 0; p < count; p++) offsets.push(this.#longs[LONG.recvOffsets + p]!);
    this.#recvOffsets = offsets;
    return offsets;
  }

  setCombine(
    checked: CheckedCombine<CudaTensor>,
    output: CheckedTensor<CudaTensor>,
    { stream, capture }: Place,
  ): void {
    const isSame = checked === this.#combine && output === this.#output;
    if (isSame && stream === this.#combineStream && capture === this.#combineCapture) return;
    const words = this.#words;
    const longs = this.#longs;
    this.#combine = checked;
    this.#output = output;
    this.#combineStream = stream;
    this.#combineCapture = capture;
    words[WORD.hiddenSize] = checked.hiddenSize;
    words[WORD.dtype] = DTYPES.indexOf(checked.dtype);
    words[WORD.outDtype] = DTYPES.indexOf(output.dtype);
    longs[LONG.combineStream] = stream;
    longs[LONG.combineCapture] = capture;
    longs[LONG.expertOutput] = checked.expertOutput.data;
    longs[LONG.output] = output.data;
  }
}
