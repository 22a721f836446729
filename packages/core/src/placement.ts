import { LIMITS, type MoeAllToAllConfig } from "./config.js";
import { MoeA2AError } from "./errors.js";
import { describe } from "./tensor.js";

type Placement = Pick<MoeAllToAllConfig, "epSize" | "numExperts">;

/**
 * The experts `[start, end)` of `rank`. Placement is contiguous: the first `numExperts mod epSize` ranks own one more
 * than the others.
 *
 * @throws ERR_MOE_A2A_ARGUMENT for a rank outside `[0, epSize)`, and where not every rank can have an expert
 */
export function expertRange({ epSize, numExperts }: Placement, rank: number): { start: number; end: number } {
  const check = (argument: string, value: unknown, low: number, high: number): void => {
    if (Number.isInteger(value) && (value as number) >= low && (value as number) <= high) return;
    const message = `expertRange(): ${argument} is ${describe(value)}; it must be an integer from ${low} to ${high}`;
    throw new MoeA2AError("ERR_MOE_A2A_ARGUMENT", message, { argument });
  };
  check("epSize", epSize, 1, LIMITS.epSize);
  check("numExperts", numExperts, epSize, LIMITS.numExperts);
  check("rank", rank, 0, epSize - 1);
  const base = Math.floor(numExperts / epSize);
  const extra = numExperts % epSize;
  const start = rank * base + Math.min(rank, extra);
  return { start, end: start + base + (rank < extra ? 1 : 0) };
}

/** The rank that owns expert `id`, which must lie in `[0, numExperts)`. */
export function expertOwner({ epSize, numExperts }: Placement, id: number): number {
  const base = Math.floor(numExperts / epSize);
  const extra = numExperts % epSize;
  const boundary = extra * (base + 1);
  return id < boundary ? Math.floor(id / (base + 1)) : extra + Math.floor((id - boundary) / base);
}
