import { type GpuRun, type Report, SCHEMA, type StepResult } from "../src/report.js";

export const step = (name: string, over: Partial<StepResult> = {}): StepResult => ({
  name,
  status: "passed",
  seconds: 12.3,
  ...over,
});

export const gpuRun = (gpus: number, over: Partial<GpuRun> = {}): GpuRun => ({
  date: "2026-11-20T10:00:00.000Z",
  machine: {
    gpus: Array.from({ length: gpus }, () => ({ name: "NVIDIA H200", memoryMiB: 143_771 })),
    driver: "580.159.04",
    node: "v20.20.2",
    cores: 64,
    kernel: "6.18.44",
  },
  options: ["--steps", "all"],
  steps: [step("probe"), step("conformance-local", { cases: { passed: 340, failed: 0, leftOut: 2 } })],
  ...over,
});

export const report = (over: Partial<Report> = {}): Report => ({
  schema: SCHEMA,
  sources: { hash: "0123456789abcdef0123", files: 40 },
  revision: "abc123",
  runs: [gpuRun(4)],
  ...over,
});

/** A phase that took 10 µs on a GPU, as a trace has it. */
export const phase = (over: object = {}): object => ({
  name: "dispatch",
  cat: "moe-a2a",
  ph: "X",
  pid: 0,
  tid: 0,
  ts: 0,
  dur: 10,
  args: { round: 0, queuedMs: 0.01, heardMs: 0.03 },
  ...over,
});

/** A trace as it is written: its array is left open. */
export const traceText = (...events: readonly object[]): string =>
  ["[\n", ...events.map((event) => `${JSON.stringify(event)},\n`)].join("");
