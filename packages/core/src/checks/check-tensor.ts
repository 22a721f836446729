import type { ResolvedConfig } from "../config.js";
import { type DType, isDType, typedArrayOf } from "../dtype.js";
import { MoeA2AError } from "../errors.js";
import { copyShape, describe, isTypedArray, numElements, shapeProblem, type Tensor } from "../tensor.js";

/** Which rank checks, with which config, for tensors of which device. */
export interface CheckContext {
  readonly config: ResolvedConfig;
  readonly rank: number;
  readonly device: Tensor["device"]["type"];
  /** Which GPU; undefined takes any. */
  readonly deviceId?: number;
}

/** A tensor's fields, each read once: what was checked is what is used. */
export interface CheckedTensor<T extends Tensor = Tensor> {
  readonly dtype: T["dtype"];
  readonly shape: readonly number[];
  readonly data: T["data"];
}

/** What a tensor has to be; `undefined` dimensions are free, and `dims` names them all. Without a shape, any. */
export interface ExpectedTensor {
  readonly dtype?: readonly DType[];
  readonly shape?: readonly (number | undefined)[];
  readonly dims?: string;
}

/** An ARGUMENT error; the message starts with the rank and the argument's name. */
export function argumentError(
  rank: number,
  argument: string,
  problem: string,
): MoeA2AError<"ERR_MOE_A2A_ARGUMENT"> {
  return new MoeA2AError("ERR_MOE_A2A_ARGUMENT", `rank ${rank}: ${argument} ${problem}`, { argument });
}

/**
 * Checks that `value` is a tensor of this device, dtype and shape.
 *
 * @throws ERR_MOE_A2A_ARGUMENT
 */
export function checkTensor<T extends Tensor = Tensor>(
  context: CheckContext,
  argument: string,
  value: unknown,
  expected: ExpectedTensor,
): CheckedTensor<T> {
  const fail = (problem: string) => argumentError(context.rank, argument, problem);
  if (typeof value !== "object" || value === null) throw fail(`is ${describe(value)}, not a tensor`);
  const { dtype, shape: given, device, data } = value as Partial<Tensor>;
  if (dtype === undefined && given === undefined) throw fail(`is ${describe(value)}, not a tensor`);
  if (!isDType(dtype)) throw fail(`has the dtype ${describe(dtype)}, which is none`);
  const shape = copyShape(given);
  const problem = shapeProblem(shape);
  if (problem) throw fail(`has a shape that ${problem}`);
  const dimensions = shape as readonly number[];
  if (device?.type !== context.device) {
    throw fail(`is on device ${describe(device?.type)}; this backend takes ${context.device} tensors`);
  }
  if (context.deviceId !== undefined && device.id !== context.deviceId) {
    throw fail(
      `is on ${context.device} device ${describe(device.id)}; this rank is on device ${context.deviceId}`,
    );
  }
  if (expected.dtype && !expected.dtype.includes(dtype)) {
    const isWide = dtype === "int64" && expected.dtype.includes("int32");
    const hint = isWide ? "; convert the ids, they are not read as they are" : "";
    throw fail(`has dtype ${dtype}; it must be ${expected.dtype.join(" or ")}${hint}`);
  }
  if (expected.shape && !matchesShape(dimensions, expected.shape)) {
    const { shape: wanted, dims = "" } = expected;
    const names = dims.split(", ");
    const text = wanted.map((size, i) => size ?? names[i]).join(", ");
    throw fail(`has shape [${dimensions.join(", ")}]; it must be [${text}] (${dims})`);
  }
  const dataProblem =
    context.device === "cuda" ? addressProblem(data, dimensions) : arrayProblem(data, dtype, dimensions);
  if (dataProblem) throw fail(dataProblem);
  return { dtype, shape: dimensions, data: data as T["data"] };
}

/**
 * Checks again what was checked first: reading the arguments after it may have run code of the caller, which may have
 * transferred its array away or shrunk its buffer.
 *
 * @throws ERR_MOE_A2A_ARGUMENT
 */
export function checkKept(context: CheckContext, argument: string, tensor: CheckedTensor | undefined): void {
  if (context.device !== "cpu" || tensor === undefined) return;
  const problem = arrayProblem(tensor.data, tensor.dtype, tensor.shape);
  if (problem) throw argumentError(context.rank, argument, problem);
}

function matchesShape(shape: readonly number[], expected: readonly (number | undefined)[]): boolean {
  if (shape.length !== expected.length) return false;
  for (let i = 0; i < shape.length; i++) {
    if (expected[i] !== undefined && shape[i] !== expected[i]) return false;
  }
  return true;
}

function addressProblem(data: unknown, shape: readonly number[]): string | undefined {
  if (typeof data !== "bigint")
    return `has data of type ${typeof data}; a cuda tensor holds an address (bigint)`;
  const count = numElements(shape);
  return data === 0n && count > 0 ? `has a null address for ${count} elements` : undefined;
}

function arrayProblem(data: unknown, dtype: DType, shape: readonly number[]): string | undefined {
  const { name } = typedArrayOf(dtype);
  if (!isTypedArray(data, name))
    return `has data that is ${describe(data)}; a ${dtype} tensor holds a ${name}`;
  const count = numElements(shape);
  return data.length === count
    ? undefined
    : `has ${data.length} elements in data, but shape [${shape.join(", ")}] has ${count}`;
}
