import {
  type Backend,
  byteLengthOf,
  CPU,
  type CreateOptions,
  type DType,
  numElements,
  type Tensor,
  typedArrayOf,
} from "@moe-a2a/core";
import { jsBackend } from "@moe-a2a/js";

/** Kinds of groups that cases run in. */
export type GroupKind = "local" | "threads";

/** Options of `create` that only tests use. */
export interface TestOptions extends CreateOptions {
  /** Number of the first round, to get to a wrap of 32 bits in reasonable time. */
  readonly firstRound?: number;
}

/** A backend and what the cases need to know about it. */
export interface BackendUnderTest {
  readonly name: string;
  readonly backend: Backend;
  readonly groups: readonly GroupKind[];
  /** On the CPU arguments and ids are all seen by the call itself, and what a round shows may be read once it is ready. */
  readonly device: Tensor["device"]["type"];
  /** A tensor in memory that is not the backend's, `offset` elements past an aligned address. */
  foreign(dtype: DType, shape: readonly number[], offset: number): Tensor;
}

const js: BackendUnderTest = {
  name: "js",
  backend: jsBackend,
  groups: ["local", "threads"],
  device: "cpu",
  foreign(dtype, shape, offset) {
    const TypedArray = typedArrayOf(dtype);
    const start = offset * TypedArray.BYTES_PER_ELEMENT;
    const memory = new ArrayBuffer(start + byteLengthOf(dtype, shape));
    return { dtype, shape, device: CPU, data: new TypedArray(memory, start, numElements(shape)) };
  },
};

/** The backends that can be asked for by name. */
export const backends: Readonly<Record<string, BackendUnderTest>> = { js };
