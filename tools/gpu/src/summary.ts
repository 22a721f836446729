import { type BenchFigures, formatBench, type Reference } from "./bench/figures.js";
import type { GpuRun, Machine, Report, StepResult } from "./report.js";

/** The GPUs in a few words: "4 × NVIDIA H200". */
export function describeGpus({ gpus }: Machine): string {
  const counts = new Map<string, number>();
  for (const { name } of gpus) counts.set(name, (counts.get(name) ?? 0) + 1);
  return [...counts].map(([name, count]) => `${count} × ${name}`).join(", ") || "no GPU";
}

export function formatStep({ name, status, seconds, cases, detail }: StepResult): string {
  const counts = cases
    ? `, ${cases.passed} passed, ${cases.failed} failed${cases.leftOut ? `, ${cases.leftOut} left out` : ""}`
    : "";
  const why = status === "passed" ? "" : `: ${detail?.trim().split("\n").at(-1) ?? "no detail"}`;
  return `  ${status.padEnd(7)} ${name} (${seconds.toFixed(0)} s${counts})${why}`;
}

/** What a run covered, a line per step. */
export function formatRun(run: GpuRun): string {
  const { driver, node } = run.machine;
  const head = `${run.date.slice(0, 10)}  ${describeGpus(run.machine)}, driver ${driver}, Node ${node}`;
  return [head, ...run.steps.map(formatStep)].join("\n");
}

export function formatReport(report: Report): string {
  const sources = `sources ${report.sources.hash.slice(0, 12)} (${report.sources.files} files), commit ${report.revision}`;
  return [sources, ...report.runs.map(formatRun)].join("\n");
}

/** The tables of all benchmarks in a run. */
export function formatFigures(run: GpuRun, reference: Reference): string {
  const found = run.steps.filter((s) => s.name.startsWith("bench") && s.figures);
  return found.map((s) => formatBench(s.figures as BenchFigures, reference)).join("\n\n");
}
