import { byteLengthOf, type CudaTensor, type DType, describe } from "@moe-a2a/core";
import { cudaError, type Native, type NativeIpcMemory, type Token } from "./native.js";
import { cudaRuntime } from "./runtime.js";
import { checkDevice } from "./streams.js";
import { checkForm, failing } from "./tensors.js";

const HANDLE_BYTES = 64;

/** What another process of this host needs to use a tensor's memory: plain data, to be sent in any way. */
export interface IpcExport<D extends DType = DType> {
  /** The `cudaIpcMemHandle_t`, 64 bytes, of the allocation; empty where the tensor has no element. */
  readonly handle: Uint8Array;
  /** Where in the allocation the tensor begins. */
  readonly byteOffset: number;
  readonly dtype: D;
  readonly shape: readonly number[];
}

/** A tensor in memory that processes share by CUDA IPC: made by {@link emptyIpc}, or another process's, by {@link importIpc}. */
export class IpcTensor<D extends DType = DType> implements CudaTensor<D> {
  readonly dtype: D;
  readonly shape: readonly number[];
  readonly device: { readonly type: "cuda"; readonly id: number };
  /** Of the allocation; 0 where there is none. */
  readonly #base: bigint;
  readonly #byteOffset: number;
  #closing: Promise<void> | undefined;

  /** @internal */
  constructor(dtype: D, shape: readonly number[], device: number, base: bigint, byteOffset: number) {
    this.dtype = dtype;
    this.shape = Object.freeze([...shape]);
    this.device = Object.freeze({ type: "cuda", id: device });
    this.#base = base;
    this.#byteOffset = byteOffset;
  }

  /** Device address of the first element; 0 where there is none, and after `close()`. */
  get data(): bigint {
    return this.#base === 0n || this.#closing ? 0n : this.#base + BigInt(this.#byteOffset);
  }

