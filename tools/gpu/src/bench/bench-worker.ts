import { parentPort, workerData } from "node:worker_threads";
import { type Group, joinThreadGroup, type ThreadTicket } from "@moe-a2a/core";
import type { BenchRow } from "./figures.js";
import { measure } from "./measure.js";
import { configOf, median, type Point, pointsOf, shapes } from "./points.js";
import { BenchRank } from "./rank.js";

/** What a rank is asked to do. */
export interface BenchJob {
  readonly ticket: ThreadTicket;
  readonly devices: number;
  readonly samples: number;
  readonly roundsPerGraph: number;
  /** Most tokens per rank. */
  readonly largest: number;
  readonly seed: number;
}

export type BenchMessage =
  | { readonly row: BenchRow }
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

async function run(job: BenchJob): Promise<void> {
  const group = joinThreadGroup(job.ticket);
  const { rank, size } = group;
  const device = rank % job.devices;
  for (const shape of shapes) {
    const config = configOf(shape, size, Math.min(job.largest, Math.max(...shape.tokens)));
    const bench = await BenchRank.create(config, shape, group, device, job.seed);
    for (const point of pointsOf(shape, size, config.maxTokensPerRank)) {
      const at = (what: string) => (error: unknown) => {
        throw new Error(`${what}: ${describePoint(point)}`, { cause: error });
      };
      await bench.verify(point).catch(at("before timing"));
      const times = await measure(bench, point, job).catch(at("timing"));
      await bench.verify(point).catch(at("after timing"));
      const medians = [times.dispatch, times.combine, times.round].map((t) => t && median(t));
      const [dispatch, combine, round] = await slowest(group, medians);
      if (rank > 0) continue;
      const row: BenchRow = {
        shape: shape.name,
        tokens: point.tokens,
        slots: point.slots,
        ...(point.idle === undefined ? {} : { idle: point.idle }),
        ...(dispatch === undefined ? {} : { dispatch }),
        ...(combine === undefined ? {} : { combine }),
        round: round!,
      };
      parentPort!.postMessage({ row } satisfies BenchMessage);
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
