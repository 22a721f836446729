import {
  argumentError,
  bytesPerElement,
  type CheckedDispatch,
  type CheckedTensor,
  type CudaTensor,
} from "@moe-a2a/core";

/** A load or store at an address that is no multiple of its size ends the whole CUDA context, so it is refused before. */
export function checkAligned(rank: number, argument: string, t: CheckedTensor<CudaTensor> | undefined): void {
  if (!t) return;
  const bytes = bytesPerElement(t.dtype);
  if (t.data % BigInt(bytes) === 0n) return;
  const address = `0x${t.data.toString(16)}`;
  throw argumentError(
    rank,
    argument,
    `lies at ${address}; ${t.dtype} has to lie at a multiple of ${bytes} bytes here (payloads may lie anywhere)`,
  );
}

/** What a dispatch reads other than payloads. */
export function checkInputsAligned(rank: number, checked: CheckedDispatch<CudaTensor>): void {
  checkAligned(rank, "tokenSelectedExperts", checked.tokenSelectedExperts);
  checkAligned(rank, "expertStats", checked.expertStats);
  checkAligned(rank, "numLocalTokens", checked.tokenCount);
}
