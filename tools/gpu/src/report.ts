/** Raised when older readers would misread a report. */
export const SCHEMA = 1;

/** What a step came to. */
export interface StepResult {
  readonly name: string;
  readonly status: "passed" | "failed" | "timeout" | "skipped";
  readonly seconds: number;
  /** Where the step runs cases. */
  readonly cases?: { readonly passed: number; readonly failed: number; readonly leftOut: number };
  /** What failed, or why it was skipped; the end of what it printed. */
  readonly detail?: string;
  /** What it measured. */
  readonly figures?: unknown;
}

export interface Machine {
  readonly gpus: readonly { readonly name: string; readonly memoryMiB: number }[];
  readonly driver: string;
  readonly node: string;
  readonly cores: number;
  readonly kernel: string;
}

/** One run on one machine. */
export interface GpuRun {
  /** ISO 8601. */
  readonly date: string;
  readonly machine: Machine;
  readonly options: readonly string[];
  readonly steps: readonly StepResult[];
}

/** All that is known of one state of the sources. */
export interface Report {
  readonly schema: typeof SCHEMA;
  readonly sources: { readonly hash: string; readonly files: number };
  /** Commit that the bundle was made from; ends in "+" where files were changed since. */
  readonly revision: string;
  readonly runs: readonly GpuRun[];
}

/**
 * Reads a report.
 *
 * @throws where it is none, or of another schema
 */
export function parseReport(text: string, name: string): Report {
  const report = JSON.parse(text) as Partial<Report> | null;
  if (report?.schema !== SCHEMA) {
    throw new Error(`${name} is no report of schema ${SCHEMA}: its schema is ${report?.schema}`);
  }
  if (!Array.isArray(report.runs) || typeof report.sources?.hash !== "string") {
    throw new Error(`${name} lacks runs or sources`);
  }
  return report as Report;
}

/** Drops steps that a later run has repeated on as many GPUs, and runs of which nothing is left. */
function latestSteps(runs: readonly GpuRun[]): GpuRun[] {
  const seen = new Set<string>();
  const left = [...runs].reverse().map((run) => {
    const steps = run.steps.filter(({ name }) => !seen.has(`${run.machine.gpus.length}/${name}`));
    for (const { name } of steps) seen.add(`${run.machine.gpus.length}/${name}`);
    return { ...run, steps };
  });
  return left.reverse().filter(({ steps }) => steps.length > 0);
}

/**
 * Puts runs of the same sources together, oldest first. A run that is in several of the reports counts once, and of a step
 * that was run several times on as many GPUs the last one.
 *
 * @throws where the sources differ
 */
export function mergeReports(reports: readonly Report[]): Report {
  const [first, ...others] = reports;
  if (!first) throw new Error("there is no report to merge");
  for (const { sources } of others) {
    if (sources.hash !== first.sources.hash) {
      throw new Error(
        `the reports are of different sources: ${first.sources.hash.slice(0, 12)} and ${sources.hash.slice(0, 12)}`,
      );
    }
  }
  const runs = new Map(reports.flatMap((r) => r.runs).map((run) => [JSON.stringify(run), run]));
  const revision = [...new Set(reports.map((r) => r.revision))].join(", ");
  const inOrder = [...runs.values()].sort((a, b) => a.date.localeCompare(b.date));
  return { ...first, revision, runs: latestSteps(inOrder) };
}

/** Whether every step that ran has passed, and one has. */
export function allPassed(report: Report): boolean {
  const steps = report.runs.flatMap((run) => run.steps).filter((step) => step.status !== "skipped");
  return steps.length > 0 && steps.every((step) => step.status === "passed");
}
