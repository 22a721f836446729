import { parentPort, workerData } from "node:worker_threads";
import { type Group, joinThreadGroup, type ThreadTicket } from "@moe-a2a/core";
import type { BenchRow, HostFigures } from "./figures.js";
import { measureHost } from "./host.js";
import { measure, type Times } from "./measure.js";
import { BenchRank } from "./rank.js";
import { rowsBetween } from "./routing.js";
import { configOf, factors, type Point, pointsOf, sentRowBytes, shapes } from "./shapes.js";
import { median, quantile } from "./statistics.js";

/** What a rank is asked to do. */
export interface BenchJob {
  readonly ticket: ThreadTicket;
  readonly devices: number;
  readonly samples: number;
  readonly roundsPerGraph: number;
  /** Most tokens per rank. */
  readonly largest: number;
  readonly seed: number;
  /** Every factor, too. */
  readonly all: boolean;
}

export type BenchMessage =
  | { readonly row: BenchRow }
  | { readonly host: HostFigures }
  | { readonly failure: string }
  | { readonly done: true };

/** The largest of all ranks' values; undefined values are the same on all of them. */
async function slowest(
  group: Group,
  values: readonly (number | undefined)[],
): Promise<(number | undefined)[]> {
  const own = new Uint8Array(Float64Array.from(values, (v) => v ?? Number.NaN).buffer);
  const all = (await group.exchange("bench", own)).map((bytes) => new Float64Array(bytes.slice().buffer));
  return values.map((v, i) => (v === undefined ? undefined : Math.max(...all.map((a) => a[i]!))));
}

/** The most bytes that any rank sends or receives in a round, as what others' rows take on the wire. */
function wireBytes({ shape, counts }: Point, ids: readonly Int32Array[]): number {
  const rows = rowsBetween(shape, ids, counts);
  const sum = (values: number[]) => values.reduce((a, b) => a + b, 0);
  const busiest = Math.max(
    ...rows.map((to, r) => Math.max(sum(to) - to[r]!, sum(rows.map((from) => from[r]!)) - to[r]!)),
  );
  return busiest * (sum(sentRowBytes(shape)) + shape.hidden * 2);
}

/** A line's figures: each the slowest rank's. */
async function rowOf(group: Group, point: Point, times: Times, bytes: number): Promise<BenchRow> {
  const of = (values: readonly number[] | undefined) => values && median(values);
  const [dispatch, combine, round, p99, least, rotating, hostDispatch, hostCombine, hostReplay] =
    await slowest(group, [
      of(times.dispatch),
      of(times.combine),
      of(times.round),
      quantile(times.round, 0.99),
      Math.min(...times.round),
      of(times.rotating),
      of(times.host.dispatch),
      of(times.host.combine),
      of(times.host.replay),
    ]);
  const { shape, tokens, slots, idle } = point;
  return {
    shape: shape.name,
    tokens,
    slots,
    ...(idle === undefined ? {} : { idle }),
    dispatch: dispatch!,
    ...(combine === undefined ? {} : { combine }),
    round: round!,
    roundP99: p99!,
    roundLeast: least!,
    ...(rotating === undefined ? {} : { rotating }),
    bytes,
    host: { dispatch: hostDispatch!, combine: hostCombine!, replay: hostReplay! },
  };
}

/** What the host takes: the slowest rank's. */
async function hostOf(group: Group, bench: BenchRank, point: Point): Promise<HostFigures> {
  const own = await measureHost(bench, point);
  const [dispatch, combine, replay] = await slowest(group, [own.dispatch, own.combine, own.replay]);
  return { dispatch: dispatch!, combine: combine!, replay: replay! };
}

async function run(job: BenchJob): Promise<void> {
  const group = joinThreadGroup(job.ticket);
  const { rank, size } = group;
  const device = rank % job.devices;
  for (const shape of job.all ? [...shapes, ...factors] : shapes) {
    const config = configOf(shape, size, Math.min(job.largest, Math.max(...shape.tokens)));
    const bench = await BenchRank.create(config, shape, group, device, job.seed);
    const points = pointsOf(shape, size, config.maxTokensPerRank);
    for (const point of points) {
      const at = (what: string) => (error: unknown) => {
        throw new Error(`${what}: ${describePoint(point)}`, { cause: error });
      };
      await bench.verify(point).catch(at("before timing"));
      const times = await measure(bench, point, job).catch(at("timing"));
      await bench.verify(point).catch(at("after timing"));
      const row = await rowOf(group, point, times, wireBytes(point, bench.ids));
      if (rank > 0) continue;
      parentPort!.postMessage({ row } satisfies BenchMessage);
    }
    const smallest = points.find(({ tokens, idle }) => tokens === 1 && idle === undefined);
    if (shape === shapes[0] && smallest) {
      const host = await hostOf(group, bench, smallest);
      if (rank === 0) parentPort!.postMessage({ host } satisfies BenchMessage);
    }
    await bench.close();
  }
  await group.exchange("bench done", new Uint8Array());
  await group.close();
  parentPort!.postMessage({ done: true } satisfies BenchMessage);
}

function describePoint({ shape, tokens, slots, idle }: Point): string {
  return `${shape.name}, ${tokens} tokens, m ${slots}${idle ? `, idle: ${idle}` : ""}`;
}

function explain(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return `${error.stack ?? error.message}${error.cause ? `\ncaused by ${explain(error.cause)}` : ""}`;
}

run(workerData as BenchJob).catch((error: unknown) => {
  parentPort!.postMessage({ failure: explain(error) } satisfies BenchMessage);
  // Leaves at once, so that the peers hear of it.
  setImmediate(() => process.exit(1));
});
