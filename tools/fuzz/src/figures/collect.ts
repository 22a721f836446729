/** What a tool has written with --json. */
type Run = Readonly<Record<string, unknown>> & { readonly tool: string };

/** As far as it matters here: what `tools/gpu` keeps of runs on GPUs. */
interface GpuReport {
  readonly revision: string;
  readonly runs: readonly {
    readonly machine: { readonly gpus: readonly { readonly name: string }[] };
    readonly steps: readonly { readonly name: string; readonly status: string; readonly figures?: unknown }[];
  }[];
}

/** Of one rank's process: what it had in use once warm, and in the end. */
interface Memory {
  readonly rss: number;
  readonly heap: number;
  readonly descriptors: number;
  readonly handles: number;
}

export interface FaultFigures {
  readonly fault: string;
  readonly timeLimitMs: number;
  readonly scenarios: number;
  readonly failed: number;
  readonly told: number;
  readonly medianMs?: number;
  readonly mostMs?: number;
}

export interface FaultGroup {
  readonly commit: string;
  readonly seed?: number;
  readonly seconds: number;
  readonly faults: readonly FaultFigures[];
}

export interface Soak {
  readonly commit: string;
  readonly seed: number;
  readonly seconds: number;
  readonly failed: number;
  readonly ranks: number;
  readonly rounds: number;
  /** Compared byte for byte, on each rank. */
  readonly verified: number;
  readonly cycles: number;
  /** Of the process that had grown most in the end, by resident memory: samples in the order in which they were taken. */
  readonly memory: readonly Memory[];
}

/** What is kept of all runs. */
export interface Figures {
  readonly node?: string;
  readonly cpus?: number;
  readonly faults?: Readonly<Record<string, FaultGroup>>;
  /** The same on GPUs. */
  readonly gpuFaults?: { readonly gpus: string; readonly groups: Readonly<Record<string, FaultGroup>> };
  /** The same on GPUs, and rounds that were replayed out of a graph. */
  readonly gpuSoak?: Soak & { readonly gpus: string; readonly group: string; readonly replays: number };
  readonly soak?: Readonly<Record<string, Soak>>;
  readonly surface?: Run;
  readonly frames?: Run;
  readonly strangers?: Run;
  readonly native?: Run;
}

const rounded = (value: number): number => Math.round(value * 10) / 10;

type FaultRun = readonly Pick<FaultGroup & { readonly group: string }, "group" | "seconds" | "faults">[];

function faultsOf(groups: FaultRun, commit: string, seed?: number): Record<string, FaultGroup> {
  return Object.fromEntries(
    groups.map(({ group, seconds, faults }) => [
      group,
      {
        commit,
        ...(seed === undefined ? {} : { seed }),
        seconds: rounded(seconds),
        faults: faults.map((found) =>
          found.medianMs === undefined
            ? found
            : { ...found, medianMs: rounded(found.medianMs), mostMs: rounded(found.mostMs!) },
        ),
      },
    ]),
  );
}

interface SoakRun {
  readonly group: string;
  readonly seed: number;
  readonly seconds: number;
  readonly failed: number;
  readonly ranks: readonly {
    readonly rounds: { readonly rounds: number; readonly verified: number };
    readonly cycles: number;
    readonly memory: readonly Memory[];
    readonly replays?: { readonly replays: number };
  }[];
}

function soakOf({ seed, seconds, failed, ranks }: SoakRun, commit: string): Soak {
  const grown = ({ memory }: SoakRun["ranks"][number]): number => memory.at(-1)!.rss - memory[0]!.rss;
  const [worst] = ranks.filter(({ memory }) => memory.length > 0).sort((a, b) => grown(b) - grown(a)) as [
    SoakRun["ranks"][number],
  ];
  const memory = worst.memory.map(({ rss, heap, descriptors, handles }) => ({
    rss,
    heap,
    descriptors,
    handles,
  }));
  const { rounds, verified } = worst.rounds;
  return {
    ...{ commit, seed, seconds, failed, ranks: ranks.length },
    ...{ rounds, verified, cycles: worst.cycles, memory },
  };
}

/** A step of a GPU report, of its last run in which it passed, and the GPUs. */
function lastPassed({ runs }: GpuReport, name: string): { gpus: string; figures: unknown } {
  for (const { machine, steps } of [...runs].reverse()) {
    const step = steps.find((one) => one.name === name && one.status === "passed");
    if (!step) continue;
    const names = [...new Set(machine.gpus.map((gpu) => gpu.name))];
    return { gpus: `${machine.gpus.length} × ${names.join(", ")}`, figures: step.figures };
  }
  throw new Error(`the GPU report has no run of ${name} that passed`);
}

function ofGpus(report: GpuReport): Pick<Figures, "gpuFaults" | "gpuSoak"> {
  const faults = lastPassed(report, "faults");
  const soak = lastPassed(report, "soak");
  const run = soak.figures as SoakRun;
  return {
    gpuFaults: { gpus: faults.gpus, groups: faultsOf(faults.figures as FaultRun, report.revision) },
    gpuSoak: {
      ...{ gpus: soak.gpus, group: run.group, replays: run.ranks[0]!.replays!.replays },
      ...soakOf(run, report.revision),
    },
  };
}

/**
 * Adds a run to what is kept; an earlier one of the same kind gives way.
 *
 * @param commit what was run
 */
export function collect(figures: Figures, run: Run | GpuReport, commit: string): Figures {
  if (!("tool" in run)) return { ...figures, ...ofGpus(run) };
  switch (run.tool) {
    case "faults": {
      const faults = faultsOf(run.groups as FaultRun, commit, run.seed as number);
      return { ...figures, faults: { ...figures.faults, ...faults } };
    }
    case "soak": {
      const soak = run as unknown as SoakRun;
      return { ...figures, soak: { ...figures.soak, [soak.group]: soakOf(soak, commit) } };
    }
    case "surface":
    case "frames":
    case "strangers":
    case "native":
      return { ...figures, [run.tool]: { commit, ...run, seconds: rounded(run.seconds as number) } };
    default:
      throw new Error(`"${run.tool}" is no tool whose figures are kept`);
  }
}
