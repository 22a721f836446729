import { describe, expect, it } from "vitest";
import { abortedError, disagreementError, expertIdError, reasonText, shortReason } from "../src/index.js";

describe("a reason of abort()", () => {
  it("becomes text, whatever it is", () => {
    const circular: { self?: unknown } = {};
    circular.self = circular;
    expect(reasonText(undefined)).toBe("");
    expect(reasonText(new Error("why"))).toBe("why");
    expect(reasonText({ a: 1 })).toBe('{"a":1}');
    expect(reasonText(7n)).toBe("7");
    expect(reasonText(circular)).toBe("a reason that cannot be told as text");
  });

  it("is cut for the others, between characters", () => {
    expect(shortReason("x".repeat(600))).toBe("x".repeat(500));
    expect(shortReason(`${"x".repeat(499)}😀`)).toBe("x".repeat(499));
  });

  it("stays the very value on the rank that called", () => {
    const reason = new Error("why");
    expect(abortedError(2, reason)).toMatchObject({
      code: "ERR_MOE_A2A_ABORTED",
      rank: 2,
      reason,
      cause: reason,
    });
    expect(abortedError(2, undefined)).not.toHaveProperty("cause");
  });
});

describe("errors of rounds", () => {
  it("name the entry of a bad expert id, and the range", () => {
    expect(expertIdError({ numExperts: 8 }, { rank: 1, token: 2, k: 3, id: 9 })).toMatchObject({
      code: "ERR_MOE_A2A_EXPERT_ID",
      rank: 1,
      token: 2,
      k: 3,
      id: 9,
      message: expect.stringContaining("rank 1: tokenSelectedExperts[2, 3] is 9; expert ids are 0…7"),
    });
  });

  it("list every rank's value, but for ranks that said nothing", () => {
    const values = [4, undefined, 8];
    expect(disagreementError(0, "dispatch of round 5", "payloadCount", values)).toMatchObject({
      code: "ERR_MOE_A2A_MISMATCH",
      field: "payloadCount",
      values,
      message: expect.stringContaining("disagree on payloadCount (rank 0: 4, rank 2: 8)"),
    });
  });
});
