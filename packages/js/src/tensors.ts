import { CPU, type CpuTensor, type DType, numElements, typedArrayOf } from "@moe-a2a/core";

/** A view of window or private memory as a tensor. */
export function tensorAt(
  memory: ArrayBufferLike,
  byteOffset: number,
  dtype: DType,
  shape: readonly number[],
): CpuTensor {
  const data = new (typedArrayOf(dtype))(memory, byteOffset, numElements(shape));
  return { dtype, shape, device: CPU, data };
}
