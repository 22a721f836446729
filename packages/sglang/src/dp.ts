import { describe } from "@moe-a2a/core";
import { argumentError, checkInteger } from "./check.js";

/** How SGLang pads the batches of data-parallel attention: each to the longest, or all to their sum. */
export type DpPaddingMode = "maxLen" | "sumLen";

function checkTokenCounts(where: string, counts: readonly number[]): void {
  if (!Array.isArray(counts) || counts.length === 0) {
    throw argumentError(
      "dpGlobalNumTokens",
      `${where}: dpGlobalNumTokens is ${describe(counts)}; it must list the token count of every DP rank`,
    );
  }
  counts.forEach((count, i) => {
    checkInteger(where, `dpGlobalNumTokens[${i}]`, count, 0);
  });
}

/**
 * Slots per sender that this step needs, the same on every rank: the largest DP batch, shared out over the
 * attention-TP ranks that scatter it. 0 where every batch is empty.
 *
 * @throws ERR_MOE_A2A_ARGUMENT for an empty list, and for counts that are not integers >= 0
 */
export function runtimeMaxTokensPerRank(dpGlobalNumTokens: readonly number[], attnTpSize = 1): number {
  return slotsFromCounts("runtimeMaxTokensPerRank()", dpGlobalNumTokens, attnTpSize);
}

/** `runtimeMaxTokensPerRank()` on behalf of `where`. */
export function slotsFromCounts(
  where: string,
  dpGlobalNumTokens: readonly number[],
  attnTpSize: number,
): number {
  checkTokenCounts(where, dpGlobalNumTokens);
  checkInteger(where, "attnTpSize", attnTpSize, 1);
  return Math.ceil(Math.max(...dpGlobalNumTokens) / attnTpSize);
}

/**
 * How many of a DP batch's tokens each of its attention-TP ranks takes: the first `tokens mod attnTpSize` take one more.
 *
 * @throws ERR_MOE_A2A_ARGUMENT
 */
export function scatteredTokenCounts(tokens: number, attnTpSize: number): number[] {
  const where = "scatteredTokenCounts()";
  checkInteger(where, "tokens", tokens, 0);
  checkInteger(where, "attnTpSize", attnTpSize, 1);
  const base = Math.floor(tokens / attnTpSize);
  return Array.from({ length: attnTpSize }, (_, i) => base + (i < tokens % attnTpSize ? 1 : 0));
}

/**
 * The padding that moves fewer bytes, chosen as SGLang does: `sumLen` in a step that extends (prefills), otherwise `maxLen`
 * where the batches together fill more than half of the padded whole.
 *
 * @throws ERR_MOE_A2A_ARGUMENT
 */
export function chooseDpPaddingMode(
  dpGlobalNumTokens: readonly number[],
  isExtendInBatch: boolean,
): DpPaddingMode {
  const where = "chooseDpPaddingMode()";
  checkTokenCounts(where, dpGlobalNumTokens);
  if (typeof isExtendInBatch !== "boolean") {
    throw argumentError(
      "isExtendInBatch",
      `${where}: isExtendInBatch is ${describe(isExtendInBatch)}; it must be true or false`,
    );
  }
  if (isExtendInBatch) return "sumLen";
  const sum = dpGlobalNumTokens.reduce((a, b) => a + b, 0);
  return sum * 2 > Math.max(...dpGlobalNumTokens) * dpGlobalNumTokens.length ? "maxLen" : "sumLen";
}
