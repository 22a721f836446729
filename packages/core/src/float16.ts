import type { CombineDType, TypedArrayOf } from "./dtype.js";

// One float32 and its bits.
const value: Float32Array = new Float32Array(1);
const bits: Uint32Array = new Uint32Array(value.buffer);

/** The bits that every NaN narrows to: JavaScript keeps neither sign nor payload of a NaN, so neither do these. */
export const BFLOAT16_NAN = 0x7fc0;
/** As {@link BFLOAT16_NAN}, for float16. */
export const FLOAT16_NAN = 0x7e00;

/**
 * The bfloat16 nearest to `x`, as bits: ties to even, subnormals kept, overflow to ±Infinity, -0 kept, any NaN to
 * {@link BFLOAT16_NAN}. `x` is a float32 value; any other number is rounded to float32 first.
 */
export function float32ToBfloat16(x: number): number {
  if (Number.isNaN(x)) return BFLOAT16_NAN;
  value[0] = x;
  const b = bits[0]!;
  // Exponent and mantissa adjoin, so a carry out of the mantissa is the right next number, up to Infinity.
  return (b + 0x7fff + ((b >>> 16) & 1)) >>> 16;
}

/** The value of bfloat16 bits; exact. */
export function bfloat16ToFloat32(h: number): number {
  bits[0] = h << 16;
  return value[0]!;
}

/**
 * The float16 nearest to `x`, as bits: ties to even, subnormals kept, overflow (from 65520 on) to ±Infinity, -0 kept,
 * any NaN to {@link FLOAT16_NAN}. `x` is a float32 value; any other number is rounded to float32 first.
 */
export function float32ToFloat16(x: number): number {
  if (Number.isNaN(x)) return FLOAT16_NAN;
  value[0] = x;
  const b = bits[0]!;
  const sign = (b >>> 16) & 0x8000;
  const magnitude = b & 0x7fffffff;
  if (magnitude >= 0x47800000) return sign | 0x7c00; // 65536 and up
  if (magnitude >= 0x38800000) {
    // 2^-14 and up, normal: move the exponent from bias 127 to bias 15, then round away 13 bits.
    return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
  }
  // Subnormal: a multiple of 2^-24. Adding 2^52 leaves a double no bits for a fraction, so it rounds to nearest even.
  return sign | (Math.abs(value[0]!) * 2 ** 24 + 2 ** 52 - 2 ** 52);
}

/** The value of float16 bits; exact. */
export function float16ToFloat32(h: number): number {
  const magnitude = h & 0x7fff;
  if (magnitude < 0x400) return h & 0x8000 ? -magnitude * 2 ** -24 : magnitude * 2 ** -24;
  const special = magnitude >= 0x7c00 ? 0x38000000 : 0; // lifts exponent 31 to float32's 255
  bits[0] = ((h & 0x8000) << 16) | ((magnitude << 13) + 0x38000000 + special);
  return value[0]!;
}

/** Exact float32 values of `source`; into `out` where given, else into a new array. */
export function toFloat32(
  dtype: CombineDType,
  source: TypedArrayOf<CombineDType>,
  out: Float32Array = new Float32Array(source.length),
): Float32Array {
  if (dtype === "float32") out.set(source);
  else {
    const widen = dtype === "float16" ? float16ToFloat32 : bfloat16ToFloat32;
    for (let i = 0; i < source.length; i++) out[i] = widen(source[i]!);
  }
  return out;
}

/** `source` rounded to nearest even to `dtype`; into `out` where given, else into a new array. */
export function fromFloat32<D extends CombineDType>(
  dtype: D,
  source: Float32Array,
  out?: TypedArrayOf<D>,
): TypedArrayOf<D> {
  if (dtype === "float32") {
    const target = (out ?? new Float32Array(source.length)) as Float32Array;
    target.set(source);
    return target as TypedArrayOf<D>;
  }
  const narrow = dtype === "float16" ? float32ToFloat16 : float32ToBfloat16;
  const target = (out ?? new Uint16Array(source.length)) as Uint16Array;
  for (let i = 0; i < source.length; i++) target[i] = narrow(source[i]!);
  return target as TypedArrayOf<D>;
}
