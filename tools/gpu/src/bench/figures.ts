/** One line of the benchmark: medians in µs, each the slowest rank's. */
export interface BenchRow {
  /** Name of the model shape. */
  readonly shape: string;
  /** Tokens of each rank that is not idle. */
  readonly tokens: number;
  /** Slots per sender. */
  readonly slots: number;
  /** Which ranks have no tokens; undefined: none. */
  readonly idle?: string;
  readonly dispatch?: number;
  readonly combine?: number;
  /** Dispatch and combine, out of a graph of many rounds with the same inputs. */
  readonly round: number;
  /** The 99th percentile of the samples, and the least of them. */
  readonly roundP99?: number;
  readonly roundLeast?: number;
  /** With other inputs in each round. */
  readonly rotating?: number;
  /** Bytes that the busiest rank sends to others, or receives from them, in dispatch and combine. */
  readonly bytes?: number;
  /** What the host takes to enqueue each. */
  readonly host?: { readonly dispatch: number; readonly combine: number; readonly replay: number };
}

/** What the host takes to enqueue phases of one token, and to replay one such round, once warm: medians in µs. */
export interface HostFigures {
  readonly dispatch: number;
  readonly combine: number;
  readonly replay: number;
}

export interface BenchFigures {
  readonly ranks: number;
  readonly samples: number;
  readonly roundsPerGraph: number;
  /** The slowest rank's. */
  readonly host?: HostFigures;
  /** What all GPUs storing to all others come to, from the probe of the same run. */
  readonly storeGBs?: number;
  readonly rows: readonly BenchRow[];
}

/** What a round's bytes take at the rate of the run's store probe, in µs. */
export function floorOf(row: BenchRow, { storeGBs }: Pick<BenchFigures, "storeGBs">): number | undefined {
  return row.bytes && storeGBs ? row.bytes / storeGBs / 1000 : undefined;
}

/** Another implementation's figures. */
export interface Reference {
  readonly source: string;
  readonly date: string;
  readonly machine: string;
  readonly ranks: number;
  readonly storeGBs: number;
  readonly limits: { readonly ratio: number; readonly idleRoundUs: number };
  readonly rows: readonly {
    readonly shape: string;
    readonly tokens: number;
    readonly idle?: string;
    readonly dispatch?: number;
    readonly combine?: number;
    readonly round: number;
    readonly floor?: number;
  }[];
}

type Phase = "dispatch" | "combine" | "round";

/** A figure beside the reference's, whose times grow as this machine's stores are slower than those it was measured on. */
export interface Comparison {
  readonly ours: number;
  readonly theirs: number | undefined;
  /** Ours over the scaled reference. */
  readonly ratio: number | undefined;
  /** Undefined where there is nothing to be held against. */
  readonly ok: boolean | undefined;
}

export function compare(
  row: BenchRow,
  phase: Phase,
  figures: Pick<BenchFigures, "ranks" | "storeGBs">,
  reference: Reference,
): Comparison | undefined {
  const ours = row[phase];
  if (ours === undefined) return undefined;
  const { limits } = reference;
  const allIdle = row.tokens === 0;
  const like = reference.rows.find(
    (r) => r.shape === row.shape && r.tokens === row.tokens && r.idle === row.idle,
  );
  // Figures of another number of GPUs say nothing here.
  const known = figures.ranks === reference.ranks ? like?.[phase] : undefined;
  const theirs =
    known === undefined ? undefined : known * (reference.storeGBs / (figures.storeGBs ?? reference.storeGBs));
  const ratio = theirs === undefined ? undefined : ours / theirs;
  if (allIdle) return { ours, theirs, ratio, ok: phase === "round" ? ours <= limits.idleRoundUs : undefined };
  return { ours, theirs, ratio, ok: ratio === undefined ? undefined : ratio <= limits.ratio };
}

const number = (value: number | undefined): string =>
  value === undefined ? "–" : value < 100 ? value.toFixed(1) : value.toFixed(0);

/** Pads to columns. */
export function formatTable(lines: readonly (readonly string[])[]): string {
  const widths = (lines[0] ?? []).map((_, c) => Math.max(...lines.map((line) => line[c]?.length ?? 0)));
  return lines
    .map((line) =>
      line
        .map((cell, c) => (c < 2 ? cell.padEnd(widths[c]!) : cell.padStart(widths[c]!)))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

/** The figures next to the reference's, with ratios; `!` marks those over their limit. */
export function formatBench(figures: BenchFigures, reference: Reference): string {
  const cells = (row: BenchRow): string[] => {
    const phases = (["dispatch", "combine", "round"] as const).flatMap((phase) => {
      const c = compare(row, phase, figures, reference);
      const ratio = c?.ratio === undefined ? "–" : `${c.ratio.toFixed(2)}×`;
      return [number(c?.ours), number(c?.theirs), `${ratio}${c?.ok === false ? " !" : "  "}`];
    });
    const who = row.idle === undefined ? "" : ` idle: ${row.idle}`;
    return [row.shape, `${row.tokens}${row.slots === 0 ? " (m 0)" : ""}${who}`, ...phases];
  };
  const head = [
    "shape",
    "T",
    "dispatch",
    "theirs",
    "ratio  ",
    "combine",
    "theirs",
    "ratio  ",
    "round",
    "theirs",
    "ratio  ",
  ];
  const probe = figures.storeGBs === undefined ? "no store probe" : `store probe ${figures.storeGBs} GB/s`;
  const { host } = figures;
  const warm = host
    ? `\nhost, warm: dispatch ${number(host.dispatch)}, combine ${number(host.combine)}, replay of a round ${number(host.replay)}`
    : "";
  return (
    `${figures.ranks} ranks, medians in µs of ${figures.samples} samples, slowest rank; round: ` +
    `${figures.roundsPerGraph} in one graph; ${probe}\n` +
    `theirs: ${reference.source.split(",")[0]}, ${reference.date}, scaled to this probe; ! over ${reference.limits.ratio} × theirs\n` +
    formatTable([head, ...figures.rows.map(cells)]) +
    warm
  );
}
