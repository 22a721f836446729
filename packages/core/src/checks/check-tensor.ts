import type { ResolvedConfig } from "../config.js";
import { bytesPerElement, DTYPES, type DType, type TensorData, typedArrayOf } from "../dtype.js";
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
  /** The caller's own list, once it was seen to say what `shape` says and to be frozen: it need not be read again. */
  frozenShape?: readonly number[] | undefined;
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

/** What the checks ask of a dtype: one look-up per tensor, as they run for every tensor of every round. */
interface DTypeFacts {
  /** Class of the array that holds the elements. */
  readonly array: string;
  readonly bytes: number;
}

// An object without a prototype: looking a key up there takes a third of what a Map takes.
const facts: { readonly [dtype in DType]: DTypeFacts } = Object.assign(
  Object.create(null),
  Object.fromEntries(
    DTYPES.map((dtype) => [dtype, { array: typedArrayOf(dtype).name, bytes: bytesPerElement(dtype) }]),
  ),
);

/** Bytes of one element of a dtype that was checked. */
export function elementBytes(dtype: DType): number {
  return facts[dtype].bytes;
}

/** Stands for a list that can change, and has to be read each time. */
const NOT_FROZEN: readonly number[] = Object.freeze([]);

/**
 * Reads a tensor's fields, each once, and checks what holds for all tensors; but not its data.
 *
 * @param kept what another tensor came to; handed back where this one says the same, as most do from round to round
 */
function readTensor<T extends Tensor>(
  context: CheckContext,
  argument: string,
  value: unknown,
  kept?: CheckedTensor<T>,
): CheckedTensor<T> {
  if (typeof value !== "object" || value === null) throw notATensor(context, argument, value);
  const { dtype, shape, device, data } = value as Partial<Tensor>;
  const type: unknown = device?.type;
  const { deviceId } = context;
  const id: unknown = deviceId === undefined ? undefined : device?.id;
  if (
    kept !== undefined &&
    dtype === kept.dtype &&
    data === kept.data &&
    type === context.device &&
    id === deviceId &&
    ((shape !== undefined && shape === kept.frozenShape) || isShape(shape, kept))
  )
    return kept;
  return takeTensor(context, argument, { dtype, shape, type, id, data }, value);
}

/** Whether a shape, as it is read now, says what `kept` says. */
function isShape(given: unknown, kept: CheckedTensor): boolean {
  const { shape } = kept;
  if (!Array.isArray(given) || given.length !== shape.length) return false;
  for (let i = 0; i < shape.length; i++) if (given[i] !== shape[i]) return false;
  // Asked once: frozen lists, as those of `tensor()`, take engines six times as long to read.
  if (kept.frozenShape === undefined) kept.frozenShape = Object.isFrozen(given) ? given : NOT_FROZEN;
  return true;
}

/** What {@link readTensor} does where nothing like it was read before. */
function takeTensor<T extends Tensor>(
  context: CheckContext,
  argument: string,
  fields: { dtype: unknown; shape: unknown; type: unknown; id: unknown; data: unknown },
  value: unknown,
): CheckedTensor<T> {
  const { dtype, type, data } = fields;
  if (dtype === undefined && fields.shape === undefined) throw notATensor(context, argument, value);
  if (typeof dtype !== "string" || facts[dtype as DType] === undefined) {
    throw argumentError(context.rank, argument, `has the dtype ${describe(dtype)}, which is none`);
  }
  const shape = copyShape(fields.shape);
  const problem = shapeProblem(shape);
  if (problem) throw argumentError(context.rank, argument, `has a shape that ${problem}`);
  if (type !== context.device) {
    const what = `is on device ${describe(type)}; this backend takes ${context.device} tensors`;
    throw argumentError(context.rank, argument, what);
  }
  if (context.deviceId !== undefined) checkDeviceId(context, argument, fields.id);
  return {
    dtype: dtype as T["dtype"],
    shape: shape as readonly number[],
    data: data as T["data"],
    frozenShape: undefined,
  };
}

function notATensor({ rank }: CheckContext, argument: string, value: unknown): MoeA2AError {
  return argumentError(rank, argument, `is ${describe(value)}, not a tensor`);
}

function checkDeviceId({ rank, device, deviceId }: CheckContext, argument: string, id: unknown): void {
  if (id === deviceId) return;
  const what = `is on ${device} device ${describe(id)}; this rank is on device ${deviceId}`;
  throw argumentError(rank, argument, what);
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
  const tensor = readTensor<T>(context, argument, value);
  checkExpected(context, argument, tensor, expected);
  checkData(context, argument, tensor);
  return tensor;
}

