/** How long and how often things are measured. */
export interface Plan {
  /** Samples of each figure, of which the median counts. */
  readonly samples: number;
  /** Milliseconds that a sample takes, about. */
  readonly sampleMs: number;
  /** Whether curves are measured, over ranks, tokens, experts per token and hidden size. */
  readonly curves: boolean;
}

/** What a call cost, in microseconds: by the clock, and of processors, which others on the machine do not lengthen as much. */
export interface Cost {
  readonly wall: number;
  readonly cpu: number;
}

export const QUICK: Plan = { samples: 5, sampleMs: 60, curves: false };
export const FULL: Plan = { samples: 15, sampleMs: 200, curves: true };
/** Of each point of a curve; there are many. */
export const CURVES: Plan = { samples: 20, sampleMs: 20, curves: true };

/** Calls `run` until a sample's time is over. @returns microseconds per call */
export function timeSync(plan: Plan, run: () => void): number {
  const start = performance.now();
  let calls = 0;
  let now = start;
  do {
    run();
    calls++;
    now = performance.now();
  } while (now - start < plan.sampleMs);
  return ((now - start) / calls) * 1000;
}

/**
 * The same for something asynchronous; looks at the clock once in `batch` calls.
 *
 * @param run makes so many calls, one after another, as a program's own loop would: a promise around each is none of its cost
 */
export async function timeAsync(
  plan: Plan,
  run: (calls: number) => Promise<void>,
  batch = 16,
): Promise<Cost> {
  const cpuStart = process.cpuUsage();
  const start = performance.now();
  let calls = 0;
  let now = start;
  do {
    await run(batch);
    calls += batch;
    now = performance.now();
  } while (now - start < plan.sampleMs);
  const { user, system } = process.cpuUsage(cpuStart);
  return { wall: ((now - start) / calls) * 1000, cpu: (user + system) / calls };
}
