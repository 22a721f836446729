import type { Combine, CudaTensor, Dispatch } from "@moe-a2a/core";
import type { DeviceTime } from "./phase-clock.js";

/** A phase on a GPU. */
export interface DeviceTimed {
  /**
   * When the phase ran, by the GPU's own clock; settles once it has. Undefined where it was not enqueued in
   * `CudaMoeAllToAll.timed()`, is part of a graph, or the GPU did not tell. Never rejects.
   */
  deviceTime(): Promise<DeviceTime | undefined>;
}

/** A round on a GPU after its dispatch. */
export interface DeviceDispatch extends Dispatch<CudaTensor>, DeviceTimed {
  /** The stream that the dispatch went to: kernels enqueued there see what has arrived. */
  readonly stream: bigint;
  /** As in `Dispatch`; `stream` is by default that of the dispatch. */
  combine(
    expertOutput: CudaTensor,
    options?: { readonly out?: CudaTensor; readonly stream?: bigint },
  ): DeviceCombine;
}

/** A round on a GPU after its combine. */
export interface DeviceCombine extends Combine<CudaTensor>, DeviceTimed {}
