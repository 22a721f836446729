import { type DType, describe, MoeA2AError, type Tensor } from "@moe-a2a/core";

/** An ARGUMENT error; `message` tells where and what. */
export function argumentError(
  argument: string,
  message: string,
  options?: { cause?: unknown },
): MoeA2AError<"ERR_MOE_A2A_ARGUMENT"> {
  return new MoeA2AError("ERR_MOE_A2A_ARGUMENT", message, { argument }, options);
}

/**
 * Checks that `value` is an integer from `low` to `high`.
 *
 * @throws ERR_MOE_A2A_ARGUMENT
 */
export function checkInteger(
  where: string,
  argument: string,
  value: unknown,
  low: number,
  high: number = Number.MAX_SAFE_INTEGER,
): number {
  if (Number.isSafeInteger(value) && (value as number) >= low && (value as number) <= high)
    return value as number;
  const range = high === Number.MAX_SAFE_INTEGER ? `>= ${low}` : `from ${low} to ${high}`;
  throw argumentError(
    argument,
    `${where}: ${argument} is ${describe(value)}; it must be an integer ${range}`,
  );
}

/** A tensor's dtype and shape in a message. */
export function formatTensor(t: {
  readonly dtype: DType;
  readonly shape: readonly (number | string)[];
}): string {
  const dimensions =
    t.shape.length > 64 ? ["…"] : t.shape.map((d) => (typeof d === "string" ? d : describe(d)));
  return `${t.dtype} [${dimensions.join(", ")}]`;
}

/** Whether `value` has a tensor's form: dtype, shape, device and data. */
export function isTensor(value: unknown): value is Tensor {
  if (typeof value !== "object" || value === null) return false;
  const t = value as Partial<Tensor>;
  return (
    typeof t.dtype === "string" &&
    Array.isArray(t.shape) &&
    typeof t.device?.type === "string" &&
    t.data !== undefined
  );
}

/**
 * Checks that `value` is a tensor of this dtype and shape; a dimension that is a name is free.
 *
 * @throws ERR_MOE_A2A_ARGUMENT
 */
export function checkTensor(
  where: string,
  argument: string,
  value: unknown,
  dtype: DType,
  shape: readonly (number | string)[],
): void {
  const expected = `it must be ${formatTensor({ dtype, shape })}`;
  if (!isTensor(value)) {
    throw argumentError(argument, `${where}: ${argument} is ${describe(value)}, not a tensor; ${expected}`);
  }
  const fits =
    value.shape.length === shape.length &&
    shape.every((d, i) => typeof d === "string" || d === value.shape[i]);
  if (value.dtype === dtype && fits) return;
  // The commonest slip: frameworks make int64 ids, and half of each would be read as the next id.
  const hint = value.dtype === "int64" && dtype === "int32" ? " (int64 ids have to be converted first)" : "";
  throw argumentError(argument, `${where}: ${argument} is ${formatTensor(value)}; ${expected}${hint}`);
}
