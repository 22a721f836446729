import { median } from "../bench/statistics.js";

/** An event of the trace that @moe-a2a/sglang writes, as far as it is looked at. Times are in microseconds. */
interface TraceEvent {
  readonly name: string;
  readonly ph: string;
  readonly pid: number;
  readonly tid: number;
  readonly ts: number;
  readonly dur: number;
  readonly args: { readonly queuedMs?: number; readonly heardMs?: number; readonly error?: string };
}

/** What a trace holds; medians over its phases. */
export interface TraceFigures {
  readonly rows: number;
  readonly phases: number;
  readonly dispatchUs?: number;
  readonly combineUs?: number;
  readonly queuedMs?: number;
  readonly heardMs?: number;
  /** Phases that seem to begin before the one before them is over, since the clocks were compared anew in between. */
  readonly clockSteps: number;
}

/** The clocks of host and GPU are compared once a second, each time to half a millisecond at worst. */
const STEP_US = 500;
const BETWEEN_STEPS_US = 900_000;

/**
 * Reads a trace whose array is left open.
 *
 * @throws where a line of it is broken
 */
function readEvents(text: string): TraceEvent[] {
  return JSON.parse(`${text.trimEnd().replace(/,$/, "")}]`);
}

/** How two phases of a row overlap that no comparison of clocks explains, and how often one does. */
function lookAtRow(phases: readonly TraceEvent[]): { steps: number; wrong: string | undefined } {
  const inOrder = [...phases].sort((a, b) => a.ts - b.ts || a.dur - b.dur);
  let steps = 0;
  let steppedAt = Number.NEGATIVE_INFINITY;
  let last = inOrder[0]!;
  for (const phase of inOrder.slice(1)) {
    const overlap = last.ts + last.dur - phase.ts;
    if (overlap > 0) {
      if (overlap > STEP_US || phase.ts - steppedAt < BETWEEN_STEPS_US) {
        const wrong = `row ${phase.tid}: ${phase.name} at ${phase.ts} begins ${overlap} µs before the end of ${last.name} at ${last.ts}`;
        return { steps, wrong };
      }
      steps++;
      steppedAt = phase.ts;
    }
    // The longer one of two that overlap is what the next one has to wait for.
    if (overlap < phase.dur) last = phase;
  }
  return { steps, wrong: undefined };
}

function rowsOf(phases: readonly TraceEvent[]): TraceEvent[][] {
  const rows = new Map<string, TraceEvent[]>();
  for (const phase of phases) {
    const name = `${phase.pid}/${phase.tid}`;
    const row = rows.get(name);
    if (row) row.push(phase);
    else rows.set(name, [phase]);
  }
  return [...rows.values()];
}

const rounded = (value: number): number => Math.round(value * 1000) / 1000;

/** What is wrong with a trace of ranks on GPUs, and its figures. */
export function lookAtTrace(text: string): { readonly wrong: string[]; readonly figures: TraceFigures } {
  let events: TraceEvent[];
  try {
    events = readEvents(text);
  } catch (error) {
    const figures = { rows: 0, phases: 0, clockSteps: 0 };
    return { wrong: [`the trace cannot be read: ${(error as Error).message}`], figures };
  }
  const phases = events.filter(({ ph }) => ph === "X");
  const isTimed = ({ args }: TraceEvent) =>
    typeof args.queuedMs === "number" && typeof args.heardMs === "number";
  const timed = phases.filter(isTimed);
  const rows = rowsOf(phases);
  const looks = rows.map(lookAtRow);
  const wrong = looks.flatMap((look) => look.wrong ?? []);
  const untimed = phases.find((phase) => !isTimed(phase));
  if (untimed) {
    const what = untimed.args.error ? `${untimed.name} (${untimed.args.error})` : untimed.name;
    wrong.unshift(
      `${phases.length - timed.length} of ${phases.length} phases have no device time, ${what} in row ${untimed.tid} first`,
    );
  }
  const of = (name: string) => timed.filter((phase) => phase.name === name);
  for (const name of ["dispatch", "combine"]) {
    if (of(name).length === 0) wrong.push(`the trace holds no ${name} with its device time`);
  }
  const figures: TraceFigures = {
    rows: rows.length,
    phases: phases.length,
    clockSteps: looks.reduce((sum, { steps }) => sum + steps, 0),
    ...(wrong.length === 0
      ? {
          dispatchUs: rounded(median(of("dispatch").map(({ dur }) => dur))),
          combineUs: rounded(median(of("combine").map(({ dur }) => dur))),
          queuedMs: rounded(median(timed.map(({ args }) => args.queuedMs!))),
          heardMs: rounded(median(timed.map(({ args }) => args.heardMs!))),
        }
      : {}),
  };
  return { wrong, figures };
}
