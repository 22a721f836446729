import { spawnSync } from "node:child_process";
import {
  byteLengthOf,
  bytesPerElement,
  type CudaTensor,
  type DType,
  type MoeAllToAll,
  type Tensor,
} from "@moe-a2a/core";
import type { CudaCreateOptions, CudaMoeAllToAll, DeviceTime, DeviceTimed, Graph } from "@moe-a2a/cuda";
import type { BackendUnderTest } from "./backends.js";

/** Options of `create` that only tests of the CUDA backend use. */
export type CudaTestOptions = Pick<CudaCreateOptions, "mapping" | "delays" | "maxSms" | "wireForm">;

/** How work is cut; see `struct moe_a2a_mapping` in the C header. */
export type Mapping = NonNullable<CudaTestOptions["mapping"]>;
export type Delays = NonNullable<CudaTestOptions["delays"]>;
export type { Graph } from "@moe-a2a/cuda";

/** What only the CUDA backend has. */
export interface CudaExtras {
  /** A stream on the instance's GPU. */
  createStream(a2a: MoeAllToAll): { readonly handle: bigint; dispose(): void };
  capture(a2a: MoeAllToAll, fn: (stream: bigint) => unknown): Promise<Graph>;
  /** Has the GPU time what `enqueue` enqueues. */
  timed<R>(a2a: MoeAllToAll, enqueue: () => R): R;
  /** The time of a phase that was enqueued so. */
  deviceTime(phase: object): Promise<DeviceTime | undefined>;
  /** A tensor `offset` bytes past an aligned address. */
  atAddress(a2a: MoeAllToAll, dtype: DType, shape: readonly number[], offset: number): Tensor;
}

/** Ranks that share a GPU at most: what waits on it has to fit it, and every rank takes streams. */
const RANKS_PER_GPU = 8;

/** The very tensor with the memory that it lies in, which has to outlive it. */
interface Held extends CudaTensor {
  readonly memory: CudaTensor;
}

function atAddress(a2a: MoeAllToAll, dtype: DType, shape: readonly number[], offset: number): Held {
  const memory = a2a.empty("uint8", [byteLengthOf(dtype, shape) + offset]) as CudaTensor;
  return { dtype, shape, device: memory.device, data: memory.data + BigInt(offset), memory };
}

/** Bytes in use on all visible GPUs, by whomever. */
function memoryOfGpus(): number {
  const { stdout } = spawnSync("nvidia-smi", ["--query-gpu=memory.used", "--format=csv,noheader,nounits"], {
    encoding: "utf8",
  });
  const used = (stdout ?? "").trim().split("\n").map(Number);
  return used.reduce((sum, mib) => sum + mib, 0) * 2 ** 20;
}

/** @throws (rejects) where the package does not load; whether there are GPUs its `status()` tells */
export async function loadCuda(): Promise<BackendUnderTest> {
  const { createStream, cudaBackend } = await import("@moe-a2a/cuda");
  const status = cudaBackend.status();
  const gpus = status.available ? status.devices.length : 1;
  return {
    name: "cuda",
    backend: cudaBackend as BackendUnderTest["backend"],
    groups: ["local", "threads", "processes"],
    traits: {
      callsSeeMemory: false,
      gatedByReady: false,
      tensorsKnowTheirLength: false,
      countInMemory: true,
      anyAddress: true,
    },
    device: "cuda",
    maxRanks: Math.min(64, RANKS_PER_GPU * gpus),
    worldRounds: { local: 1_000, threads: 250, processes: 150 },
    // Ranks take the GPUs in turn, as they do by default.
    placement: (rank) => ({ device: rank % gpus }),
    foreign: (a2a, dtype, shape, offset) => atAddress(a2a, dtype, shape, offset * bytesPerElement(dtype)),
    memoryInUse: async () => memoryOfGpus(),
    cuda: {
      createStream: (a2a) => createStream((a2a as unknown as CudaMoeAllToAll).device),
      capture: (a2a, fn) => (a2a as unknown as CudaMoeAllToAll).capture(fn),
      timed: (a2a, enqueue) => (a2a as unknown as CudaMoeAllToAll).timed(enqueue),
      deviceTime: (phase) => (phase as DeviceTimed).deviceTime(),
      atAddress,
    },
  };
}
