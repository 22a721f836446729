/** What a tool has written with --json. */
type Run = Readonly<Record<string, unknown>> & { readonly tool: string };

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
  readonly seed: number;
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
  readonly soak?: Readonly<Record<string, Soak>>;
  readonly surface?: Run;
  readonly frames?: Run;
  readonly strangers?: Run;
  readonly native?: Run;
}

const rounded = (value: number): number => Math.round(value * 10) / 10;

function faultsOf(run: Run, commit: string): Record<string, FaultGroup> {
  const { seed, groups } = run as unknown as {
    readonly seed: number;
    readonly groups: readonly {
      readonly group: string;
      readonly seconds: number;
      readonly faults: readonly FaultFigures[];
    }[];
  };
  return Object.fromEntries(
    groups.map(({ group, seconds, faults }) => [
      group,
      {
        commit,
        seed,
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
  }[];
}

function soakOf(run: Run, commit: string): Record<string, Soak> {
  const { group, seed, seconds, failed, ranks } = run as unknown as SoakRun;
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
    [group]: {
      ...{ commit, seed, seconds, failed, ranks: ranks.length },
      ...{ rounds, verified, cycles: worst.cycles, memory },
    },
  };
}

/**
 * Adds a run to what is kept; an earlier one of the same kind gives way.
 *
 * @param commit what was run
 */
export function collect(figures: Figures, run: Run, commit: string): Figures {
  switch (run.tool) {
    case "faults":
      return { ...figures, faults: { ...figures.faults, ...faultsOf(run, commit) } };
    case "soak":
      return { ...figures, soak: { ...figures.soak, ...soakOf(run, commit) } };
    case "surface":
    case "frames":
    case "strangers":
    case "native":
      return { ...figures, [run.tool]: { commit, ...run, seconds: rounded(run.seconds as number) } };
    default:
      throw new Error(`"${run.tool}" is no tool whose figures are kept`);
  }
}
