import { debuglog } from "node:util";
import {
  type CudaTensor,
  type DType,
  describe,
  isDType,
  MoeA2AError,
  numElements,
  shapeProblem,
} from "@moe-a2a/core";
import { guarded } from "./native.js";
import { cudaRuntime } from "./runtime.js";
import { checkDevice } from "./streams.js";

const debug = debuglog("moe-a2a");

/** Gives a tensor's memory back; what is enqueued may still use it. */
export interface MemoryOwner {
  release(address: bigint): void;
}

interface Forgotten {
  readonly owner: MemoryOwner;
  readonly address: bigint;
  readonly what: string;
  /** Where it was made, where somebody wants to know. */
  readonly stack: string | undefined;
}

const forgotten = new FinalizationRegistry<Forgotten>(({ owner, address, what, stack }) => {
  debug("%s was never disposed of; its memory is given back now%s", what, stack ?? "");
  owner.release(address);
});

/** A tensor that owns its device memory. Dispose of it; one that is forgotten is freed by the garbage collector. */
export class DeviceTensor<D extends DType = DType> implements CudaTensor<D> {
  readonly dtype: D;
  readonly shape: readonly number[];
  readonly device: { readonly type: "cuda"; readonly id: number };
  readonly #owner: MemoryOwner;
  #address: bigint;

  /** @internal */
  constructor(owner: MemoryOwner, dtype: D, shape: readonly number[], device: number, address: bigint) {
    this.dtype = dtype;
    this.shape = Object.freeze([...shape]);
    this.device = Object.freeze({ type: "cuda", id: device });
    this.#owner = owner;
    this.#address = address;
    if (address === 0n) return;
    const what = `a ${dtype} tensor [${shape.join(", ")}] on cuda device ${device}`;
    const stack = debug.enabled ? new Error().stack?.replace(/^Error/, "\n  made") : undefined;
    forgotten.register(this, { owner, address, what, stack }, this);
  }

  /** Device address of the first element; 0 where there is none, and after `dispose()`. */
  get data(): bigint {
    return this.#address;
  }

  /** Gives the memory back once what is enqueued on the instance's streams has passed. Idempotent. */
  dispose(): void {
    const address = this.#address;
    if (address === 0n) return;
    this.#address = 0n;
    forgotten.unregister(this);
    this.#owner.release(address);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Memory that somebody else owns, as a tensor. */
export function view<D extends DType>(
  dtype: D,
  shape: readonly number[],
  device: CudaTensor["device"],
  data: bigint,
): CudaTensor<D> {
  return { dtype, shape, device, data };
}

/** Makes ARGUMENT errors of a call. */
export function failing(call: string): (argument: string, problem: string) => MoeA2AError {
  return (argument, problem) =>
    new MoeA2AError("ERR_MOE_A2A_ARGUMENT", `${call}: ${argument} ${problem}`, { argument });
}

/** @throws ERR_MOE_A2A_ARGUMENT */
export function checkForm(call: string, dtype: unknown, shape: unknown): void {
  const fail = failing(call);
  if (!isDType(dtype)) throw fail("dtype", `is ${describe(dtype)}, which is none`);
  const problem = shapeProblem(shape);
  if (problem) throw fail("shape", problem);
}

/**
 * A tensor over device memory of another library, which stays its owner and has to keep it while it is used.
 *
 * @param address device address of the first element, with the elements of `shape` densely behind it
 * @param device the GPU that it lies on; default what the driver says
 * @throws ERR_MOE_A2A_ARGUMENT for what is no device memory, or of another GPU; ERR_MOE_A2A_UNAVAILABLE
 */
export function wrap<D extends DType>(
  address: bigint,
  dtype: D,
  shape: readonly number[],
  device?: number,
): CudaTensor<D> {
  const fail = failing("wrap()");
  if (typeof address !== "bigint" || address < 0n || address >= 1n << 64n) {
    throw fail("address", `is ${describe(address)}; it must be a device address, a bigint`);
  }
  checkForm("wrap()", dtype, shape);
  const { native } = cudaRuntime();
  if (device !== undefined) checkDevice("wrap(): device", "device", device);
  const empty = numElements(shape) === 0;
  const found = empty ? (device ?? 0) : guarded("wrap()", () => native.pointerDevice(address));
  if (found < 0) throw fail("address", `0x${address.toString(16)} is not device memory`);
  if (device !== undefined && found !== device) {
    throw fail("address", `0x${address.toString(16)} lies on GPU ${found}, not on GPU ${device}`);
  }
  return view(dtype, Object.freeze([...shape]), Object.freeze({ type: "cuda", id: found }), address);
}
