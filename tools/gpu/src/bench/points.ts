import type { MoeAllToAllConfig } from "@moe-a2a/core";

/** What a model sends per token, in bfloat16: hidden states, expert ids, weights. */
export interface Shape {
  readonly name: string;
  readonly hidden: number;
  readonly topK: number;
  readonly experts: number;
  /** Tokens per rank that are measured. */
  readonly tokens: readonly number[];
  /** Tokens per rank at which some ranks have none. */
  readonly idleAt: readonly number[];
}

export const shapes: readonly Shape[] = [
  {
    name: "deepseek",
    hidden: 7168,
    topK: 8,
    experts: 256,
    tokens: [0, 1, 8, 32, 128, 512, 2048, 4096, 8192],
    idleAt: [128, 4096],
  },
  { name: "qwen3", hidden: 4096, topK: 8, experts: 128, tokens: [1, 32, 128, 512, 4096], idleAt: [] },
  { name: "gpt-oss", hidden: 2880, topK: 4, experts: 128, tokens: [1, 32, 128, 512, 4096], idleAt: [] },
];

export function configOf(shape: Shape, ranks: number, largest: number): MoeAllToAllConfig {
  return {
    epSize: ranks,
    numExperts: shape.experts,
    topK: shape.topK,
    maxTokensPerRank: largest,
    maxDispatchBytesPerToken: shape.hidden * 2 + shape.topK * 8,
    maxCombineBytesPerToken: shape.hidden * 2,
    timeoutMs: 10_000,
  };
}

/** One line of the benchmark. */
export interface Point {
  readonly shape: Shape;
  readonly tokens: number;
  readonly slots: number;
  readonly counts: readonly number[];
  readonly idle?: string;
}

/** Everything that is measured of a shape, with at most `largest` tokens per rank. */
export function pointsOf(shape: Shape, ranks: number, largest: number): Point[] {
  const all = (tokens: number) => new Array<number>(ranks).fill(tokens);
  const points: Point[] = shape.tokens
    .filter((tokens) => tokens <= largest)
    .map((tokens) => ({ shape, tokens, slots: Math.max(tokens, 1), counts: all(tokens) }));
  if (shape.tokens.includes(0)) points.splice(1, 0, { shape, tokens: 0, slots: 0, counts: all(0) });
  for (const tokens of shape.idleAt.filter((t) => t <= largest)) {
    points.push({ shape, tokens, slots: tokens, counts: all(0), idle: "all ranks" });
    if (ranks < 2) continue;
    const but = all(0);
    but[0] = tokens;
    points.push({ shape, tokens, slots: tokens, counts: but, idle: "all but rank 0" });
    if (ranks < 4) continue;
    const odd = all(tokens).map((t, r) => (r % 2 ? 0 : t));
    const idle = `ranks ${odd.flatMap((t, r) => (t === 0 ? [r] : [])).join(", ")}`;
    points.push({ shape, tokens, slots: tokens, counts: odd, idle });
  }
  return points;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
