import type { HostFigures } from "./figures.js";
import type { BenchRank } from "./rank.js";
import type { Point } from "./shapes.js";
import { median } from "./statistics.js";

/** As many as engines take to compile what runs in them for good. */
const WARM_UP = 3000;
const ROUNDS = 200;
/** Rounds that are enqueued before one is waited for: the queues of a GPU hold more. */
const AHEAD = 16;

/** Plays rounds, and hands the times in ns around each call to `take`, once the code is warm. */
async function repeat(
  enqueue: () => { readonly times: readonly bigint[]; readonly last: { ready(): Promise<unknown> } },
  take: (times: readonly bigint[]) => void,
): Promise<void> {
  for (let round = -WARM_UP; round < ROUNDS; round++) {
    const { times, last } = enqueue();
    if (round >= 0) take(times);
    if (round % AHEAD === 0 || round === ROUNDS - 1) await last.ready();
  }
}

const microseconds = (from: bigint, to: bigint): number => Number(to - from) / 1000;

/** What the host takes for the calls of small rounds, one after another, while the GPU keeps up: medians. */
export async function measureHost(bench: BenchRank, point: Point): Promise<HostFigures> {
  const { a2a, stream } = bench;
  const input = bench.input(point);
  const count = input.numLocalTokens;
  const [dispatches, combines, replays]: [number[], number[], number[]] = [[], [], []];
  const now = () => process.hrtime.bigint();
  await repeat(
    () => {
      const start = now();
      const dispatch = a2a.dispatch(input);
      const dispatched = now();
      const { results, out } = bench.combineInput(dispatch, count);
      const middle = now();
      const last = dispatch.combine(results, { out, stream });
      return { times: [start, dispatched, middle, now()], last };
    },
    ([start, dispatched, middle, end]) => {
      dispatches.push(microseconds(start!, dispatched!));
      combines.push(microseconds(middle!, end!));
    },
  );
  const graph = await a2a.capture((captured) => {
    const dispatch = a2a.dispatch({ ...input, stream: captured });
    const { results, out } = bench.combineInput(dispatch, count);
    dispatch.combine(results, { out, stream: captured });
  });
  await repeat(
    () => {
      const start = now();
      const last = graph.replay(1, { stream });
      return { times: [start, now()], last };
    },
    ([start, end]) => replays.push(microseconds(start!, end!)),
  );
  graph.dispose();
  return { dispatch: median(dispatches), combine: median(combines), replay: median(replays) };
}