  /**
   * Frees the memory, or lets go of another process's. That waits for all kernels of the GPU, so no round may be under way
   * there that waits for this process; other processes have to let go before the one that made it. Idempotent.
   *
   * @throws (rejects) ERR_MOE_A2A_CUDA
   */
  close(): Promise<void> {
    this.#closing ??= this.#base === 0n ? Promise.resolve() : close(this.#base);
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Runs one of the addon's calls for IPC. @throws (rejects) ERR_MOE_A2A_CUDA */
async function run(where: string, start: (native: Native) => Token): Promise<NativeIpcMemory> {
  const { native, tokens } = cudaRuntime();
  try {
    const token = start(native);
    try {
      await tokens.end(token);
    } catch (error) {
      native.ipcMemory(token);
      throw error;
    }
    return native.ipcMemory(token);
  } catch (error) {
    throw cudaError(error, where);
  }
}

async function close(address: bigint): Promise<void> {
  await run("IpcTensor.close()", (native) => native.ipcClose(address));
}

/**
 * A new tensor that other processes of this host can open, with whatever stood there. Allocations take whole pieces of 2 MiB,
 * and may wait for kernels of the GPU: make them before the rounds. It lives until `close()`, or the end of the process.
 *
 * @param device a GPU's number, as in `cudaBackend.status().devices`
 * @throws (rejects) ERR_MOE_A2A_ARGUMENT; ERR_MOE_A2A_UNAVAILABLE; ERR_MOE_A2A_CUDA also where the GPU has too little memory
 */
export async function emptyIpc<D extends DType>(
  dtype: D,
  shape: readonly number[],
  device: number,
): Promise<IpcTensor<D>> {
  checkForm("emptyIpc()", dtype, shape);
  checkDevice("emptyIpc(): device", "device", device);
  const bytes = byteLengthOf(dtype, shape);
  if (bytes === 0) return new IpcTensor(dtype, shape, device, 0n, 0);
  const where = `emptyIpc(): [${shape}] of ${dtype} takes ${bytes} bytes on GPU ${device}`;
  const { address } = await run(where, (native) => native.ipcAllocate(device, bytes));
  return new IpcTensor(dtype, shape, device, address, 0);
}

/**
 * Tells how another process can open a tensor's memory: of {@link emptyIpc}, or of whoever got it from `cudaMalloc`. What
 * `a2a.empty()` returns and what a round shows is memory of pools and windows, which CUDA IPC cannot export. The owner keeps the
 * memory as long as others have it open. What they read has to have been written before: await what writes it.
 *
 * @throws (rejects) ERR_MOE_A2A_ARGUMENT also for memory that cannot be exported; ERR_MOE_A2A_UNAVAILABLE, ERR_MOE_A2A_CUDA
 */
export async function exportIpc<D extends DType>(t: CudaTensor<D>): Promise<IpcExport<D>> {
  const fail = failing("exportIpc()");
  const { dtype, shape, data, device } = t ?? {};
  checkForm("exportIpc()", dtype, shape);
  if (device?.type !== "cuda" || typeof data !== "bigint" || data < 0n || data >= 1n << 64n)
    throw fail("t", "is no tensor of a GPU");
  checkDevice("exportIpc(): the device of t", "t", device.id);
  const form = { dtype, shape: Object.freeze([...shape]) };
  const bytes = byteLengthOf(dtype, shape);
  if (bytes === 0) return { handle: new Uint8Array(0), byteOffset: 0, ...form };
  if (data === 0n) throw fail("t", "has no memory any more; it was closed or disposed of");
  const found = await run("exportIpc()", (native) => native.ipcExport(device.id, data));
  if (!found.isExportable) {
    throw fail(
      "t",
      `lies at 0x${data.toString(16)}, in memory that CUDA IPC cannot export, as that of a2a.empty() and of a round; ` +
        "make it with emptyIpc(), or have the round write to such a tensor (combine's out)",
    );
  }
  const byteOffset = Number(data - found.base);
  if (byteOffset + bytes > found.bytes)
    throw fail("t", `takes ${bytes} bytes from byte ${byteOffset} on, of an allocation of ${found.bytes}`);
  return { handle: found.handle, byteOffset, ...form };
}

/**
 * Opens the memory that another process of this host has exported, by {@link exportIpc} or with `cudaIpcGetMemHandle`, for the
 * kernels and copies of one GPU. Its owner has to be alive, and cannot open it itself.
 *
 * @param device the GPU that is to use it, as in `cudaBackend.status().devices`; it has to reach the one that the memory is on
 * @throws (rejects) ERR_MOE_A2A_ARGUMENT also where the tensor reaches past the memory; ERR_MOE_A2A_UNAVAILABLE,
 * ERR_MOE_A2A_CUDA
 */
export async function importIpc<D extends DType>(
  exported: IpcExport<D>,
  device: number,
): Promise<IpcTensor<D>> {
  const fail = failing("importIpc()");
  const { handle, byteOffset, dtype, shape } = exported ?? {};
  checkForm("importIpc()", dtype, shape);
  if (!Number.isSafeInteger(byteOffset) || byteOffset < 0)
    throw fail("byteOffset", `is ${describe(byteOffset)}; it must be an integer >= 0`);
  const bytes = byteLengthOf(dtype, shape);
  const wanted = bytes === 0 ? 0 : HANDLE_BYTES;
  if (!(handle instanceof Uint8Array) || (bytes > 0 && handle.length !== wanted)) {
    const what = handle instanceof Uint8Array ? `has ${handle.length} bytes` : `is ${describe(handle)}`;
    throw fail("handle", `${what}; it must be a Uint8Array of ${wanted}`);
  }
  checkDevice("importIpc(): device", "device", device);
  if (bytes === 0) return new IpcTensor(dtype, shape, device, 0n, 0);
  const where = "importIpc(): the handle has to be of another process of this host, which is alive";
  const opened = await run(where, (native) => native.ipcOpen(device, handle));
  const tensor = new IpcTensor(dtype, shape, device, opened.address, byteOffset);
  // 0 where the driver does not tell.
  const past = opened.bytes > 0 && byteOffset + bytes > opened.bytes;
  if (!past) return tensor;
  await tensor.close();
  throw fail(
    "exported",
    `takes ${bytes} bytes from byte ${byteOffset} on, of an allocation of ${opened.bytes}`,
  );
}
