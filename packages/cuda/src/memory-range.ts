import { byteLengthOf, type CheckedTensor, type CudaTensor } from "@moe-a2a/core";

/** Device memory from `start` to before `end`. */
export interface MemoryRange {
  readonly start: bigint;
  readonly end: bigint;
}

export function rangeOf({ dtype, shape, data }: CheckedTensor<CudaTensor>): MemoryRange {
  return { start: data, end: data + BigInt(byteLengthOf(dtype, shape)) };
}

/** Nothing overlaps with no bytes. */
export function overlaps(a: MemoryRange, b: MemoryRange): boolean {
  return a.start < b.end && a.end > b.start && a.start < a.end && b.start < b.end;
}
