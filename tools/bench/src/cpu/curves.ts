import {
  type Combine,
  createLocalGroup,
  type Dispatch,
  expertOwner,
  type MoeAllToAll,
  tensor,
} from "@moe-a2a/core";
import { jsBackend } from "@moe-a2a/js";
import { fitLine, spread } from "../stats.js";
import { type Plan, timeAsync } from "./plan.js";

export interface Shape {
  readonly ranks: number;
  readonly tokens: number;
  readonly topK: number;
  /** bfloat16 elements of a row. */
  readonly hidden: number;
}

/** One factor at a time. */
interface Factor {
  readonly over: keyof Shape;
  /** The other factors. */
  readonly base: Shape;
  readonly values: readonly number[];
  /** What the cost should grow with. */
  readonly x: "ranks" | "rows" | "hidden";
}

const BASE: Shape = { ranks: 4, tokens: 32, topK: 4, hidden: 1024 };

const FACTORS: readonly (Factor & { readonly name: string })[] = [
  // Without tokens there are but flags and headers, one for each other rank.
  {
    name: "ranks, idle",
    over: "ranks",
    base: { ...BASE, tokens: 0, topK: 1 },
    values: [1, 2, 4, 8, 16, 32, 64],
    x: "ranks",
  },
  // One expert per token: as many rows, however many ranks; short ones, so that all ranks fit into this thread's caches.
  {
    name: "ranks",
    over: "ranks",
    base: { ...BASE, tokens: 8, topK: 1, hidden: 64 },
    values: [1, 2, 4, 8, 16, 32, 64],
    x: "ranks",
  },
  { name: "tokens", over: "tokens", base: BASE, values: [0, 8, 32, 64, 128, 256, 512], x: "rows" },
  {
    name: "experts per token",
    over: "topK",
    base: { ...BASE, ranks: 16 },
    values: [1, 2, 4, 8, 16],
    x: "rows",
  },
  {
    name: "hidden size",
    over: "hidden",
    base: BASE,
    values: [128, 512, 1024, 2048, 4096, 7168],
    x: "hidden",
  },
];

export interface CurvePoint {
  readonly value: number;
  /** Rows that a rank sends. */
  readonly rows: number;
  /** Microseconds of processors for one rank's round, all ranks on one thread. */
  readonly micros: number;
}

export interface Curve {
  readonly name: string;
  readonly over: keyof Shape;
  readonly base: Shape;
  readonly points: readonly CurvePoint[];
  readonly x: Factor["x"];
  /** Microseconds per `x`, microseconds without any, and how straight the line is. */
  readonly fit: ReturnType<typeof fitLine>;
}

/** Experts one after another, so that tokens spread evenly over ranks. */
function routing({ tokens, topK }: Shape, numExperts: number): Int32Array {
  return Int32Array.from({ length: tokens * topK }, (_, i) => (i * 7) % numExperts);
}

/** Rows that a rank sends: one for each distinct rank that a token goes to. */
function rowsOf({ ranks, tokens, topK }: Shape, numExperts: number, ids: Int32Array): number {
  let rows = 0;
  for (let token = 0; token < tokens; token++) {
    const experts = ids.subarray(token * topK, (token + 1) * topK);
    rows += new Set(Array.from(experts, (id) => expertOwner({ epSize: ranks, numExperts }, id))).size;
  }
  return rows;
}

/** Rounds of one shape, with all their ranks on this thread. */
interface Runner {
  readonly value: number;
  readonly shape: Shape;
  readonly rows: number;
  readonly play: (rounds: number) => Promise<void>;
  readonly close: () => Promise<unknown>;
}

async function startShape(value: number, shape: Shape): Promise<Runner> {
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
  const ids = routing(shape, numExperts);
  const input = {
    numLocalTokens: tokens,
    tokenSelectedExperts: tensor("int32", [tokens, topK], ids),
    payloads: [tensor("bfloat16", [tokens, hidden])],
    runtimeMaxTokensPerRank: tokens,
  };
  const dispatches: Dispatch[] = [];
  const combines: Combine[] = [];
  const play = async (rounds: number): Promise<void> => {
    for (let i = 0; i < rounds; i++) {
      for (let r = 0; r < epSize; r++) dispatches[r] = ranks[r]!.dispatch(input);
      for (let r = 0; r < epSize; r++) await dispatches[r]!.ready();
      for (let r = 0; r < epSize; r++) {
        const dispatch = dispatches[r]!;
        combines[r] = dispatch.combine(dispatch.combineBuffer(hidden, "bfloat16"));
      }
      for (let r = 0; r < epSize; r++) await combines[r]!.ready();
    }
  };
  const close = () => Promise.all(ranks.map((a2a) => a2a.close()));
  return { value, shape, rows: rowsOf(shape, numExperts, ids), play, close };
}

/** Measures all shapes of a curve in turns, so that each sees the same machine. */
async function measureShapes(plan: Plan, runners: readonly Runner[]): Promise<CurvePoint[]> {
  const samples = runners.map((): number[] => []);
  for (let s = -WARM_UPS; s < plan.samples; s++) {
    for (const [i, { play, shape }] of runners.entries()) {
      const { cpu } = await timeAsync(plan, play, 2);
      if (s >= 0) samples[i]!.push(cpu / shape.ranks);
    }
  }
  // The least: what others on the machine do only adds to it.
  return runners.map(({ value, rows }, i) => ({ value, rows, micros: spread(samples[i]!).least }));
}

const WARM_UPS = 4;

/** How the cost of a rank's round grows with ranks, tokens, experts per token and hidden size. */
export async function measureCurves(plan: Plan): Promise<Curve[]> {
  const curves: Curve[] = [];
  for (const { name, over, base, values, x } of FACTORS) {
    const runners: Runner[] = [];
    for (const value of values) runners.push(await startShape(value, { ...base, [over]: value }));
    const points = await measureShapes(plan, runners);
    await Promise.all(runners.map(({ close }) => close()));
    const line = points.map((p) => [x === "rows" ? p.rows : p.value, p.micros] as const);
    curves.push({ name, over, base, points, x, fit: fitLine(line) });
  }
  return curves;
}
