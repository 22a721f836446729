import { table } from "./table.js";

/** What several versions of the sources took for an idle round of four ranks, measured in turns. */
export interface Steps {
  readonly runs: number;
  readonly samplesPerRun: number;
  readonly steps: readonly {
    readonly change: string;
    /** Microseconds of processors: the median of the runs' medians, and the least sample of all. */
    readonly median: number;
    readonly least: number;
  }[];
}

export function stepsTable({ steps }: Steps): string {
  const rows = steps.map(({ change, median, least }) => [change, median, least]);
  return table(["change", "round after it, µs", "least"], rows);
}
