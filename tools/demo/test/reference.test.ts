import { describe, expect, it } from "vitest";
import { Experts } from "../src/model/experts.js";
import { OwnerSum, ReferenceMoe } from "../src/rank/reference.js";

describe("ReferenceMoe", () => {
  const shape = { layers: 1, hidden: 8, heads: 2, experts: 5, topK: 3, intermediate: 6 };
  const reference = new ReferenceMoe(shape, 3, new Experts(shape)); // owners: 0 0 1 1 2

  it.each([
    [
      [0, 2, 4],
      [0, 1, 2],
    ],
    [
      [4, 3, 0],
      [2, 1, 0],
    ],
    [
      [2, 1, 3],
      [1, 0],
    ],
    [[1, 0, 1], [0]],
  ])("experts %j are on ranks %j, each named once, first come first", (ids, owners) => {
    expect(reference.owners(Int32Array.from([9, ...ids]), 1)).toEqual(owners);
  });
});

describe("OwnerSum", () => {
  const sum = (...rows: number[]): number => {
    const total = new OwnerSum(1);
    total.add(Uint16Array.of(0x4000));
    total.clear();
    for (const row of rows) total.add(Uint16Array.of(row));
    const out = new Uint16Array(1);
    total.round(out);
    return out[0]!;
  };

  it("keeps what needs no rounding", () => {
    expect(sum(0xc0a8)).toBe(0xc0a8);
    expect(sum(0x3f80, 0x4000)).toBe(0x4040);
    expect(sum(0x0001)).toBe(0x0001);
  });

  it("rounds ties to even, and the rest to nearest", () => {
    expect(sum(0x3f80, 0x3b80)).toBe(0x3f80); // 1 + 2^-8
    expect(sum(0x3f81, 0x3b80)).toBe(0x3f82);
    expect(sum(0x3f80, 0x3b80, 0x3400)).toBe(0x3f81); // and 2^-23 more
  });

  it("adds in order, rounding each sum to float32", () => {
    expect(sum(0x3f80, 0x3300, 0x3300)).toBe(0x3f80);
    expect(sum(0x4b80, 0x3f80, 0xcb80)).toBe(0); // 2^24 + 1 - 2^24
    expect(sum(0x4b80, 0xcb80, 0x3f80)).toBe(0x3f80);
  });

  it("starts from +0 and overflows to infinity", () => {
    expect(sum(0x8000)).toBe(0);
    expect(sum(0x7f7f, 0x7f7f)).toBe(0x7f80);
    expect(sum(0x7f80, 0xff80)).toBe(0x7fc0);
  });
});