/** What a tensor has to be of which at most the first two sizes are known. */
export interface ExpectedTable {
  readonly dtype?: readonly DType[];
  /** Names of all dimensions. */
  readonly dims: string;
  readonly dimensions: number;
}

/**
 * As {@link checkTensor}, without making objects where all is right. Sizes that are `undefined` are free.
 *
 * @param kept what the same argument came to last time
 * @throws ERR_MOE_A2A_ARGUMENT
 */
export function checkTable<T extends Tensor>(
  context: CheckContext,
  argument: string,
  value: unknown,
  expected: ExpectedTable,
  first: number | undefined,
  second: number | undefined,
  kept: CheckedTensor<T> | undefined,
): CheckedTensor<T> {
  const tensor = readTensor<T>(context, argument, value, kept);
  const { shape } = tensor;
  if (
    tensor !== kept ||
    (first !== undefined && shape[0] !== first) ||
    (second !== undefined && shape[1] !== second) ||
    // An address that was found right is right; arrays can lose their elements.
    (context.device === "cpu" && !holdsAll(tensor))
  )
    checkAsTable(context, argument, tensor, expected, first, second);
  return tensor;
}

/** What {@link checkTable} does where it is not known already that all is right. */
function checkAsTable(
  context: CheckContext,
  argument: string,
  tensor: CheckedTensor,
  expected: ExpectedTable,
  first: number | undefined,
  second: number | undefined,
): void {
  const { dtype, shape } = tensor;
  const isRight =
    shape.length === expected.dimensions &&
    (first === undefined || shape[0] === first) &&
    (second === undefined || shape[1] === second) &&
    (expected.dtype === undefined || expected.dtype.includes(dtype));
  if (!isRight) {
    const sizes = [first, second, undefined].slice(0, expected.dimensions);
    checkExpected(context, argument, tensor, { ...expected, shape: sizes });
  }
  checkData(context, argument, tensor);
}

/** @throws ERR_MOE_A2A_ARGUMENT */
function checkExpected(
  context: CheckContext,
  argument: string,
  { dtype, shape }: CheckedTensor,
  expected: ExpectedTensor,
): void {
  if (expected.dtype && !expected.dtype.includes(dtype)) {
    const isWide = dtype === "int64" && expected.dtype.includes("int32");
    const hint = isWide ? "; convert the ids, they are not read as they are" : "";
    const what = `has dtype ${dtype}; it must be ${expected.dtype.join(" or ")}${hint}`;
    throw argumentError(context.rank, argument, what);
  }
  if (expected.shape && !matchesShape(shape, expected.shape)) {
    const { shape: wanted, dims = "" } = expected;
    const names = dims.split(", ");
    const text = wanted.map((size, i) => size ?? names[i]).join(", ");
    const what = `has shape [${shape.join(", ")}]; it must be [${text}] (${dims})`;
    throw argumentError(context.rank, argument, what);
  }
}

/**
 * Checks again what was checked first: reading the arguments after it may have run code of the caller, which may have
 * transferred its array away or shrunk its buffer.
 *
 * @throws ERR_MOE_A2A_ARGUMENT
 */
export function checkKept(context: CheckContext, argument: string, tensor: CheckedTensor | undefined): void {
  if (context.device !== "cpu" || tensor === undefined || holdsAll(tensor)) return;
  checkData(context, argument, tensor);
}

/** Whether an array whose class is known still has the elements of its shape: one that is gone has none. */
function holdsAll({ data, shape }: CheckedTensor): boolean {
  return (data as TensorData).length === numElements(shape);
}

function checkData(context: CheckContext, argument: string, { dtype, shape, data }: CheckedTensor): void {
  const problem = context.device === "cuda" ? addressProblem(data, shape) : arrayProblem(data, dtype, shape);
  if (problem !== undefined) throw argumentError(context.rank, argument, problem);
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

const lengthOf = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), "length")!.get!;

function arrayProblem(data: unknown, dtype: DType, shape: readonly number[]): string | undefined {
  const { array } = facts[dtype];
  if (!isTypedArray(data, array))
    return `has data that is ${describe(data)}; a ${dtype} tensor holds a ${array}`;
  const count = numElements(shape);
  // Of the array itself: a class may say anything of its own.
  const length = lengthOf.call(data) as number;
  return length === count && data.length === count
    ? undefined
    : `has ${length} elements in data, but shape [${shape.join(", ")}] has ${count}`;
}
