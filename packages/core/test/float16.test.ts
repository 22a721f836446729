import { describe, expect, it } from "vitest";
import {
  BFLOAT16_NAN,
  bfloat16ToFloat32,
  FLOAT16_NAN,
  float16ToFloat32,
  float32ToBfloat16,
  float32ToFloat16,
  fromFloat32,
  toFloat32,
} from "../src/float16.js";

const f32 = new Float32Array(1);
const u32 = new Uint32Array(f32.buffer);

function fromBits(bits: number): number {
  u32[0] = bits;
  return f32[0]!;
}
function toBits(x: number): number {
  f32[0] = x;
  return u32[0]!;
}
/** The float32 next to `x` in the direction of larger (1) or smaller (-1) magnitude. */
const step = (x: number, by: 1 | -1): number => fromBits(toBits(x) + by);

/** 32 seeded bits per call (mulberry32). */
function randomBits(seed: number): () => number {
  let a = seed;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), a | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  };
}

/**
 * IEEE 754 by its definition, in arithmetic that is exact on doubles: what magnitude a pattern stands for. The pattern
 * of Infinity stands for the number that would follow the largest finite one, where overflow begins to round.
 */
function magnitudeOf(pattern: number, exponentBits: number, mantissaBits: number): number {
  const bias = 2 ** (exponentBits - 1) - 1;
  const exponent = pattern >>> mantissaBits;
  const mantissa = pattern & (2 ** mantissaBits - 1);
  return exponent === 0
    ? mantissa * 2 ** (1 - bias - mantissaBits)
    : (1 + mantissa / 2 ** mantissaBits) * 2 ** (exponent - bias);
}

const formats = [
  {
    name: "bfloat16",
    exponentBits: 8,
    mantissaBits: 7,
    narrow: float32ToBfloat16,
    widen: bfloat16ToFloat32,
    nan: BFLOAT16_NAN,
    infinity: 0x7f80,
  },
  {
    name: "float16",
    exponentBits: 5,
    mantissaBits: 10,
    narrow: float32ToFloat16,
    widen: float16ToFloat32,
    nan: FLOAT16_NAN,
    infinity: 0x7c00,
  },
] as const;

