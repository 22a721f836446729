import { describe, expect, it } from "vitest";
import { checkReport } from "../src/check.js";
import { allPassed, mergeReports, parseReport } from "../src/report.js";
import { formatReport } from "../src/summary.js";
import { gpuRun, report, step } from "./samples.js";

describe("reading a report", () => {
  it("takes what was written", () => {
    expect(parseReport(JSON.stringify(report()), "file")).toEqual(report());
  });

  it("refuses other schemas and other files", () => {
    expect(() => parseReport('{"schema": 99}', "old.json")).toThrow(
      "old.json is no report of schema 1: its schema is 99",
    );
    expect(() => parseReport("null", "old.json")).toThrow("old.json");
    expect(() => parseReport('{"schema": 1}', "old.json")).toThrow("lacks runs or sources");
  });
});

describe("merging reports", () => {
  const early = report({ runs: [gpuRun(4)] });
  const late = report({ revision: "def456", runs: [gpuRun(2, { date: "2026-11-21T10:00:00.000Z" })] });

  it("puts the runs in order, each once", () => {
    const merged = mergeReports([late, early, late]);
    expect(merged.runs.map((run) => run.machine.gpus.length)).toEqual([4, 2]);
    expect(merged.revision).toBe("def456, abc123");
    expect(mergeReports([merged, early]).runs).toEqual(merged.runs);
  });

  it("keeps the last of a step that was run again on as many GPUs", () => {
    const again = report({
      runs: [gpuRun(4, { date: "2026-11-22T10:00:00.000Z", steps: [step("probe", { seconds: 99 })] })],
    });
    const [first, second] = mergeReports([again, early]).runs;
    expect(first!.steps.map(({ name }) => name)).not.toContain("probe");
    expect(second!.steps.map(({ name, seconds }) => [name, seconds])).toEqual([["probe", 99]]);
    expect(mergeReports([again, late]).runs.map((run) => run.steps.length)).toEqual([
      late.runs[0]!.steps.length,
      1,
    ]);
  });

  it("refuses runs of other sources", () => {
    const other = report({ sources: { hash: "fedcba9876543210", files: 40 } });
    expect(() => mergeReports([early, other])).toThrow("different sources: 0123456789ab and fedcba987654");
    expect(() => mergeReports([])).toThrow("no report");
  });
});

describe("checking a report", () => {
  const sources = report().sources;
  const names = ["probe", "conformance-local", "soak"];

  it("says what was covered and that it is current", () => {
    const { ok, text } = checkReport(report(), sources, names);
    expect(ok).toBe(true);
    expect(text).toMatchInlineSnapshot(`
      "sources 0123456789ab (40 files), commit abc123
      2026-11-20  4 × NVIDIA H200, driver 580.159.04, Node v20.20.2
        passed  probe (12 s)
        passed  conformance-local (12 s, 340 passed, 0 failed, 2 left out)
      Not covered: soak.
      CURRENT: the sources are those of the report."
    `);
  });

  it("fails without a report, with changed sources, with a step that failed, and where nothing ran", () => {
    expect(checkReport(undefined, sources, names)).toMatchObject({
      ok: false,
      text: expect.stringContaining("gpu:bundle"),
    });
    expect(checkReport(report(), { hash: "ffff", files: 41 }, names)).toMatchObject({
      ok: false,
      text: expect.stringContaining("STALE: the sources are ffff (41 files) now"),
    });
    const failed = report({
      runs: [gpuRun(4, { steps: [step("soak", { status: "timeout", detail: "a\nlate" })] })],
    });
    expect(checkReport(failed, sources, names)).toMatchObject({
      ok: false,
      text: expect.stringContaining("timeout soak (12 s): late"),
    });
    expect(allPassed(report({ runs: [gpuRun(0, { steps: [step("soak", { status: "skipped" })] })] }))).toBe(
      false,
    );
  });

  it("names GPUs of several kinds", () => {
    const [first] = report().runs;
    const mixed = {
      ...first!.machine,
      gpus: [...first!.machine.gpus, { name: "NVIDIA H100", memoryMiB: 81_559 }],
    };
    expect(formatReport(report({ runs: [{ ...first!, machine: mixed }] }))).toContain(
      "4 × NVIDIA H200, 1 × NVIDIA H100",
    );
  });
});
