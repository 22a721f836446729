import type { BackendStatus, MoeAllToAllConfig, WorkspacePlan } from "@moe-a2a/core";
import type { BackendName, BackendPreference } from "../select-backend.js";

/** What `diagnose()` is asked. */
export interface DiagnoseOptions {
  /** The backend that has to be there. Default `auto`: any. */
  readonly backend?: BackendPreference;
  /** A config whose memory is worked out; nothing of it is allocated. */
  readonly config?: MoeAllToAllConfig;
  /** Milliseconds that the round may wait for a rank. Default 10,000. */
  readonly timeoutMs?: number;
}

/** What this machine and this installation are, and whether rounds work here. It is plain data, good for JSON. */
export interface Diagnosis {
  /** Whether there are no problems. */
  readonly ok: boolean;
  /** What is wrong, each with what to do about it. */
  readonly problems: readonly string[];
  readonly system: SystemDiagnosis;
  readonly packages: readonly PackageDiagnosis[];
  readonly backends: readonly BackendDiagnosis[];
  readonly gpus: GpuDiagnosis;
  /** Of the config that was given. */
  readonly memory: MemoryDiagnosis | undefined;
}

/** The machine, without its GPUs. */
export interface SystemDiagnosis {
  readonly node: string;
  /** What the packages ask of Node. */
  readonly nodeRange: string;
  /** As `linux-x64`. */
  readonly platform: string;
  /** Undefined where the C library is another, or none is known. */
  readonly glibc: string | undefined;
  readonly cpus: number;
  readonly memoryBytes: number;
}

/** One package of moe-a2a as it is installed. */
export interface PackageDiagnosis {
  readonly name: string;
  /** Undefined where it is not installed. */
  readonly version: string | undefined;
}

/** One backend: whether it can run, and how a round went. */
export interface BackendDiagnosis {
  readonly name: BackendName;
  readonly status: BackendStatus;
  /** Undefined where the backend cannot run. */
  readonly round: RoundDiagnosis | undefined;
}

/** How a small round went, one of whose ranks has no token. */
export interface RoundDiagnosis {
  /** Whether every value was exactly what it should be. */
  readonly exact: boolean;
  readonly ranks: number;
  /** Milliseconds, with the creation of the ranks. */
  readonly ms: number;
  /** Undefined where it was exact. */
  readonly problem: string | undefined;
}

/**
 * The GPUs: as CUDA shows and numbers them to this process, or, where it shows none, as the driver's own tool does, all those
 * of the machine.
 */
export interface GpuDiagnosis {
  /** Who told; undefined where nobody could. */
  readonly source: "cuda" | "nvidia-smi" | undefined;
  /** The driver's release; undefined where there is no NVIDIA driver, or nobody to ask. */
  readonly driver: string | undefined;
  /** The CUDA version that the driver knows, as `13.0`; undefined where CUDA was not asked. */
  readonly cuda: string | undefined;
  readonly devices: readonly GpuDevice[];
  /** By GPU and peer: how they are connected, such as `NV18`, `PIX` or `SYS`; empty where nobody can say. */
  readonly links: readonly (readonly string[])[];
  /** By GPU and peer: `OK` where the one can use the other's memory; empty where nobody can say. */
  readonly peerAccess: readonly (readonly string[])[];
  /** The same for atomic operations at full speed. */
  readonly peerAtomics: readonly (readonly string[])[];
  /** The environment's `CUDA_VISIBLE_DEVICES`, which hides and renumbers GPUs. */
  readonly visibleDevices: string | undefined;
}

/** One GPU. */
export interface GpuDevice {
  readonly id: number;
  readonly name: string;
  /** As `0000:1b:00.0`. */
  readonly pciBusId: string;
  readonly computeCapability: string;
  /** Undefined where CUDA was not asked. */
  readonly multiprocessors: number | undefined;
  readonly memoryBytes: number;
  /** Undefined where this process cannot use the GPU. */
  readonly freeBytes: number | undefined;
}

/** What a config would take, in bytes per rank. */
export interface MemoryDiagnosis {
  readonly config: MoeAllToAllConfig;
  /** For ranks that share memory: on threads, or on GPUs. */
  readonly plan: WorkspacePlan;
  /** For CPU ranks in processes. */
  readonly processPlan: WorkspacePlan;
}
