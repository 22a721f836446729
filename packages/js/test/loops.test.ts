import { type CombineDType, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from "@moe-a2a/core";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { copyBytes } from "../src/loops/copy.js";
import { Accumulator, addRow, clearSum, fillNaN, storeSum } from "../src/loops/sum.js";

const LENGTH = 4096;
const acc = new Accumulator(new ArrayBuffer(2 * LENGTH * 4), 0, LENGTH * 4);
const word = new Float32Array(1);
const wordBits = new Int32Array(word.buffer);

/** Rounds float32 bit patterns through storeSum. */
function narrow(bits: Int32Array, dtype: "bfloat16" | "float16"): Uint16Array {
  const out = new Uint16Array(bits.length);
  for (let at = 0; at < bits.length; at += LENGTH) {
    const part = bits.subarray(at, at + LENGTH);
    acc.sumBits.set(part);
    storeSum(acc, out, at, part.length, dtype);
  }
  return out;
}

function isNaNBits(bits: number, dtype: "bfloat16" | "float16"): boolean {
  return dtype === "bfloat16" ? (bits & 0x7fff) > 0x7f80 : (bits & 0x7fff) > 0x7c00;
}

describe("storeSum", () => {
  it.each(["bfloat16", "float16"] as const)("rounds to %s as core does, at every edge", (dtype) => {
    const convert = dtype === "bfloat16" ? float32ToBfloat16 : float32ToFloat16;
    const step = dtype === "bfloat16" ? 1 << 15 : 1 << 12;
    const bits: number[] = [];
    // Every multiple of half a unit in the last place, and its neighbours, over the whole range.
    for (let base = 0; base < 2 ** 32; base += step) bits.push(base - 1, base, base + 1);
    for (let shift = 0; shift < 32; shift++) bits.push(2 ** shift, 2 ** shift - 1, 2 ** shift + 1);
    const patterns = Int32Array.from(bits);
    const out = narrow(patterns, dtype);
    let wrong = "";
    for (let i = 0; i < patterns.length && !wrong; i++) {
      wordBits[0] = patterns[i]!;
      const expected = convert(word[0]!);
      const bothNaN = isNaNBits(expected, dtype) && isNaNBits(out[i]!, dtype);
      if (!bothNaN && out[i] !== expected) {
        wrong = `${(patterns[i]! >>> 0).toString(16)} became ${out[i]!.toString(16)}, expected ${expected.toString(16)}`;
      }
    }
    expect(wrong).toBe("");
  });
});

describe("addRow", () => {
  it.each(["float32", "bfloat16", "float16"] as const)(
    "adds %s rows in float32, in order, from +0",
    (dtype) => {
      const element = fc.integer({ min: 0, max: 0xffff });
      fc.assert(
        fc.property(fc.array(fc.array(element, { minLength: 7, maxLength: 7 }), { maxLength: 5 }), (rows) => {
          clearSum(acc, 7);
          const expected = new Float32Array(7);
          for (const row of rows) {
            const values = widen(row, dtype);
            const data = dtype === "float32" ? values : Uint16Array.from(row);
            addRow(acc, data, 0, 7, dtype);
            for (const [i, value] of values.entries()) expected[i] = Math.fround(expected[i]! + value);
          }
          expect(acc.sum.subarray(0, 7)).toEqual(expected);
        }),
      );
    },
  );

  it("turns a single -0 into +0", () => {
    for (const [dtype, row] of [
      ["float32", Float32Array.of(-0)],
      ["bfloat16", Uint16Array.of(0x8000)],
      ["float16", Uint16Array.of(0x8000)],
    ] as const) {
      clearSum(acc, 1);
      addRow(acc, row, 0, 1, dtype);
      expect(Object.is(acc.sum[0], 0)).toBe(true);
    }
  });
});

function widen(row: readonly number[], dtype: CombineDType): Float32Array {
  return Float32Array.from(row, (bits) => {
    if (dtype === "float16") return float16ToFloat32(bits);
    wordBits[0] = bits << 16;
    return word[0]!;
  });
}

describe("fillNaN", () => {
  it("fills all elements", () => {
    const floats = new Float32Array(3);
    fillNaN(floats, "float32");
    expect([...floats]).toEqual([Number.NaN, Number.NaN, Number.NaN]);
    for (const dtype of ["bfloat16", "float16"] as const) {
      const halves = new Uint16Array(2);
      fillNaN(halves, dtype);
      expect([...halves].every((bits) => isNaNBits(bits, dtype))).toBe(true);
    }
  });
});

describe("copyBytes", () => {
  it.each([0, 1, 3, 16, 47, 48, 49, 200])("copies %i bytes and nothing else", (bytes) => {
    const source = Uint8Array.from({ length: 256 }, (_, i) => i);
    const target = new Uint8Array(300).fill(0xee);
    copyBytes(target, 11, source, 5, bytes);
    expect([...target.subarray(11, 11 + bytes)]).toEqual([...source.subarray(5, 5 + bytes)]);
    expect(target[10]).toBe(0xee);
    expect(target[11 + bytes]).toBe(0xee);
  });
});
