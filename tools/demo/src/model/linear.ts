import { bfloat16ToFloat32, float32ToBfloat16 } from "@moe-a2a/core";

/**
 * `out[i] = sum over j of weights[offset + i * columns + j] * x[j]`, for `rows` rows. Every row is summed in the order of
 * its columns, so that a result does not depend on what else is computed.
 */
export function multiply(
  weights: Float32Array,
  offset: number,
  rows: number,
  columns: number,
  x: Float64Array,
  out: Float64Array,
): void {
  let i = 0;
  // Four rows at a time read x once.
  for (; i + 4 <= rows; i += 4) {
    let a = offset + i * columns;
    let b = a + columns;
    let c = b + columns;
    let d = c + columns;
    let sumA = 0;
    let sumB = 0;
    let sumC = 0;
    let sumD = 0;
    for (let j = 0; j < columns; j++) {
      const xj = x[j]!;
      sumA += weights[a++]! * xj;
      sumB += weights[b++]! * xj;
      sumC += weights[c++]! * xj;
      sumD += weights[d++]! * xj;
    }
    out[i] = sumA;
    out[i + 1] = sumB;
    out[i + 2] = sumC;
    out[i + 3] = sumD;
  }
  for (; i < rows; i++) {
    let a = offset + i * columns;
    let sum = 0;
    for (let j = 0; j < columns; j++) sum += weights[a++]! * x[j]!;
    out[i] = sum;
  }
}

/** Widens a bfloat16 row to numbers. */
export function widenRow(row: Uint16Array, offset: number, out: Float64Array): void {
  for (let i = 0; i < out.length; i++) out[i] = bfloat16ToFloat32(row[offset + i]!);
}

/** Adds `addend` to a bfloat16 row and rounds. */
export function addToRow(row: Uint16Array, offset: number, addend: Float64Array): void {
  for (let i = 0; i < addend.length; i++) {
    row[offset + i] = float32ToBfloat16(bfloat16ToFloat32(row[offset + i]!) + addend[i]!);
  }
}

/** Scales `rows` bfloat16 rows to a root mean square of 1. */
export function normalizeRows(from: Uint16Array, rows: number, columns: number, to: Uint16Array): void {
  for (let start = 0; start < rows * columns; start += columns) {
    let squares = 0;
    for (let i = start; i < start + columns; i++) {
      const x = bfloat16ToFloat32(from[i]!);
      squares += x * x;
    }
    const scale = 1 / Math.sqrt(squares / columns + 1e-6);
    for (let i = start; i < start + columns; i++)
      to[i] = float32ToBfloat16(bfloat16ToFloat32(from[i]!) * scale);
  }
}
