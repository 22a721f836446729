/** Element types of tensors. */
export type DType =
  | "float32"
  | "float16"
  | "bfloat16"
  | "float8_e4m3fn"
  | "float8_e5m2"
  | "int64"
  | "int32"
  | "uint8";

/** Element types that `combine()` sums. */
export type CombineDType = "float32" | "float16" | "bfloat16";

/** The typed array that holds elements of dtype `D`; 16-bit and 8-bit floats are held as their bits. */
export type TypedArrayOf<D extends DType = DType> = D extends "float32"
  ? Float32Array
  : D extends "float16" | "bfloat16"
    ? Uint16Array
    : D extends "float8_e4m3fn" | "float8_e5m2" | "uint8"
      ? Uint8Array
      : D extends "int64"
        ? BigInt64Array
        : D extends "int32"
          ? Int32Array
          : never;

/** Any of the typed arrays that a tensor may hold. */
export type TensorData = TypedArrayOf<DType>;

interface TypedArrayClass<A> {
  readonly name: string;
  readonly BYTES_PER_ELEMENT: number;
  new (length: number): A;
  new (buffer: ArrayBufferLike, byteOffset?: number, length?: number): A;
}

const arrays = {
  float32: Float32Array,
  float16: Uint16Array,
  bfloat16: Uint16Array,
  float8_e4m3fn: Uint8Array,
  float8_e5m2: Uint8Array,
  int64: BigInt64Array,
  int32: Int32Array,
  uint8: Uint8Array,
} as const;

/** All dtypes, in a fixed order whose index is the dtype's number in headers. */
export const DTYPES: readonly DType[] = Object.keys(arrays) as DType[];

/** Whether `value` names a dtype. */
export function isDType(value: unknown): value is DType {
  return typeof value === "string" && Object.hasOwn(arrays, value);
}

/** Bytes of one element. */
export function bytesPerElement(dtype: DType): number {
  return arrays[dtype].BYTES_PER_ELEMENT;
}

/** The typed-array class that holds elements of `dtype`. */
export function typedArrayOf<D extends DType>(dtype: D): TypedArrayClass<TypedArrayOf<D>> {
  return arrays[dtype] as unknown as TypedArrayClass<TypedArrayOf<D>>;
}
