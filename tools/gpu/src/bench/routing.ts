import { expertOwner, expertRange } from "@moe-a2a/core";
import type { Shape } from "./shapes.js";

/** How tokens choose their experts. */
export type Routing = "random" | "zipf" | "hot" | "local" | "remote";

/** xorshift32: fast enough for inputs of hundreds of megabytes. */
export function bits(seed: number): () => number {
  let x = seed | 0 || 1;
  return () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return x >>> 0;
  };
}

/** Draws one expert. */
type Draw = (k: number) => number;

/** The n-th most popular expert is n times as rare as the first; which is which depends on the seed alone. */
function zipf(experts: number, next: () => number): Draw {
  const order = Array.from({ length: experts }, (_, e) => (e * 97 + 13) % experts);
  const sums = new Float64Array(experts);
  let sum = 0;
  for (let i = 0; i < experts; i++) {
    sum += 1 / (i + 1);
    sums[i] = sum;
  }
  return () => {
    const at = (next() / 2 ** 32) * sum;
    let low = 0;
    let high = experts - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sums[middle]! < at) low = middle + 1;
      else high = middle;
    }
    return order[low]!;
  };
}

function drawing(shape: Shape, ranks: number, rank: number, next: () => number): Draw {
  const { experts, topK, routing } = shape;
  const within = ({ start, end }: { start: number; end: number }) => start + (next() % (end - start));
  const config = { epSize: ranks, numExperts: experts };
  const own = expertRange(config, rank);
  switch (routing) {
    case "zipf":
      return zipf(experts, next);
    case "hot":
      // Half of each token's experts are those of rank 0.
      return (k) => (k < topK / 2 ? within(expertRange(config, 0)) : next() % experts);
    case "local":
      return () => within(own);
    case "remote":
      return () => {
        const e = next() % (experts - (own.end - own.start));
        return e < own.start ? e : e + own.end - own.start;
      };
    default:
      return () => next() % experts;
  }
}

/** Expert ids of a rank's tokens, `[tokens, topK]`, distinct within a token. */
export function drawIds(shape: Shape, tokens: number, ranks: number, rank: number, seed: number): Int32Array {
  const { topK } = shape;
  const draw = drawing(shape, ranks, rank, bits(seed * 1000 + rank + 1));
  const ids = new Int32Array(tokens * topK);
  for (let at = 0; at < ids.length; at += topK) {
    for (let k = 0; k < topK; ) {
      const id = draw(k);
      if (!ids.subarray(at, at + k).includes(id)) ids[at + k++] = id;
    }
  }
  return ids;
}

/** Rows that go from each rank to each other one, `[from][to]`, with `counts` tokens by rank. */
export function rowsBetween(shape: Shape, ids: readonly Int32Array[], counts: readonly number[]): number[][] {
  const ranks = ids.length;
  const config = { epSize: ranks, numExperts: shape.experts };
  return ids.map((own, from) => {
    const rows = new Array<number>(ranks).fill(0);
    for (let t = 0; t < counts[from]!; t++) {
      const targets = new Set<number>();
      for (let k = 0; k < shape.topK; k++) targets.add(expertOwner(config, own[t * shape.topK + k]!));
      for (const to of targets) rows[to]!++;
    }
    return rows;
  });
}
