import type { MoeAllToAllConfig } from "@moe-a2a/core";
import type { Routing } from "./routing.js";

/** A model's layer, how its tokens are routed, and where it is measured. */
export interface Shape {
  readonly name: string;
  readonly hidden: number;
  readonly topK: number;
  readonly experts: number;
  /** What hidden states go out as; results come back as bfloat16. Default bfloat16. */
  readonly sent?: "fp8";
  /** Default random. */
  readonly routing?: Routing;
  /** Most multiprocessors that a phase takes; default all. */
  readonly maxSms?: number;
  /** How rows go, whatever the library would choose: to see whether it chooses well. */
  readonly wireForm?: "rows" | "pushedRows";
  /** Tokens per rank that are measured. */
  readonly tokens: readonly number[];
  /** Tokens per rank at which some ranks have none, or fewer than others. */
  readonly unevenAt?: readonly number[];
}

const FORM_NAMES = { rows: "in rows", pushedRows: "in pushed rows" } as const;

const deepseek = { hidden: 7168, topK: 8, experts: 256 };

/** What is measured in any run: the models that other libraries were measured with. */
export const shapes: readonly Shape[] = [
  {
    name: "deepseek",
    ...deepseek,
    tokens: [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192],
    unevenAt: [128, 4096],
  },
  { name: "qwen3", hidden: 4096, topK: 8, experts: 128, tokens: [1, 32, 128, 512, 4096] },
  { name: "gpt-oss", hidden: 2880, topK: 4, experts: 128, tokens: [1, 32, 128, 512, 4096] },
];

/** One factor at a time. */
export const factors: readonly Shape[] = [
  { name: "kimi-k2", hidden: 7168, topK: 8, experts: 384, tokens: [1, 32, 128, 512, 4096] },
  { name: "top-22", hidden: 2048, topK: 22, experts: 512, tokens: [1, 32, 128, 512, 4096] },
  { name: "deepseek fp8", ...deepseek, sent: "fp8", tokens: [1, 32, 128, 512, 4096, 8192] },
  ...(["zipf", "hot", "local", "remote"] as const).map((routing) => ({
    name: `deepseek ${routing}`,
    ...deepseek,
    routing,
    tokens: [128, 4096],
  })),
  ...[8, 16, 32, 64].map((maxSms) => ({
    name: `deepseek ${maxSms} SMs`,
    ...deepseek,
    maxSms,
    tokens: [8, 128, 512, 4096],
  })),
  ...(["rows", "pushedRows"] as const).flatMap((wireForm) => [
    {
      name: `deepseek ${FORM_NAMES[wireForm]}`,
      ...deepseek,
      wireForm,
      tokens: [1, 2, 4, 8, 16, 32, 64, 128, 512, 4096],
    },
    {
      name: `deepseek 16 SMs ${FORM_NAMES[wireForm]}`,
      ...deepseek,
      wireForm,
      maxSms: 16,
      tokens: [8, 128, 512, 4096],
    },
  ]),
];

/** Bytes of a token's rows on their way out, by payload: hidden states, scales, ids, weights. */
export function sentRowBytes({ hidden, topK, sent }: Shape): number[] {
  const states = sent === "fp8" ? [hidden, (hidden / 128) * 4] : [hidden * 2];
  return [...states, topK * 4, topK * 4];
}

export function configOf(shape: Shape, ranks: number, largest: number): MoeAllToAllConfig {
  return {
    epSize: ranks,
    numExperts: shape.experts,
    topK: shape.topK,
    maxTokensPerRank: largest,
    maxDispatchBytesPerToken: sentRowBytes(shape).reduce((a, b) => a + b),
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
  for (const tokens of (shape.unevenAt ?? []).filter((t) => t <= largest)) {
    const uneven = (idle: string, counts: number[]) =>
      points.push({ shape, tokens, slots: tokens, counts, idle });
    uneven("all ranks", all(0));
    if (ranks < 2) continue;
    uneven(
      "all but rank 0",
      all(0).map((_, r) => (r === 0 ? tokens : 0)),
    );
    uneven(
      "rank 0",
      all(tokens).map((t, r) => (r === 0 ? 0 : t)),
    );
    uneven(
      "none, a ramp",
      all(tokens).map((t, r) => Math.ceil((t * (r + 1)) / ranks)),
    );
    if (ranks < 4) continue;
    const odd = all(tokens).map((t, r) => (r % 2 ? 0 : t));
    uneven(`ranks ${odd.flatMap((t, r) => (t === 0 ? [r] : [])).join(", ")}`, odd);
  }
  return points;
}
