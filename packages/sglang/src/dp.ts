import { describe } from "@moe-a2a/core";
import { argumentError, checkInteger } from "./check.js";

/** How SGLang pads the batches of data-parallel attention: each to the longest, or all to their sum. */
export type DpPaddingMode = "maxLen" | "sumLen";

/** More ranks than any group has; the result is a list of so many. */
const MAX_SHARES = 2 ** 16;

/** Not by spreading, as a call takes only so many arguments. */
const largest = (counts: readonly number[]): number => counts.reduce((a, b) => Math.max(a, b), 0);

/** The counts, each read and checked once. */
function checkTokenCounts(where: string, given: readonly number[]): number[] {
  if (!Array.isArray(given) || given.length === 0) {
    throw argumentError(
      "dpGlobalNumTokens",
      `${where}: dpGlobalNumTokens is ${describe(given)}; it must list the token count of every DP rank`,
    );
  }
  const counts: number[] = [];
  // By index, as forEach() leaves out holes.
  for (let i = 0; i < given.length; i++)
    counts.push(checkInteger(where, `dpGlobalNumTokens[${i}]`, given[i], 0));
  return counts;
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
  const counts = checkTokenCounts(where, dpGlobalNumTokens);
  checkInteger(where, "attnTpSize", attnTpSize, 1);
  return Math.ceil(largest(counts) / attnTpSize);
}

/**
 * How many of a DP batch's tokens each of its attention-TP ranks takes: the first `tokens mod attnTpSize` take one more.
 *
 * @throws ERR_MOE_A2A_ARGUMENT
 */
export function scatteredTokenCounts(tokens: number, attnTpSize: number): number[] {
  const where = "scatteredTokenCounts()";
  checkInteger(where, "tokens", tokens, 0);
  checkInteger(where, "attnTpSize", attnTpSize, 1, MAX_SHARES);
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
  const counts = checkTokenCounts(where, dpGlobalNumTokens);
  if (typeof isExtendInBatch !== "boolean") {
    throw argumentError(
      "isExtendInBatch",
      `${where}: isExtendInBatch is ${describe(isExtendInBatch)}; it must be true or false`,
    );
  }
  if (isExtendInBatch) return "sumLen";
  const sum = counts.reduce((a, b) => a + b, 0);
  return sum * 2 > largest(counts) * counts.length ? "maxLen" : "sumLen";
}
