import { MoeA2AError } from "@moe-a2a/core";
import { installedNative } from "./loader.js";
import { cudaError, type Native, type NativeInspection } from "./native.js";
import { tokensOf } from "./runtime.js";
import { versionText } from "./status.js";

/** The GPUs of this machine, as CUDA shows them to this process. It is plain data, good for JSON. */
export interface GpuFacts {
  /** Release of the NVIDIA driver, as `580.95.05`; undefined without a driver, or where it does not tell. */
  readonly driver: string | undefined;
  /** The CUDA version that the driver knows, as `13.0`; undefined without a driver. */
  readonly driverCuda: string | undefined;
  /** The CUDA version that the native code was built with. */
  readonly runtimeCuda: string;
  /** Visible GPUs by number, as `CUDA_VISIBLE_DEVICES` leaves them. */
  readonly devices: readonly GpuFact[];
  /** By GPU and peer. */
  readonly peers: readonly (readonly PeerFact[])[];
}

/** One GPU. */
export interface GpuFact {
  /** As in `status().devices`. */
  readonly id: number;
  readonly name: string;
  /** As `0000:1b:00.0`. */
  readonly pciBusId: string;
  /** 32 hexadecimal digits that name the GPU, or the part of it, in every process of the host. */
  readonly uuid: string;
  /** As `9.0`. */
  readonly computeCapability: string;
  readonly multiprocessors: number;
  readonly memoryBytes: number;
  /** Undefined where this process cannot use the GPU. */
  readonly freeBytes: number | undefined;
}

/** What one GPU can do with the memory of another, or with its own. */
export interface PeerFact {
  /** Whether its kernels can load and store there. */
  readonly access: boolean;
  /** Whether they can also do atomic operations there, at full speed. */
  readonly atomics: boolean;
}

/** What the addon found, in the form of the API. */
export function toFacts({ platform, driverRelease, devices, peers }: NativeInspection): GpuFacts {
  const { driverVersion, runtimeVersion } = platform;
  const count = devices.length;
  const peer = (at: number): PeerFact => ({
    access: (peers[at]! & 1) !== 0,
    atomics: (peers[at]! & 2) !== 0,
  });
  return {
    driver: driverRelease === "" ? undefined : driverRelease,
    driverCuda: driverVersion === 0 ? undefined : versionText(driverVersion),
    runtimeCuda: versionText(runtimeVersion),
    devices: devices.map(({ computeMajor, computeMinor, totalBytes, freeBytes, ...device }, id) => ({
      id,
      name: device.name,
      pciBusId: device.pciBusId.toLowerCase(),
      uuid: device.uuid,
      computeCapability: `${computeMajor}.${computeMinor}`,
      multiprocessors: device.multiprocessors,
      memoryBytes: totalBytes,
      freeBytes: freeBytes < 0 ? undefined : freeBytes,
    })),
    peers: devices.map((_, id) => devices.map((_, other) => peer(id * count + other))),
  };
}

async function inspect(native: Native): Promise<GpuFacts> {
  try {
    await tokensOf(native).end(native.inspect());
    return toFacts(native.inspected());
  } catch (error) {
    throw cudaError(error, "inspectGpus()");
  }
}

let running: Promise<GpuFacts> | undefined;

/**
 * Asks the driver about the GPUs: names, memory, who reaches whom. Without a driver or a GPU there are none in the result.
 * It blocks nothing, and makes a CUDA context on each GPU, which stays and takes some hundred MB there.
 *
 * @throws (rejects) ERR_MOE_A2A_UNAVAILABLE where the native code does not load; ERR_MOE_A2A_CUDA
 */
export async function inspectGpus(): Promise<GpuFacts> {
  const { native, status } = installedNative();
  if (!native) {
    const { reason, hint } = status;
    throw new MoeA2AError("ERR_MOE_A2A_UNAVAILABLE", `inspectGpus(): ${reason}; ${hint}`, { reason, hint });
  }
  running ??= inspect(native).finally(() => {
    running = undefined;
  });
  return await running;
}
