import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { collect, type Figures } from "../src/figures/collect.js";
import { withTables } from "../src/figures/tables.js";

const read = (path: string): string =>
  readFileSync(new URL(`../../../docs/${path}`, import.meta.url), "utf8");
const figures = JSON.parse(read("figures/robustness.json")) as Figures;

describe("the figures that are kept", () => {
  it("are those of the docs", () => {
    const page = read("faults.md");
    expect(withTables(page, figures)).toBe(page);
  });

  it("are of GPUs, too, where every fault was played in every kind of group that can have it", () => {
    const { groups } = figures.gpuFaults!;
    expect(Object.keys(groups)).toEqual(["local", "threads", "processes"]);
    for (const [kind, { faults }] of Object.entries(groups)) {
      expect(faults.map(({ fault }) => fault)).toEqual(
        figures.faults![kind]!.faults.map(({ fault }) => fault),
      );
      expect(faults.filter(({ failed }) => failed > 0)).toEqual([]);
    }
  });

  it("are of long runs, in which nothing failed", () => {
    const { faults, soak, gpuSoak, surface, frames, strangers, native } = figures;
    for (const kind of ["local", "threads", "processes"]) {
      const found = faults![kind]!.faults;
      expect(found.reduce((sum, { scenarios }) => sum + scenarios, 0)).toBeGreaterThanOrEqual(1000);
      expect(found.filter(({ failed }) => failed > 0)).toEqual([]);
    }
    for (const kind of ["threads", "processes"]) {
      const { rounds, cycles, failed } = soak![kind]!;
      expect([rounds >= 200_000, cycles >= 2_000, failed]).toEqual([true, true, 0]);
    }
    expect([gpuSoak!.rounds >= 1_000_000, gpuSoak!.replays >= 20_000, gpuSoak!.failed]).toEqual([
      true,
      true,
      0,
    ]);
    expect(surface!.cases).toBeGreaterThanOrEqual(50_000);
    expect(frames!.frames).toBeGreaterThanOrEqual(10 ** 7);
    expect(strangers!.connections).toBeGreaterThanOrEqual(1000);
    expect([surface, frames, strangers, native].map((run) => run!.failed)).toEqual([0, 0, 0, 0]);
  });
});

describe("collecting figures", () => {
  const memory = (rss: number) => ({ rss, heap: 1, descriptors: 2, handles: 3, backend: 4 });
  const rank = (...rss: readonly number[]) => ({
    rounds: { rounds: 10, verified: 1 },
    cycles: 0,
    memory: rss.map(memory),
  });

  it("keeps the process that has grown most, and other runs", () => {
    const ranks = [rank(50, 60), rank(10, 40, 30), rank()];
    const run = { tool: "soak", group: "processes", seed: 1, seconds: 2, failed: 0, ranks };
    const { soak, surface } = collect({ surface: { tool: "surface", cases: 1 } }, run, "abc");
    expect(soak!.processes!.memory.map(({ rss }) => rss)).toEqual([10, 40, 30]);
    expect(soak!.processes).toMatchObject({ commit: "abc", ranks: 3, rounds: 10 });
    expect(surface).toEqual({ tool: "surface", cases: 1 });
  });

  it("takes faults and soak of a GPU report", () => {
    const faults = [
      { fault: "aborts", timeLimitMs: 1, scenarios: 2, failed: 0, told: 2, medianMs: 0.123, mostMs: 1 },
    ];
    const step = (status: string) => ({
      name: "faults",
      status,
      figures: [{ group: "local", seconds: 1.04, faults }],
    });
    const machine = { gpus: [{ name: "H200" }, { name: "H200" }] };
    const ranks = [{ ...rank(1, 2), replays: { replays: 7 } }];
    const soak = { group: "threads", seed: 1, seconds: 2, failed: 0, ranks };
    const report = {
      revision: "abc",
      runs: [
        {
          machine: { gpus: [{ name: "H100" }] },
          steps: [{ name: "soak", status: "passed", figures: soak }],
        },
        { machine, steps: [step("passed")] },
        { machine, steps: [] },
      ],
    };
    const { gpuFaults, gpuSoak } = collect({}, report, "def");
    expect(gpuSoak).toMatchObject({
      gpus: "1 × H100",
      group: "threads",
      commit: "abc",
      rounds: 10,
      replays: 7,
    });
    expect(gpuFaults).toEqual({
      gpus: "2 × H200",
      groups: { local: { commit: "abc", seconds: 1, faults: [{ ...faults[0], medianMs: 0.1 }] } },
    });
    const failed = { ...report, runs: [{ machine, steps: [step("failed")] }] };
    expect(() => collect({}, failed, "def")).toThrow("no run of faults that passed");
  });

  it("refuses what is of no tool, and a page without places", () => {
    expect(() => collect({}, { tool: "bench" }, "abc")).toThrow('"bench" is no tool');
    expect(() => withTables("nothing", {})).toThrow('no place for the table "runs"');
  });
});
