import {
  argumentError,
  type CheckedCombine,
  type CheckedDispatch,
  type CheckedTensor,
  type CudaTensor,
  misplacedExpertOutputError,
  misplacedOutError,
  ownOutputError,
  sharedOutError,
} from "@moe-a2a/core";
import type { CudaContext } from "./context.js";
import type { Lane } from "./lane.js";
import { overlaps, rangeOf } from "./memory-range.js";

/** @throws ERR_MOE_A2A_ARGUMENT where an input lies in what the lane's dispatches write, this one too, while it is read */
export function checkInputsPlaced(
  { rank }: CudaContext,
  lane: Lane,
  checked: CheckedDispatch<CudaTensor>,
): void {
  const check = (argument: string, t: CheckedTensor<CudaTensor> | undefined) => {
    if (!t || !lane.shown.some((memory) => overlaps(rangeOf(t), memory))) return;
    throw argumentError(
      rank,
      argument,
      `lies in what lane ${lane.index} showed of its last round, which this dispatch writes; pass a copy`,
    );
  };
  check("tokenSelectedExperts", checked.tokenSelectedExperts);
  for (const [p, payload] of checked.payloads.entries()) check(`payloads[${p}]`, payload);
  check("expertStats", checked.expertStats);
  check("numLocalTokens", checked.tokenCount);
}

/**
 * @throws ERR_MOE_A2A_ARGUMENT where expert output lies across the memory that peers read the results from, where `out` lies
 * in memory of the plan, and where one lies across the other
 */
export function checkCombinePlaced(
  { rank }: CudaContext,
  lane: Lane,
  { expertOutput, out }: CheckedCombine<CudaTensor>,
  target: CheckedTensor<CudaTensor>,
): void {
  const rows = rangeOf(expertOutput);
  if (expertOutput.data !== lane.combineBuffer.start && overlaps(rows, lane.combineBuffer)) {
    throw misplacedExpertOutputError(rank);
  }
  if (out && lane.workspace.some((memory) => overlaps(rangeOf(out), memory))) throw misplacedOutError(rank);
  if (overlaps(rangeOf(target), rows)) throw out ? sharedOutError(rank) : ownOutputError(rank);
}
