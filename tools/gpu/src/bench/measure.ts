import { createTimer } from "@moe-a2a/cuda";
import type { BenchRank } from "./rank.js";
import type { Point } from "./shapes.js";

const WARM_UP = 5;
/** Tokens of the round that keeps the GPUs busy while what is timed is enqueued behind it. */
const FILLER = 1024;

/** Microseconds of each sample on this rank. */
export interface Times {
  readonly dispatch: number[];
  /** Undefined where there is nothing to combine. */
  readonly combine: number[] | undefined;
  /** One of the rounds in a graph, with the same inputs each time. */
  readonly round: number[];
  /** The same with other inputs each time; undefined where there are not enough of them. */
  readonly rotating: number[] | undefined;
  /** What the host takes to enqueue a dispatch, a combine, and a replay of the graph. */
  readonly host: { readonly dispatch: number[]; readonly combine: number[]; readonly replay: number[] };
}

/**
 * Lets all ranks start together, with the host far ahead: a round of many tokens keeps the GPUs busy, and an empty one ends
 * on all of them at nearly the same time.
 */
function lineUp(bench: BenchRank): void {
  const { epSize, maxTokensPerRank } = bench.a2a.config;
  const tokens = Math.min(FILLER, maxTokensPerRank);
  for (const slots of [tokens, 0]) {
    const counts = new Array<number>(epSize).fill(slots);
    bench.combine(bench.dispatch({ counts, slots }), slots);
  }
}

const microseconds = (since: bigint): number => Number(process.hrtime.bigint() - since) / 1000;

interface MeasureOptions {
  readonly samples: number;
  readonly roundsPerGraph: number;
}

type Timer = ReturnType<typeof createTimer>;

/** Phases by themselves. */
async function measurePhases(
  bench: BenchRank,
  point: Point,
  samples: number,
  [start, middle, end]: readonly [Timer, Timer, Timer],
): Promise<Pick<Times, "dispatch" | "combine"> & { host: Pick<Times["host"], "dispatch" | "combine"> }> {
  const { stream } = bench;
  const count = point.counts[bench.a2a.epRank]!;
  const [dispatches, combines]: [number[], number[]] = [[], []];
  const host: { dispatch: number[]; combine: number[] } = { dispatch: [], combine: [] };
  for (let sample = -WARM_UP; sample < samples; sample++) {
    lineUp(bench);
    start.record(stream);
    const beforeDispatch = process.hrtime.bigint();
    const dispatch = bench.dispatch(point);
    const dispatchUs = microseconds(beforeDispatch);
    middle.record(stream);
    const beforeCombine = process.hrtime.bigint();
    const combine = bench.combine(dispatch, count);
    const combineUs = microseconds(beforeCombine);
    end.record(stream);
    await combine.ready();
    if (sample < 0) continue;
    dispatches.push(middle.since(start) * 1000);
    combines.push(end.since(middle) * 1000);
    host.dispatch.push(dispatchUs);
    host.combine.push(combineUs);
  }
  return { dispatch: dispatches, combine: point.slots === 0 ? undefined : combines, host };
}

/** Rounds out of a graph. */
async function measureGraph(
  bench: BenchRank,
  point: Point,
  { samples, roundsPerGraph }: MeasureOptions,
  [start, , end]: readonly [Timer, Timer, Timer],
  rotating: boolean,
): Promise<{ round: number[]; replay: number[] }> {
  const { a2a, stream } = bench;
  const count = point.counts[a2a.epRank]!;
  const times: { round: number[]; replay: number[] } = { round: [], replay: [] };
  const graph = await a2a.capture((captured) => {
    for (let round = 0; round < roundsPerGraph; round++) {
      bench.combine(bench.dispatch(point, captured, rotating), count, captured);
    }
  });
  for (let sample = -WARM_UP; sample < samples; sample++) {
    lineUp(bench);
    start.record(stream);
    const before = process.hrtime.bigint();
    const replay = graph.replay(1, { stream });
    const replayUs = microseconds(before);
    end.record(stream);
    await replay.ready();
    if (sample < 0) continue;
    times.round.push((end.since(start) * 1000) / roundsPerGraph);
    times.replay.push(replayUs);
  }
  graph.dispose();
  return times;
}

/** Times a point: phases by themselves, then rounds out of a graph. */
export async function measure(bench: BenchRank, point: Point, options: MeasureOptions): Promise<Times> {
  const { a2a } = bench;
  const timers: [Timer, Timer, Timer] = [
    createTimer(a2a.device),
    createTimer(a2a.device),
    createTimer(a2a.device),
  ];
  const phases = await measurePhases(bench, point, options.samples, timers);
  const fixed = await measureGraph(bench, point, options, timers, false);
  // At least four different inputs, on every rank.
  const rotates = point.tokens > 0 && 4 * point.tokens <= a2a.config.maxTokensPerRank;
  const rotating = rotates ? await measureGraph(bench, point, options, timers, true) : undefined;
  for (const timer of timers) timer.dispose();
  return {
    dispatch: phases.dispatch,
    combine: phases.combine,
    round: fixed.round,
    rotating: rotating?.round,
    host: { ...phases.host, replay: fixed.replay },
  };
}
