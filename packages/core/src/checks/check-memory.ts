import type { AbortSignalLike } from "../api.js";
import { type DType, isDType, type TensorData, typedArrayOf } from "../dtype.js";
import { byteLengthOf, copyShape, describe, isTypedArray, numElements, shapeProblem } from "../tensor.js";
import { argumentError } from "./check-tensor.js";

/**
 * Checks what `empty()` is asked for.
 *
 * @returns the shape, read once, and the bytes of the tensor
 * @throws ERR_MOE_A2A_ARGUMENT
 */
export function checkEmpty(
  rank: number,
  dtype: DType,
  given: readonly number[],
): { readonly shape: readonly number[]; readonly bytes: number } {
  const shape = copyShape(given) as readonly number[];
  if (!isDType(dtype)) throw argumentError(rank, "dtype", `${describe(dtype)} is not a dtype`);
  const problem = shapeProblem(shape);
  if (problem) throw argumentError(rank, "shape", problem);
  return { shape, bytes: byteLengthOf(dtype, shape) };
}

/**
 * Checks that `data` holds the elements of a tensor.
 *
 * @throws ERR_MOE_A2A_ARGUMENT
 */
export function checkTensorData(
  rank: number,
  { dtype, shape }: { readonly dtype: DType; readonly shape: readonly number[] },
  data: unknown,
): TensorData {
  const { name } = typedArrayOf(dtype);
  const count = numElements(shape);
  const isArray = isTypedArray(data, name);
  if (isArray && data.length === count) return data;
  const length = isArray ? ` of ${data.length} elements` : "";
  throw argumentError(rank, "data", `is ${describe(data)}${length}; the tensor takes a ${name} of ${count}`);
}

/** @throws ERR_MOE_A2A_ARGUMENT for something that is neither an `AbortSignal` nor undefined */
export function checkSignal(rank: number, signal: unknown): AbortSignalLike | undefined {
  if (signal === undefined) return undefined;
  const { addEventListener, removeEventListener } = (signal ?? {}) as Partial<AbortSignalLike>;
  if (typeof addEventListener === "function" && typeof removeEventListener === "function") {
    return signal as AbortSignalLike;
  }
  throw argumentError(rank, "options.signal", `is ${describe(signal)}, not an AbortSignal`);
}
