import { readFileSync } from "node:fs";
import type { CombineDType } from "@moe-a2a/core";
import { describe, expect, it } from "vitest";
import { SimdSum } from "../src/loops/simd.js";
import { Accumulator, sumRows, sumRowsPlainly } from "../src/loops/sum.js";
import { assemble } from "../wasm/build.mjs";

const dtypes = ["float32", "float16", "bfloat16"] as const;
const simd = SimdSum.create()!;
type Row = Float32Array | Uint16Array;

const make = (dtype: CombineDType, n: number): Row =>
  dtype === "float32" ? new Float32Array(n) : new Uint16Array(n);
const bitsOf = (row: Row): Uint32Array | Uint16Array =>
  row instanceof Float32Array ? new Uint32Array(row.buffer, row.byteOffset, row.length) : row;

/** The bits, with one pattern for every NaN: which of them a sum becomes is the machine's affair. */
function canonical(row: Row, dtype: CombineDType): number[] {
  const [magnitude, infinity] =
    dtype === "float32"
      ? [0x7fffffff, 0x7f800000]
      : dtype === "float16"
        ? [0x7fff, 0x7c00]
        : [0x7fff, 0x7f80];
  return Array.from(bitsOf(row), (bits) => ((bits & magnitude) > infinity ? -1 : bits));
}

/** Both ways of summing; outputs have neighbours that must stay as they are. */
function both(
  rows: readonly Row[],
  firsts: readonly number[],
  n: number,
  dtype: CombineDType,
  to: CombineDType,
) {
  const acc = new Accumulator(new ArrayBuffer(8 * n + 8), 0, 4 * n + 4);
  const [plain, fast] = [make(to, n + 4), make(to, n + 4)];
  for (const out of [plain, fast]) bitsOf(out).fill(0x1234);
  sumRowsPlainly(acc, rows, firsts, rows.length, n, dtype, plain, 2, to);
  simd.sum(rows, firsts, rows.length, n, dtype, fast, 2, to);
  return { plain: canonical(plain, to), fast: canonical(fast, to) };
}

/** Any bits, special ones among them, from a fixed sequence. */
function randomRow(dtype: CombineDType, n: number, seed: number): Row {
  const row = make(dtype, n);
  const bits = bitsOf(row);
  let state = seed | 1;
  for (let i = 0; i < n; i++) {
    state = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9;
    // Mostly numbers near 1, whose sums depend on the order.
    const near = dtype === "float32" ? 0x3f800000 : dtype === "float16" ? 0x3c00 : 0x3f80;
    bits[i] =
      i % 5 === 0 ? state >>> 3 : near ^ ((state >>> 5) & (dtype === "float32" ? 0x81ffffff : 0x83ff));
  }
  return row;
}

describe("SIMD sums", () => {
  it("are made of the very code that is kept", async () => {
    const kept = readFileSync(new URL("../src/loops/sum-wasm.ts", import.meta.url), "utf8");
    expect(kept).toBe(await assemble());
  });

  describe.each(dtypes.flatMap((dtype) => dtypes.map((to) => ({ dtype, to }))))(
    "of $dtype to $to",
    ({ dtype, to }) => {
      it.each([1, 7, 8, 9, 40, 129, 7168])("have the same bits as plain ones, %i elements", (n) => {
        for (const count of [1, 2, 4, 9]) {
          const firsts = Array.from({ length: count }, (_, i) => 3 * i);
          const rows = firsts.map((first, i) => randomRow(dtype, first + n + 5, 77 * n + i));
          const { plain, fast } = both(rows, firsts, n, dtype, to);
          expect(fast).toEqual(plain);
        }
      });

      it("have the same bits where rows are too many or too long to lie side by side", () => {
        const n = 20_011;
        const rows = Array.from({ length: 32 }, (_, i) => randomRow(dtype, n, i));
        const { plain, fast } = both(
          rows,
          rows.map(() => 0),
          n,
          dtype,
          to,
        );
        expect(fast).toEqual(plain);
      });
    },
  );

  it.each(["float16", "bfloat16"] as const)("widen every %s exactly, and a single -0 to +0", (dtype) => {
    const all = Uint16Array.from({ length: 2 ** 16 }, (_, bits) => bits);
    const { plain, fast } = both([all], [0], all.length, dtype, "float32");
    expect(fast).toEqual(plain);
  });

  it.each(["float16", "bfloat16"] as const)("round to %s alike at every edge", (to) => {
    const step = to === "bfloat16" ? 1 << 15 : 1 << 12;
    const bits: number[] = [];
    for (let base = 0; base < 2 ** 32; base += 7 * step) bits.push(base - 1, base, base + 1);
    const row = new Float32Array(Uint32Array.from(bits).buffer);
    const { plain, fast } = both([row], [0], row.length, "float32", to);
    expect(fast.findIndex((x, i) => x !== plain[i])).toBe(-1);
  });

  it("take over where there is enough to sum", () => {
    const acc = new Accumulator(new ArrayBuffer(2 * 4 * 1024), 0, 4 * 1024);
    acc.sum.fill(9);
    const rows = [randomRow("bfloat16", 1024, 1)];
    sumRows(acc, rows, [0], 1, 1024, "bfloat16", new Uint16Array(1024), 0, "bfloat16");
    expect(acc.sum[0]).toBe(9);
  });
});
