import { availableParallelism, cpus } from "node:os";
import { short } from "../stats.js";
import type { BlockedFigures } from "./blocked.js";
import type { CopyFigures } from "./copy.js";
import { type Curve, measureCurves } from "./curves.js";
import { type IdleFigures, measureIdle } from "./idle.js";
import { CURVES, type Plan } from "./plan.js";
import { measureSum, type SumFigures } from "./sum.js";
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
    readonly barriersTwoThreadsMicroseconds: number;
    readonly idleRoundTwoThreadsVsBarriers: number;
    readonly idleRoundFourThreadsMicroseconds: number;
    readonly barriersFourThreadsMicroseconds: number;
    readonly idleRoundFourThreadsVsBarriers: number;
  };
  readonly details: CpuDetails;
}

/** Every series behind the summary, with its spread. */
export interface CpuDetails {
  readonly sum: SumFigures;
  readonly idleLocal4: IdleFigures;
  /** By row size and rank. */
  readonly dispatch: { readonly [source in "empty" | "foreign"]: readonly CopySeries[] };
  /** By rank. */
  readonly idleThreads2: readonly BlockedFigures[];
  readonly idleThreads4: readonly BlockedFigures[];
  /** In the long run. */
  readonly curves?: readonly Curve[];
}

export interface CopySeries {
  readonly rowBytes: number;
  readonly ranks: readonly CopyFigures[];
}

/** Of the slowest row size and rank. */
const slowest = (series: readonly CopySeries[]): number =>
  Math.min(...series.flatMap(({ ranks }) => ranks.map((figures) => figures.ratio.median)));

/** Measures everything, telling what it is at. */
export async function measureCpu(plan: Plan, tell: (what: string) => void): Promise<CpuReport> {
  tell("the sum of a combine");
  const sum = await measureSum(plan);
  tell("idle rounds on one thread");
  const idle = await measureIdle(plan, 4);
  const dispatch: { readonly [source in "empty" | "foreign"]: CopySeries[] } = { empty: [], foreign: [] };
  for (const source of ["empty", "foreign"] as const) {
    for (const rowBytes of ROW_BYTES) {
      tell(`dispatch of rows of ${rowBytes} bytes, ${source}`);
      const ranks = await onThreads(2, plan, { kind: "copy", rowBytes, source });
      dispatch[source].push({ rowBytes, ranks });
    }
  }
  const blocked = async (ranks: number) => {
    tell(`idle rounds on ${ranks} threads`);
    const figures = await onThreads(ranks, plan, { kind: "blocked", words: new SharedArrayBuffer(8) });
    return {
      figures,
      round: Math.max(...figures.map((f) => f.round.median)),
      barriers: Math.max(...figures.map((f) => f.barriers.median)),
      ratio: Math.max(...figures.map((f) => f.ratio.median)),
    };
  };
  const two = await blocked(2);
  const four = await blocked(4);
  if (plan.curves) tell("curves");
  const curves = plan.curves ? { curves: await measureCurves(CURVES) } : {};
  return {
    backend: "js",
    machine: { cpu: cpus()[0]?.model ?? "?", threads: availableParallelism(), node: process.version },
    plan,
    summary: {
      dispatchVsMemcpy: slowest(dispatch.empty),
      dispatchVsMemcpyForeign: slowest(dispatch.foreign),
      combineVsScalar: sum.ratio,
      idleRoundMicroseconds: idle.cpu.median,
      idleRoundTwoThreadsMicroseconds: two.round,
      barriersTwoThreadsMicroseconds: two.barriers,
      idleRoundTwoThreadsVsBarriers: two.ratio,
      idleRoundFourThreadsMicroseconds: four.round,
      barriersFourThreadsMicroseconds: four.barriers,
      idleRoundFourThreadsVsBarriers: four.ratio,
    },
    details: {
      sum,
      idleLocal4: idle,
      dispatch,
      idleThreads2: two.figures,
      idleThreads4: four.figures,
      ...curves,
    },
  };
}

/** The summary and the curves as Markdown. */
export function cpuTables({ summary, details }: CpuReport): string {
  const rows = Object.entries(summary).map(([name, value]) => `| ${name} | ${short(value)} |`);
  const parts = [["| figure | value |", "|---|---|", ...rows].join("\n")];
  for (const { name, points, x, fit } of details.curves ?? []) {
    const cells = (of: (p: Curve["points"][number]) => number) => points.map((p) => short(of(p))).join(" | ");
    parts.push(
      `| ${name} | ${cells((p) => p.value)} |\n|---|${points.map(() => "---|").join("")}\n` +
        `| µs per rank | ${cells((p) => p.micros)} |\n\n` +
        `${short(fit.intercept)} µs + ${short(fit.slope)} µs per ${x}, R² ${short(fit.r2)}`,
    );
  }
  return parts.join("\n\n");
}
