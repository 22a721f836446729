import { describe, expect, it } from "vitest";
import { fitLine, short, spread } from "../src/stats.js";

describe("spread", () => {
  it("takes the middle of what was measured", () => {
    expect(spread([5, 1, 3])).toEqual({ median: 3, least: 1, most: 5, samples: 3 });
    expect(spread([4, 1, 3, 2]).median).toBe(2.5);
  });
});

describe("fitLine", () => {
  it("finds a line", () => {
    const { slope, intercept, r2 } = fitLine([
      [0, 1],
      [1, 3],
      [2, 5],
    ]);
    expect(slope).toBeCloseTo(2);
    expect(intercept).toBeCloseTo(1);
    expect(r2).toBeCloseTo(1);
  });

  it("says where points are on none", () => {
    const r2 = fitLine([
      [0, 0],
      [1, 5],
      [2, 0],
    ]).r2;
    expect(r2).toBeLessThan(0.1);
  });
});

describe("short", () => {
  it("keeps three digits", () => {
    expect([short(1234.5), short(0.012345), short(7)]).toEqual(["1230", "0.0123", "7"]);
  });
});
