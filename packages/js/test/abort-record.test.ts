import {
  checkConfig,
  fromVerdict,
  layoutWorkspace,
  MoeA2AError,
  missingError,
  toVerdict,
  type Verdict,
} from "@moe-a2a/core";
import { describe, expect, it } from "vitest";
import {
  clearAbortRecords,
  encodeVerdict,
  phaseNumber,
  readAbortRecord,
  storeAbortRecord,
} from "../src/abort-record.js";
import { ControlWords, Window } from "../src/memory.js";
import { hasReached, wireRound } from "../src/round-number.js";
import { smallConfig } from "./world.js";

const layout = layoutWorkspace(checkConfig(smallConfig(64)));
const control = new ControlWords(layout);
const all = Array.from({ length: 64 }, (_, r) => r);

function through(error: MoeA2AError, source = 5) {
  const window = new Window(new ArrayBuffer(layout.windowBytes));
  const record = { verdict: encodeVerdict(error), generation: 3, completed: [7, -8] };
  storeAbortRecord(window, layout, control, source, record);
  return { window, record: readAbortRecord(window, layout, control, all, 3) };
}

describe("abort record", () => {
  it("carries a missing rank, high ones too, and a round beyond 32 bits", () => {
    const missingRanks = [0, 31, 32, 63];
    const round = 2 ** 40 + 5;
    const error = missingError({
      phase: "combine",
      round,
      missingRanks,
      kind: "lost",
      timeoutMs: 100,
      rank: 5,
      where: `combine of round ${round}`,
    });
    const { record } = through(error);
    expect(record?.error).toMatchObject({
      code: "ERR_MOE_A2A_PEER_TIMEOUT",
      phase: "combine",
      round,
      missingRanks,
      kind: "lost",
      message: expect.stringMatching(/ranks 0, 31, 32, 63 ended without closing.*\(as rank 5 found\)/),
    });
    expect(record?.completed).toEqual([7, -8]);
  });

  it("carries the reason of an abort, cut at whole characters", () => {
    const abort = (reason: unknown) =>
      through(new MoeA2AError("ERR_MOE_A2A_ABORTED", "m", { rank: 5, reason })).record?.error.reason;
    expect(abort("out of memory")).toBe("out of memory");
    expect(abort(undefined)).toBeUndefined();
    expect(abort(new Error("inner"))).toBe("inner");
    const long = abort("é".repeat(1000)) as string;
    expect(long).toBe("é".repeat(500));
    expect(abort(`x${"😀".repeat(400)}`)).toBe(`x${"😀".repeat(249)}`);
  });

  it("carries every rank's value of a disagreement, as far as there is room", () => {
    const mismatch = (values: unknown[]) =>
      new MoeA2AError("ERR_MOE_A2A_MISMATCH", "they differ".repeat(100), { field: "rowBytes", values });
    const values = all.map((rank) => (rank === 7 ? undefined : [rank, 14336, 32]));
    expect(through(mismatch(values)).record?.error).toMatchObject({ field: "rowBytes", values });
    const many = all.map(() => new Array(8).fill(2 ** 31 - 1));
    expect(through(mismatch(many)).record?.error).toMatchObject({
      code: "ERR_MOE_A2A_MISMATCH",
      field: "rowBytes",
      values: [],
    });
  });

  it("is not seen by another generation, nor after it was cleared", () => {
    const { window, record } = through(new MoeA2AError("ERR_MOE_A2A_ABORTED", "m", { rank: 5, reason: "r" }));
    expect(record?.error.rank).toBe(5);
    expect(readAbortRecord(window, layout, control, all, 4)).toBeUndefined();
    expect(readAbortRecord(window, layout, control, [1, 2], 3)).toBeUndefined();
    clearAbortRecords(window, layout, control, 64);
    expect(readAbortRecord(window, layout, control, all, 3)).toBeUndefined();
  });
});

describe("verdicts", () => {
  it("survive cloning, and name who found them once", () => {
    const error = new MoeA2AError("ERR_MOE_A2A_MISMATCH", "they differ", {
      field: "f",
      values: [1, undefined, [2]],
    });
    const verdict = structuredClone(toVerdict(error)) as Verdict;
    const again = fromVerdict(toVerdict(fromVerdict(verdict, 2)), 3);
    expect(again).toMatchObject({ code: error.code, field: "f", values: [1, undefined, [2]] });
    expect(again.message).toBe("they differ (as rank 2 found)");
  });
});

describe("round numbers", () => {
  it("are ordered across the 32-bit wrap", () => {
    for (const round of [0, 1, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 40]) {
      expect(hasReached(wireRound(round), round)).toBe(true);
      expect(hasReached(wireRound(round + 1), round)).toBe(true);
      expect(hasReached(wireRound(round - 1), round)).toBe(false);
      expect((phaseNumber(round, "combine") - phaseNumber(round, "dispatch")) | 0).toBe(1);
      expect((phaseNumber(round + 1, "dispatch") - phaseNumber(round, "combine")) | 0).toBe(1);
    }
  });
});
