import type { MoeAllToAllConfig } from "./config.js";
import { MoeA2AError } from "./errors.js";
import { describe } from "./tensor.js";

type Placement = Pick<MoeAllToAllConfig, "epSize" | "numExperts">;

/**
 * The experts `[start, end)` of `rank`. Placement is contiguous: the first `numExperts mod epSize` ranks own one more
 * than the others.
 *
 * @throws ERR_MOE_A2A_ARGUMENT for a rank outside `[0, epSize)`
 */
export function expertRange({ epSize, numExperts }: Placement, rank: number): { start: number; end: number } {
  if (!Number.isInteger(rank) || rank < 0 || rank >= epSize) {
    throw new MoeA2AError(
      "ERR_MOE_A2A_ARGUMENT",
      `expertRange(): the rank is ${describe(rank)}; ranks are 0…${epSize - 1}`,
      { argument: "rank" },
    );
  }
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