describe.each(formats)("$name", ({ exponentBits, mantissaBits, narrow, widen, nan, infinity }) => {
  const magnitudes = Array.from({ length: infinity + 1 }, (_, p) =>
    magnitudeOf(p, exponentBits, mantissaBits),
  );

  /** The nearest pattern by search: the reference, which shares nothing with the conversion but the definition. */
  function nearest(x: number): number {
    if (Number.isNaN(x)) return nan;
    const sign = Object.is(x, -0) || x < 0 ? 0x8000 : 0;
    const target = Math.abs(x);
    if (target >= magnitudes[infinity]!) return sign | infinity;
    let low = 0;
    let high: number = infinity;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (magnitudes[middle]! <= target) low = middle;
      else high = middle;
    }
    const below = target - magnitudes[low]!;
    const above = magnitudes[high]! - target;
    if (below !== above) return sign | (below < above ? low : high);
    return sign | (low % 2 === 0 ? low : high);
  }

  it("widens all 65,536 patterns to what the format defines, and narrows them back", () => {
    const wrong: string[] = [];
    for (let h = 0; h < 0x10000; h++) {
      const x = widen(h);
      const magnitude = h & 0x7fff;
      const expected =
        magnitude > infinity ? Number.NaN : magnitude === infinity ? Infinity : magnitudes[magnitude]!;
      if (!Object.is(x, h & 0x8000 ? -expected : expected)) wrong.push(`${h.toString(16)} widens to ${x}`);
      if (narrow(x) !== (magnitude > infinity ? nan : h)) wrong.push(`${h.toString(16)} comes back changed`);
    }
    expect(wrong).toEqual([]);
  });

  it("rounds to nearest even at and around the midpoint of every pair of neighbours", () => {
    const wrong: string[] = [];
    for (let p = 0; p < infinity; p++) {
      // Exact in float32: both formats leave float32 at least one more bit, also among the subnormals.
      const midpoint = (magnitudes[p]! + magnitudes[p + 1]!) / 2;
      if (Math.fround(midpoint) !== midpoint) wrong.push(`midpoint above ${p.toString(16)} is no float32`);
      const even = p % 2 === 0 ? p : p + 1;
      for (const sign of [0, 0x8000]) {
        const signed = sign ? -midpoint : midpoint;
        if (narrow(signed) !== (sign | even)) wrong.push(`tie above ${(sign | p).toString(16)}`);
        if (narrow(step(signed, -1)) !== (sign | p))
          wrong.push(`just below a tie, ${(sign | p).toString(16)}`);
        if (narrow(step(signed, 1)) !== (sign | (p + 1))) {
          wrong.push(`just above a tie, ${(sign | p).toString(16)}`);
        }
      }
    }
    expect(wrong).toEqual([]);
  });

  it("agrees with a search for the nearest pattern on random float32 bits", () => {
    const random = randomBits(mantissaBits);
    const wrong: string[] = [];
    for (let i = 0; i < 300_000; i++) {
      // Every other one moved into the exponents where the narrow format has its subnormals and its end.
      const raw = random();
      const x = fromBits(i % 2 ? raw : (raw & 0x807fffff) | ((100 + (raw % 45)) << 23));
      if (narrow(x) !== nearest(x)) wrong.push(`${x}: ${narrow(x)} instead of ${nearest(x)}`);
    }
    expect(wrong).toEqual([]);
  });

  it("overflows to Infinity without saturating, keeps -0, makes every NaN the canonical one", () => {
    const largest = magnitudes[infinity - 1]!;
    const overflow = (largest + magnitudes[infinity]!) / 2;
    expect(narrow(largest)).toBe(infinity - 1);
    expect(narrow(step(overflow, -1))).toBe(infinity - 1);
    expect(narrow(overflow)).toBe(infinity);
    expect(narrow(-overflow)).toBe(0x8000 | infinity);
    expect(narrow(3.4028234663852886e38)).toBe(infinity);
    expect(narrow(Infinity)).toBe(infinity);
    expect(narrow(-Infinity)).toBe(0x8000 | infinity);
    expect(narrow(0)).toBe(0);
    expect(narrow(-0)).toBe(0x8000);
    for (const bits of [0x7fc00000, 0xffc00000, 0x7f800001, 0xff800001, 0x7fffffff]) {
      expect(narrow(fromBits(bits))).toBe(nan);
    }
  });

  it("underflows below half the smallest subnormal to a zero of the same sign", () => {
    const smallest = magnitudes[1]!;
    expect(narrow(smallest)).toBe(1);
    expect(narrow(smallest / 2)).toBe(0);
    expect(narrow(-smallest / 2)).toBe(0x8000);
    expect(narrow(step(smallest / 2, 1))).toBe(1);
    expect(narrow(fromBits(1))).toBe(0);
    expect(narrow(fromBits(0x80000001))).toBe(0x8000);
  });

  it("rounds doubles to float32 first", () => {
    // Just above the tie between 1 and its successor as a double, the tie itself as a float32.
    const tie = 1 + 2 ** -(mantissaBits + 1);
    expect(narrow(tie + 2 ** -40)).toBe(narrow(tie));
    expect(narrow(1e39)).toBe(infinity);
  });
});

describe("arrays", () => {
  it("widen and narrow element by element, into a new array or a given one", () => {
    const values = Float32Array.of(1, -0, 65519.996, 65520, 2 ** -25, 1.0009765625, Number.NaN);
    const half = fromFloat32("float16", values);
    expect([...half]).toEqual([0x3c00, 0x8000, 0x7bff, 0x7c00, 0, 0x3c01, FLOAT16_NAN]);
    expect([...toFloat32("float16", half)]).toEqual([1, -0, 65504, Infinity, 0, 1.0009765625, Number.NaN]);

    const brain = new Uint16Array(values.length);
    expect(fromFloat32("bfloat16", values, brain)).toBe(brain);
    expect([...brain]).toEqual([...values].map(float32ToBfloat16));
    const wide = new Float32Array(values.length);
    expect(toFloat32("bfloat16", brain, wide)).toBe(wide);
    expect([...wide]).toEqual([...brain].map(bfloat16ToFloat32));
  });

  it("copy float32", () => {
    const values = Float32Array.of(1.5, -0, Number.NaN);
    const copy = fromFloat32("float32", values);
    expect(copy).not.toBe(values);
    expect([...copy]).toEqual([1.5, -0, Number.NaN]);
    expect([...toFloat32("float32", copy)]).toEqual([1.5, -0, Number.NaN]);
  });
});
