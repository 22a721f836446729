import { createTimer } from "@moe-a2a/cuda";
import type { Point } from "./points.js";
import type { BenchRank } from "./rank.js";

const WARM_UP = 5;
/** Tokens of the round that keeps the GPUs busy while what is timed is enqueued behind it. */
const FILLER = 1024;

/** Microseconds of each sample on this rank. */
export interface Times {
  readonly dispatch: number[] | undefined;
  readonly combine: number[] | undefined;
  readonly round: number[];
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

/** Times a point: phases by themselves, then rounds out of a graph. */
export async function measure(
  bench: BenchRank,
  point: Point,
  { samples, roundsPerGraph }: { readonly samples: number; readonly roundsPerGraph: number },
): Promise<Times> {
  const { a2a, stream } = bench;
  const count = point.counts[a2a.epRank]!;
  const timers = [0, 1, 2].map(() => createTimer(a2a.device));
  const [start, middle, end] = timers as [(typeof timers)[0], (typeof timers)[0], (typeof timers)[0]];
  const times: Times = { dispatch: [], combine: point.slots === 0 ? undefined : [], round: [] };

  for (let sample = -WARM_UP; sample < samples; sample++) {
    lineUp(bench);
    start.record(stream);
    const dispatch = bench.dispatch(point);
    middle.record(stream);
    const combine = bench.combine(dispatch, count);
    end.record(stream);
    await combine.ready();
    if (sample < 0) continue;
    times.dispatch?.push(middle.since(start) * 1000);
    times.combine?.push(end.since(middle) * 1000);
  }

  const graph = await a2a.capture((captured) => {
    for (let round = 0; round < roundsPerGraph; round++) {
      bench.combine(bench.dispatch(point, captured), count, captured);
    }
  });
  for (let sample = -WARM_UP; sample < samples; sample++) {
    lineUp(bench);
    start.record(stream);
    const replay = graph.replay(1, { stream });
    end.record(stream);
    await replay.ready();
    if (sample >= 0) times.round.push((end.since(start) * 1000) / roundsPerGraph);
  }
  graph.dispose();
  for (const timer of timers) timer.dispose();
  return times;
}
