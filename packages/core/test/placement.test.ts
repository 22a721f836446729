import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { expertOwner, expertRange } from "../src/placement.js";

describe("placement", () => {
  it("gives one more expert to each of the first E mod R ranks", () => {
    const ranges = (epSize: number, numExperts: number) =>
      Array.from({ length: epSize }, (_, r) => Object.values(expertRange({ epSize, numExperts }, r)));
    expect(ranges(4, 8)).toEqual([
      [0, 2],
      [2, 4],
      [4, 6],
      [6, 8],
    ]);
    expect(ranges(4, 6)).toEqual([
      [0, 2],
      [2, 4],
      [4, 5],
      [5, 6],
    ]);
    expect(ranges(5, 8)).toEqual([
      [0, 2],
      [2, 4],
      [4, 6],
      [6, 7],
      [7, 8],
    ]);
    expect(ranges(3, 10)).toEqual([
      [0, 4],
      [4, 7],
      [7, 10],
    ]);
    expect(ranges(1, 1)).toEqual([[0, 1]]);
  });

  it("covers every expert once, in order, with ceil(E/R) or floor(E/R) each, and knows each owner", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 64 }), fc.nat({ max: 500 }), (epSize, more) => {
        const placement = { epSize, numExperts: epSize + more };
        let next = 0;
        for (let rank = 0; rank < epSize; rank++) {
          const { start, end } = expertRange(placement, rank);
          expect(start).toBe(next);
          const size = rank < placement.numExperts % epSize ? Math.ceil : Math.floor;
          expect(end - start).toBe(size(placement.numExperts / epSize));
          const owners = Array.from({ length: end - start }, (_, i) => expertOwner(placement, start + i));
          expect(owners.every((owner) => owner === rank)).toBe(true);
          next = end;
        }
        expect(next).toBe(placement.numExperts);
      }),
    );
  });

  it("is exact for as many experts as int32 ids can name", () => {
    const placement = { epSize: 7, numExperts: 2 ** 31 - 1 };
    expect(expertOwner(placement, 2 ** 31 - 2)).toBe(6);
    const { start, end } = expertRange(placement, 3);
    expect([expertOwner(placement, start - 1), expertOwner(placement, start)]).toEqual([2, 3]);
    expect([expertOwner(placement, end - 1), expertOwner(placement, end)]).toEqual([3, 4]);
  });
});
