import {
  bytesPerElement,
  type DType,
  isDType,
  type TensorData,
  type TypedArrayOf,
  typedArrayOf,
} from "./dtype.js";
import { MoeA2AError } from "./errors.js";

/** A dense row-major tensor in host memory. Structural: any object of this form will do. */
export interface CpuTensor<D extends DType = DType> {
  readonly dtype: D;
  readonly shape: readonly number[];
  readonly device: { readonly type: "cpu"; readonly id: 0 };
  /** Exactly the tensor's elements; float16 and bfloat16 as `Uint16Array`, 8-bit types as `Uint8Array`. */
  readonly data: TypedArrayOf<D>;
}

/** A dense row-major tensor in device memory. */
export interface CudaTensor<D extends DType = DType> {
  readonly dtype: D;
  readonly shape: readonly number[];
  readonly device: { readonly type: "cuda"; readonly id: number };
  /** Device address of the first element; borrowed, never freed. */
  readonly data: bigint;
}

/** Row-major, dense elements on the CPU or on a GPU; any object of this form is one. */
export type Tensor = CpuTensor | CudaTensor;

/** The device of every {@link CpuTensor}. */
export const CPU: CpuTensor["device"] = Object.freeze({ type: "cpu", id: 0 });

/** Product of a shape's dimensions. */
export function numElements(shape: readonly number[]): number {
  let n = 1;
  for (let i = 0; i < shape.length; i++) n *= shape[i] as number;
  return n;
}

/** Bytes of a tensor of this dtype and shape. */
export function byteLengthOf(dtype: DType, shape: readonly number[]): number {
  return numElements(shape) * bytesPerElement(dtype);
}

/** More are no tensor's; a list with a length of billions is not gone through, nor put into a message. */
const MAX_DIMENSIONS = 64;
const TOO_LONG: readonly undefined[] = Object.freeze(new Array<undefined>(MAX_DIMENSIONS + 1));

/** A copy, so that what {@link shapeProblem} has checked is what is used; but none of a list too long to be a shape. */
export function copyShape(given: unknown): unknown {
  if (!Array.isArray(given)) return given;
  // This runs for every tensor of every round: slice() of a frozen array is slow, and spread is slower than this.
  const { length } = given;
  if (length === 2) return [given[0], given[1]];
  if (length === 3) return [given[0], given[1], given[2]];
  return length > MAX_DIMENSIONS ? TOO_LONG : [...given];
}

/** What is wrong with `shape`, or undefined: it must be a list of at most 64 non-negative safe integers. */
export function shapeProblem(shape: unknown): string | undefined {
  if (!Array.isArray(shape)) return `is ${describe(shape)}, not an array of dimensions`;
  if (shape.length > MAX_DIMENSIONS) return `has more than ${MAX_DIMENSIONS} dimensions`;
  for (let i = 0; i < shape.length; i++) {
    const d: unknown = shape[i];
    if (!Number.isSafeInteger(d) || (d as number) < 0)
      return `has the dimension ${describe(d)}; dimensions are integers >= 0`;
  }
  return Number.isSafeInteger(numElements(shape)) ? undefined : `[${shape}] has too many elements`;
}

/** A short text for a value of any type, safe to put into a message. */
export function describe(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
  if (typeof value === "bigint") return `${value}n`;
  if (Object.is(value, -0)) return "-0";
  if (value === null || typeof value !== "object")
    return typeof value === "function" ? "a function" : String(value);
  const name = Object.prototype.toString.call(value).slice(8, -1);
  return name === "Object" ? "an object" : Array.isArray(value) ? `an array of ${value.length}` : `a ${name}`;
}

/**
 * Makes a {@link CpuTensor} over `data`, which is borrowed, or over new zeros.
 *
 * @param data a typed array of the dtype's class with exactly the shape's elements, or numbers to copy (bits for the
 * 16-bit and 8-bit floats)
 * @throws ERR_MOE_A2A_ARGUMENT where dtype, shape and data do not fit together
 */
export function tensor<D extends DType>(
  dtype: D,
  given: readonly number[],
  data?: TypedArrayOf<D> | readonly number[] | readonly bigint[],
): CpuTensor<D> {
  if (!isDType(dtype)) throw argument("dtype", `tensor(): ${describe(dtype)} is not a dtype`);
  const shape = copyShape(given) as readonly number[];
  const problem = shapeProblem(shape);
  if (problem) throw argument("shape", `tensor(): shape ${problem}`);
  const TypedArray = typedArrayOf(dtype);
  const count = numElements(shape);
  const wrong = (what: string) =>
    argument(
      "data",
      `tensor(): a ${dtype} tensor of shape [${shape}] takes ${count} elements in a ${TypedArray.name}; ${what}`,
    );

  if (data === undefined) return make(dtype, shape, allocate(dtype, count));
  if (Array.isArray(data)) {
    if (data.length !== count) throw wrong(`the array has ${data.length}`);
    const elements = allocate(dtype, count);
    for (let i = 0; i < count; i++) {
      const value: unknown = data[i];
      const wanted = typeof elements[i];
      if (typeof value !== wanted) throw wrong(`element ${i} is ${describe(value)}, not a ${wanted}`);
      elements[i] = value as never;
      // Floats round; everything else has to be held as it was given.
      if (dtype !== "float32" && elements[i] !== value) {
        throw wrong(`element ${i} is ${describe(value)}, which such an array cannot hold`);
      }
    }
    return make(dtype, shape, elements);
  }
  if (!isTypedArray(data, TypedArray.name)) throw wrong(`data is ${describe(data)}`);
  if (data.length !== count) throw wrong(`data has ${data.length}`);
  return make(dtype, shape, data as TypedArrayOf<D>);
}

/** Whether `value` is a typed array of this class, whichever realm it comes from. */
export function isTypedArray(value: unknown, name: string): value is TensorData {
  return (
    ArrayBuffer.isView(value) && (value as { [Symbol.toStringTag]?: unknown })[Symbol.toStringTag] === name
  );
}

function allocate<D extends DType>(dtype: D, count: number): TypedArrayOf<D> {
  try {
    return new (typedArrayOf(dtype))(count);
  } catch (cause) {
    throw argument(
      "shape",
      `tensor(): ${count} elements of ${dtype} cannot be allocated: ${(cause as Error).message}`,
      cause,
    );
  }
}

function make<D extends DType>(dtype: D, shape: readonly number[], data: TypedArrayOf<D>): CpuTensor<D> {
  return { dtype, shape: Object.freeze([...shape]), device: CPU, data };
}

function argument(name: string, message: string, cause?: unknown): MoeA2AError<"ERR_MOE_A2A_ARGUMENT"> {
  return new MoeA2AError(
    "ERR_MOE_A2A_ARGUMENT",
    message,
    { argument: name },
    cause === undefined ? undefined : { cause },
  );
}
