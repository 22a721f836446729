import { isMoeA2AError } from "@moe-a2a/core";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { chooseDpPaddingMode, runtimeMaxTokensPerRank, scatteredTokenCounts } from "../src/index.js";

const messageOf = (call: () => unknown): string => {
  try {
    call();
  } catch (e) {
    if (isMoeA2AError(e, "ERR_MOE_A2A_ARGUMENT")) return `${e.argument} | ${e.message}`;
    throw e;
  }
  return "no error";
};

describe("runtimeMaxTokensPerRank", () => {
  test.each([
    [[7], 1, 7],
    [[5, 0, 12, 3], 1, 12],
    [[5, 0, 13, 3], 4, 4],
    [[0, 0, 0], 2, 0],
    [[1, 0], 8, 1],
  ])("%j over %i attention-TP ranks: %i", (counts, attnTpSize, slots) => {
    expect(runtimeMaxTokensPerRank(counts, attnTpSize)).toBe(slots);
  });

  test("holds every scattered share", () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(10_000), { minLength: 1, maxLength: 16 }),
        fc.integer({ min: 1, max: 16 }),
        (counts, attnTpSize) => {
          const shares = counts.flatMap((tokens) => scatteredTokenCounts(tokens, attnTpSize));
          expect(runtimeMaxTokensPerRank(counts, attnTpSize)).toBe(Math.max(...shares));
        },
      ),
    );
  });

  test("refuses lists and sizes that make no sense", () => {
    expect(messageOf(() => runtimeMaxTokensPerRank([]))).toMatchInlineSnapshot(
      `"dpGlobalNumTokens | runtimeMaxTokensPerRank(): dpGlobalNumTokens is an array of 0; it must list the token count of every DP rank"`,
    );
    expect(messageOf(() => runtimeMaxTokensPerRank(5 as never))).toMatchInlineSnapshot(
      `"dpGlobalNumTokens | runtimeMaxTokensPerRank(): dpGlobalNumTokens is 5; it must list the token count of every DP rank"`,
    );
    expect(messageOf(() => runtimeMaxTokensPerRank([3, -1]))).toMatchInlineSnapshot(
      `"dpGlobalNumTokens[1] | runtimeMaxTokensPerRank(): dpGlobalNumTokens[1] is -1; it must be an integer >= 0"`,
    );
    expect(messageOf(() => runtimeMaxTokensPerRank([3, 1.5]))).toMatchInlineSnapshot(
      `"dpGlobalNumTokens[1] | runtimeMaxTokensPerRank(): dpGlobalNumTokens[1] is 1.5; it must be an integer >= 0"`,
    );
    expect(messageOf(() => runtimeMaxTokensPerRank([3], 0))).toMatchInlineSnapshot(
      `"attnTpSize | runtimeMaxTokensPerRank(): attnTpSize is 0; it must be an integer >= 1"`,
    );
  });
});

describe("scatteredTokenCounts", () => {
  test.each([
    [10, 4, [3, 3, 2, 2]],
    [3, 4, [1, 1, 1, 0]],
    [0, 3, [0, 0, 0]],
    [8, 1, [8]],
  ])("%i tokens over %i ranks: %j", (tokens, attnTpSize, shares) => {
    expect(scatteredTokenCounts(tokens, attnTpSize)).toEqual(shares);
  });

  test("refuses bad numbers", () => {
    expect(messageOf(() => scatteredTokenCounts(-1, 2))).toMatchInlineSnapshot(
      `"tokens | scatteredTokenCounts(): tokens is -1; it must be an integer >= 0"`,
    );
    expect(messageOf(() => scatteredTokenCounts(4, Number.NaN))).toMatchInlineSnapshot(
      `"attnTpSize | scatteredTokenCounts(): attnTpSize is NaN; it must be an integer from 1 to 65536"`,
    );
    expect(() => scatteredTokenCounts(1, Number.MAX_SAFE_INTEGER)).toThrow(/from 1 to 65536/);
  });
});

describe("chooseDpPaddingMode", () => {
  test.each([
    [[4, 4], true, "sumLen"],
    [[4, 4], false, "maxLen"],
    [[4, 0], false, "sumLen"],
    [[4, 1], false, "maxLen"],
    [[0, 0], false, "sumLen"],
  ] as const)("%j, extend %s: %s", (counts, extend, mode) => {
    expect(chooseDpPaddingMode(counts, extend)).toBe(mode);
  });

  test("refuses bad arguments", () => {
    expect(messageOf(() => chooseDpPaddingMode([], false))).toMatchInlineSnapshot(
      `"dpGlobalNumTokens | chooseDpPaddingMode(): dpGlobalNumTokens is an array of 0; it must list the token count of every DP rank"`,
    );
    const holes = Object.assign([1], { length: 2 ** 32 - 1 });
    expect(messageOf(() => chooseDpPaddingMode(holes, false))).toMatchInlineSnapshot(
      `"dpGlobalNumTokens[1] | chooseDpPaddingMode(): dpGlobalNumTokens[1] is undefined; it must be an integer >= 0"`,
    );
    expect(chooseDpPaddingMode(new Array(200_000).fill(1), false)).toBe("maxLen");
    expect(messageOf(() => chooseDpPaddingMode([1], 1 as never))).toMatchInlineSnapshot(
      `"isExtendInBatch | chooseDpPaddingMode(): isExtendInBatch is 1; it must be true or false"`,
    );
  });
});
