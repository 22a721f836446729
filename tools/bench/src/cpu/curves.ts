import { createLocalGroup, type MoeAllToAll, tensor } from "@moe-a2a/core";
import { jsBackend } from "@moe-a2a/js";
import { fitLine, spread } from "../stats.js";
import { type Plan, timeAsync } from "./plan.js";

/** One factor at a time around this. */
const BASE = { ranks: 4, tokens: 32, topK: 4, hidden: 1024 } as const;
type Shape = { readonly [K in keyof typeof BASE]: number };

export interface Curve {
  readonly over: keyof Shape;
  /** Microseconds of a round, all ranks on one thread. */
  readonly points: readonly { readonly value: number; readonly rows: number; readonly micros: number }[];
  /** Microseconds per value, and how straight the line is. */
  readonly fit: ReturnType<typeof fitLine>;
}

async function measureShape(plan: Plan, shape: Shape): Promise<number> {
  const { ranks: epSize, tokens, topK, hidden } = shape;
  const numExperts = Math.max(epSize, topK) * 2;
  const config = {
    epSize,
    numExperts,
    topK,
    maxTokensPerRank: Math.max(1, tokens),
    maxDispatchBytesPerToken: 2 * hidden,
    maxCombineBytesPerToken: 2 * hidden,
  };
  const ranks = (await Promise.all(
    createLocalGroup(epSize).map((group) => jsBackend.create(config, group)),
  )) as unknown as MoeAllToAll[];
  // Experts one after another, so that tokens spread evenly over ranks.
  const ids = Int32Array.from({ length: tokens * topK }, (_, i) => (i * 7) % numExperts);
  const input = {
    numLocalTokens: tokens,
    tokenSelectedExperts: tensor("int32", [tokens, topK], ids),
    payloads: [tensor("bfloat16", [tokens, hidden])],
  };
  const round = async (): Promise<void> => {
    const dispatches = ranks.map((a2a) => a2a.dispatch(input));
    for (const dispatch of dispatches) await dispatch.ready();
    const combines = dispatches.map((d) => d.combine(d.combineBuffer(hidden, "bfloat16")));
    for (const combine of combines) await combine.ready();
  };
  await timeAsync(plan, round, 2);
  const samples: number[] = [];
  for (let s = 0; s < 3; s++) samples.push(await timeAsync(plan, round, 2));
  await Promise.all(ranks.map((a2a) => a2a.close()));
  return spread(samples).median;
}

const VALUES: { readonly [K in keyof Shape]: readonly number[] } = {
  ranks: [1, 2, 4, 8, 16, 32, 64],
  tokens: [0, 1, 8, 32, 128, 512],
  topK: [1, 2, 4, 8, 16],
  hidden: [128, 512, 1024, 4096, 7168],
};

/** How the time of a round grows with ranks, tokens, experts per token and hidden size. */
export async function measureCurves(plan: Plan): Promise<Curve[]> {
  const curves: Curve[] = [];
  for (const over of Object.keys(VALUES) as (keyof Shape)[]) {
    const points: Curve["points"][number][] = [];
    for (const value of VALUES[over]) {
      const shape: Shape = { ...BASE, [over]: value };
      const micros = await measureShape(plan, shape);
      points.push({ value, rows: shape.ranks * shape.tokens * Math.min(shape.topK, shape.ranks), micros });
    }
    curves.push({ over, points, fit: fitLine(points.map(({ value, micros }) => [value, micros])) });
  }
  return curves;
}
