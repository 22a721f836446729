import type { CombineDType } from "@moe-a2a/core";
import { SimdSum } from "./simd.js";

/** One row's running sum in float32, the addend widened to float32, and the bits of both. */
export class Accumulator {
  readonly sum: Float32Array;
  readonly sumBits: Int32Array;
  readonly addend: Float32Array;
  readonly addendBits: Int32Array;

  constructor(memory: ArrayBufferLike, offset: number, bytes: number) {
    this.sum = new Float32Array(memory, offset, bytes / 4);
    this.sumBits = new Int32Array(memory, offset, bytes / 4);
    this.addend = new Float32Array(memory, offset + bytes, bytes / 4);
    this.addendBits = new Int32Array(memory, offset + bytes, bytes / 4);
  }
}

/** Moves a float16's exponent, put where a float32 has its own, from one bias to the other: exact, subnormals too. */
const FLOAT16_SCALE = 2 ** (127 - 15);

/** In shorter rows, copying them to where SIMD code gets at them costs more than it saves. */
const SIMD_ELEMENTS = 32;

/** One for each thread; null where there is none. */
let simd: SimdSum | null | undefined;

/**
 * Sums `count` rows of `n` elements, of which row i starts at element `firsts[i]` of `rows[i]`: float32 from +0, in their
 * order; rounds once, to nearest even, to `outDType`; and stores them from element `at` of `out` on.
 */
export function sumRows(
  acc: Accumulator,
  rows: readonly (Float32Array | Uint16Array)[],
  firsts: ArrayLike<number>,
  count: number,
  n: number,
  dtype: CombineDType,
  out: Float32Array | Uint16Array,
  at: number,
  outDType: CombineDType,
): void {
  if (count > 0 && n >= SIMD_ELEMENTS) {
    if (simd === undefined) simd = SimdSum.create() ?? null;
    if (simd) {
      simd.sum(rows, firsts, count, n, dtype, out, at, outDType);
      return;
    }
  }
  sumRowsPlainly(acc, rows, firsts, count, n, dtype, out, at, outDType);
}

/** As {@link sumRows}, without SIMD code. */
export function sumRowsPlainly(
  acc: Accumulator,
  rows: readonly (Float32Array | Uint16Array)[],
  firsts: ArrayLike<number>,
  count: number,
  n: number,
  dtype: CombineDType,
  out: Float32Array | Uint16Array,
  at: number,
  outDType: CombineDType,
): void {
  clearSum(acc, n);
  for (let i = 0; i < count; i++) addRow(acc, rows[i]!, firsts[i]!, n, dtype);
  storeSum(acc, out, at, n, outDType);
}

/** Sets the first `n` sums to +0. */
export function clearSum(acc: Accumulator, n: number): void {
  acc.sum.fill(0, 0, n);
}

/** Adds the `n` elements of `row` from `offset` on. Float32Array rounds each sum to float32, as the contract wants. */
export function addRow(
  acc: Accumulator,
  row: Float32Array | Uint16Array,
  offset: number,
  n: number,
  dtype: CombineDType,
): void {
  const { sum, addend, addendBits } = acc;
  if (dtype === "float32") {
    for (let i = 0; i < n; i++) sum[i] = sum[i]! + row[offset + i]!;
    return;
  }
  if (dtype === "bfloat16") {
    for (let i = 0; i < n; i++) addendBits[i] = row[offset + i]! << 16;
    for (let i = 0; i < n; i++) sum[i] = sum[i]! + addend[i]!;
    return;
  }
  for (let i = 0; i < n; i++) {
    const bits = row[offset + i]!;
    // Infinity and NaN have the largest exponent there and here.
    const special = (bits & 0x7c00) === 0x7c00 ? 0x7f800000 : 0;
    addendBits[i] = ((bits & 0x8000) << 16) | ((bits & 0x7fff) << 13) | special;
  }
  for (let i = 0; i < n; i++) sum[i] = sum[i]! + addend[i]! * FLOAT16_SCALE;
}

/** Rounds the first `n` sums to `dtype`, to nearest even, and stores them. */
export function storeSum(
  acc: Accumulator,
  out: Float32Array | Uint16Array,
  offset: number,
  n: number,
  dtype: CombineDType,
): void {
  if (dtype === "float32") {
    for (let i = 0; i < n; i++) out[offset + i] = acc.sum[i]!;
    return;
  }
  const { sumBits } = acc;
  if (dtype === "bfloat16") {
    for (let i = 0; i < n; i++) {
      const bits = sumBits[i]!;
      const nan = (bits & 0x7fffffff) > 0x7f800000;
      out[offset + i] = nan ? 0x7fc0 : (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
    }
    return;
  }
  for (let i = 0; i < n; i++) out[offset + i] = float16Bits(sumBits[i]!);
}

/** Float32 bits to float16 bits, to nearest even. */
function float16Bits(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return 0x7e00;
  // From 65520 on, values round to infinity.
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude >= 0x38800000) {
    // Normal: move the exponent's bias from 127 to 15 and round the 13 bits that go.
    const rebased = magnitude - 0x38000000;
    return sign | ((rebased + 0x0fff + ((rebased >>> 13) & 1)) >>> 13);
  }
  // Subnormal: shift the full significand; below half of the smallest subnormal everything rounds to zero.
  const shift = 126 - (magnitude >>> 23);
  if (shift > 24) return sign;
  const significand = (magnitude & 0x7fffff) | 0x800000;
  const kept = significand >>> shift;
  const rest = significand & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  return sign | (kept + (rest > half || (rest === half && (kept & 1) === 1) ? 1 : 0));
}

const NAN_BITS = { bfloat16: 0x7fc0, float16: 0x7e00 } as const;

/** Fills all elements with NaN. */
export function fillNaN(out: Float32Array | Uint16Array, dtype: CombineDType): void {
  out.fill(dtype === "float32" ? Number.NaN : NAN_BITS[dtype]);
}
