import type { BackendDevice, BackendStatus } from "@moe-a2a/core";
import { installedNative, type UnavailableStatus } from "./loader.js";
import type { Native, Platform } from "./native.js";

/** The driver release that brought CUDA 13, which the native code is built with. */
const LEAST_DRIVER = "580";
const NO_DEVICE = 100;
const INSUFFICIENT_DRIVER = 35;

/** A version of CUDA as it is written, from 1000 · major + 10 · minor. */
export const versionText = (version: number): string =>
  `${Math.floor(version / 1000)}.${Math.floor((version % 1000) / 10)}`;

/** Why there is no CUDA on this machine, or undefined where there is. */
export function platformProblem(platform: Platform): UnavailableStatus | undefined {
  const { driverVersion, runtimeVersion, deviceCount, deviceError } = platform;
  const problem = (code: string, reason: string, hint: string): UnavailableStatus => ({
    available: false,
    code,
    reason,
    hint,
  });
  if (driverVersion === 0) {
    return problem(
      "CUDA_NO_DRIVER",
      "no NVIDIA driver is loaded",
      `install a driver of release ${LEAST_DRIVER} or newer; in a container, start it with its GPUs (--gpus all)`,
    );
  }
  if (
    Math.floor(driverVersion / 1000) < Math.floor(runtimeVersion / 1000) ||
    deviceError === INSUFFICIENT_DRIVER
  ) {
    return problem(
      "CUDA_DRIVER_TOO_OLD",
      `the NVIDIA driver knows CUDA ${versionText(driverVersion)}, and CUDA ${versionText(runtimeVersion)} is needed`,
      `update the driver to release ${LEAST_DRIVER} or newer`,
    );
  }
  if (deviceError === NO_DEVICE || (deviceError === 0 && deviceCount === 0)) {
    const visible = process.env.CUDA_VISIBLE_DEVICES;
    return problem(
      "CUDA_NO_DEVICE",
      "the NVIDIA driver shows no GPU",
      visible === undefined
        ? "look at nvidia-smi; in a container, start it with its GPUs (--gpus all)"
        : `CUDA_VISIBLE_DEVICES is ${JSON.stringify(visible)}; let it name GPUs that are there`,
    );
  }
  if (deviceError !== 0) {
    return problem(
      "CUDA_ERROR",
      `counting the GPUs fails with CUDA error ${deviceError}`,
      "look at nvidia-smi and the kernel log; the error's name is in CUDA's documentation",
    );
  }
  return undefined;
}

/** Says that two GPUs cannot reach one another's memory, or undefined where all can. */
export function peerProblem(
  deviceCount: number,
  canAccess: (device: number, peer: number) => boolean,
): UnavailableStatus | undefined {
  for (let device = 0; device < deviceCount; device++) {
    for (let peer = 0; peer < deviceCount; peer++) {
      if (device === peer || canAccess(device, peer)) continue;
      return {
        available: false,
        code: "CUDA_NO_PEER_ACCESS",
        reason: `GPU ${device} cannot access the memory of GPU ${peer}`,
        hint: "let CUDA_VISIBLE_DEVICES name GPUs that can reach one another (nvidia-smi topo -p2p r)",
      };
    }
  }
  return undefined;
}

// What is there stays there; what is not may come.
let available: Extract<BackendStatus, { readonly available: true }> | undefined;

function look(native: Native): BackendStatus {
  const platform = native.platform();
  const { deviceCount } = platform;
  const problem =
    platformProblem(platform) ??
    peerProblem(deviceCount, (device, peer) => native.canAccessPeer(device, peer));
  if (problem) return problem;
  const devices = Array.from(
    { length: deviceCount },
    (_, id): BackendDevice => ({ type: "cuda", id, name: native.device(id).name }),
  );
  available = { available: true, devices };
  return available;
}

/** Whether CUDA can run here, and if not, why and what to do. Never throws. */
export function status(): BackendStatus {
  if (available) return available;
  const { native, status: missing } = installedNative();
  if (!native) return missing;
  try {
    return look(native);
  } catch (error) {
    return {
      available: false,
      code: "CUDA_ERROR",
      reason: `the GPUs cannot be asked: ${(error as Error).message}`,
      hint: "look at nvidia-smi and the kernel log",
    };
  }
}
