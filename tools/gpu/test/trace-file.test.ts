import { describe, expect, it } from "vitest";
import { lookAtTrace } from "../src/usage/trace-file.js";
import { phase, traceText } from "./samples.js";

const combine = (over: object = {}) => phase({ name: "combine", ts: 20, ...over });

describe("a trace", () => {
  it("of phases that follow one another is good, rows apart", () => {
    const row = { ph: "M", pid: 0, tid: 0, name: "thread_name", args: { name: "rank 0" } };
    const other = phase({ tid: 2, ts: 5 });
    expect(lookAtTrace(traceText(row, phase(), other, combine(), phase({ ts: 30, dur: 14 })))).toEqual({
      wrong: [],
      figures: {
        rows: 2,
        phases: 4,
        dispatchUs: 10,
        combineUs: 10,
        queuedMs: 0.01,
        heardMs: 0.03,
        clockSteps: 0,
      },
    });
  });

  it.each([
    [
      "twice in a second",
      [phase({ ts: -10, dur: 11 }), phase(), combine({ ts: 8 })],
      "combine at 8 begins 2 µs before",
    ],
    [
      "with one before the last",
      [phase({ dur: 700 }), combine({ ts: 650 }), phase({ ts: 665 })],
      "35 µs before the end of dispatch at 0",
    ],
    ["for long", [phase({ dur: 600 }), combine()], "row 0: combine at 20 begins 580 µs before"],
  ])("fails with phases that overlap %s", (_, events, text) => {
    expect(lookAtTrace(traceText(...events)).wrong).toEqual([expect.stringContaining(text)]);
  });

  it("may have one small overlap a second, where the clocks were compared anew", () => {
    const later = [phase({ ts: 1_000_000 }), combine({ ts: 1_000_004 })];
    const { wrong, figures } = lookAtTrace(traceText(phase(), combine({ ts: 6 }), ...later));
    expect(wrong).toEqual([]);
    expect(figures.clockSteps).toBe(2);
  });

  it("fails with phases that have no device time, or have failed", () => {
    const failed = phase({ name: "dispatch failed", ts: 40, args: { error: "ERR_MOE_A2A_TIMEOUT" } });
    expect(lookAtTrace(traceText(phase(), combine(), failed)).wrong).toEqual([
      "1 of 3 phases have no device time, dispatch failed (ERR_MOE_A2A_TIMEOUT) in row 0 first",
    ]);
    expect(lookAtTrace(traceText(phase())).wrong).toEqual([
      "the trace holds no combine with its device time",
    ]);
    expect(lookAtTrace("[\n").wrong).toHaveLength(2);
  });

  it("fails where it cannot be read", () => {
    expect(lookAtTrace('[\n{"ph": "X", "na').wrong).toEqual([expect.stringContaining("cannot be read")]);
  });
});
