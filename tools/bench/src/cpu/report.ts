import { availableParallelism, cpus } from "node:os";
import { short } from "../stats.js";
import type { CopyFigures } from "./copy.js";
import { type Curve, measureCurves } from "./curves.js";
import { measureIdle } from "./idle.js";
import { type Plan, QUICK } from "./plan.js";
import { measureSum } from "./sum.js";
import { onThreads } from "./threads.js";

const ROW_BYTES = [1024, 2048, 4096, 8192, 16384] as const;

/** What a run on the CPU came to. */
export interface CpuReport {
  readonly backend: "js";
  readonly machine: { readonly cpu: string; readonly threads: number; readonly node: string };
  readonly plan: Plan;
  /** The figures that goals are set for; ratios of this very run. */
  readonly summary: {
    readonly dispatchVsMemcpy: number;
    readonly dispatchVsMemcpyForeign: number;
    readonly combineVsScalar: number;
    readonly idleRoundMicroseconds: number;
    readonly idleRoundTwoThreadsMicroseconds: number;
    readonly idleRoundFourThreadsMicroseconds: number;
    readonly idleRoundFourThreadsVsBarriers: number;
  };
  readonly details: Readonly<Record<string, unknown>>;
}

/** The slower of the ranks. */
const worst = (figures: readonly CopyFigures[]): number => Math.min(...figures.map((f) => f.ratio.median));

/** Measures everything, telling what it is at. */
export async function measureCpu(plan: Plan, tell: (what: string) => void): Promise<CpuReport> {
  const details: Record<string, unknown> = {};
  tell("the sum of a combine");
  const sum = await measureSum(plan);
  details.sum = sum;
  tell("idle rounds on one thread");
  const idle = await measureIdle(plan, 4);
  details.idleLocal4 = idle;
  const ratios = { empty: Number.POSITIVE_INFINITY, foreign: Number.POSITIVE_INFINITY };
  for (const source of ["empty", "foreign"] as const) {
    for (const rowBytes of ROW_BYTES) {
      tell(`dispatch of rows of ${rowBytes} bytes, ${source}`);
      const figures = await onThreads(2, plan, { kind: "copy", rowBytes, source });
      details[`dispatch-${source}-${rowBytes}`] = figures;
      ratios[source] = Math.min(ratios[source], worst(figures));
    }
  }
  const blocked = async (ranks: number) => {
    tell(`idle rounds on ${ranks} threads`);
    const figures = await onThreads(ranks, plan, { kind: "blocked", words: new SharedArrayBuffer(8) });
    details[`idleThreads${ranks}`] = figures;
    return {
      round: Math.max(...figures.map((f) => f.round.median)),
      barriers: Math.max(...figures.map((f) => f.barriers.median)),
    };
  };
  const two = await blocked(2);
  const four = await blocked(4);
  if (plan.curves) {
    tell("curves");
    details.curves = await measureCurves(QUICK);
  }
  return {
    backend: "js",
    machine: { cpu: cpus()[0]?.model ?? "?", threads: availableParallelism(), node: process.version },
    plan,
    summary: {
      dispatchVsMemcpy: ratios.empty,
      dispatchVsMemcpyForeign: ratios.foreign,
      combineVsScalar: sum.ratio,
      idleRoundMicroseconds: idle.median,
      idleRoundTwoThreadsMicroseconds: two.round,
      idleRoundFourThreadsMicroseconds: four.round,
      idleRoundFourThreadsVsBarriers: four.round / four.barriers,
    },
    details,
  };
}

/** The summary and the curves as Markdown. */
export function cpuTables({ summary, details }: CpuReport): string {
  const rows = Object.entries(summary).map(([name, value]) => `| ${name} | ${short(value)} |`);
  const parts = [["| figure | value |", "|---|---|", ...rows].join("\n")];
  for (const { over, points, fit } of (details.curves as readonly Curve[] | undefined) ?? []) {
    const cells = (of: (p: Curve["points"][number]) => number) => points.map((p) => short(of(p))).join(" | ");
    parts.push(
      `| ${over} | ${cells((p) => p.value)} |\n|---|${points.map(() => "---|").join("")}\n` +
        `| µs | ${cells((p) => p.micros)} |\n\n${short(fit.slope)} µs each, R² ${short(fit.r2)}`,
    );
  }
  return parts.join("\n\n");
}
