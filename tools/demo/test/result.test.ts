import { describe, expect, it } from "vitest";
import type { RankSummary } from "../src/rank/protocol.js";
import { addUp, answersChecksum, verdictLine } from "../src/run/result.js";

const summary = (rank: number, part: Partial<RankSummary> = {}): RankSummary => ({
  rank,
  steps: 9,
  zeroTokenSteps: rank,
  tokens: 10,
  compared: 100,
  mismatches: 0,
  firstMismatch: undefined,
  ...part,
});
const answers = new Map([
  [1, Int32Array.of(3, 4)],
  [0, Int32Array.of(5)],
]);

describe("addUp and verdictLine", () => {
  it("sums the ranks up", () => {
    const result = addUp([summary(0), summary(1), summary(2)], answers, 2, "js");
    expect(result).toMatchObject({ tokens: 30, compared: 300, firstMismatch: undefined });
    expect(verdictLine(result)).toBe("OK requests=2 steps=9 zeroTokenRankSteps=3 mismatches=0 backend=js");
  });

  it("fails on a mismatch on any rank", () => {
    const bad = summary(1, { mismatches: 2, firstMismatch: "rank 1: wrong" });
    const result = addUp([summary(0), bad], answers, 2, "js");
    expect(verdictLine(result)).toBe("FAIL requests=2 steps=9 zeroTokenRankSteps=1 mismatches=2 backend=js");
    expect(result.firstMismatch).toBe("rank 1: wrong");
  });

  it("refuses ranks that ran different steps, and missing answers", () => {
    expect(() => addUp([summary(0), summary(1, { steps: 8 })], answers, 2, "js")).toThrow("9, 8");
    expect(() => addUp([summary(0)], answers, 3, "js")).toThrow("2 of 3 requests were answered");
  });
});

describe("answersChecksum", () => {
  it("depends on the tokens, not on who was done first", () => {
    expect(answersChecksum(new Map([...answers].reverse()))).toBe(answersChecksum(answers));
    expect(answersChecksum(answers)).toMatch(/^[\da-f]{16}$/);
    expect(answersChecksum(new Map([...answers, [1, Int32Array.of(4, 3)]]))).not.toBe(
      answersChecksum(answers),
    );
  });
});
