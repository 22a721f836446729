export { type CudaBackend, type CudaCreateOptions, cudaBackend } from "./backend.js";
export type { DeviceCombine, DeviceDispatch, DeviceTimed } from "./device-phases.js";
export { type GpuFact, type GpuFacts, inspectGpus, type PeerFact } from "./gpus.js";
export type { Graph, Replay } from "./graph.js";
export type { CudaMoeAllToAll } from "./instance.js";
export type { DeviceTime } from "./phase-clock.js";
export { createStream, type DeviceStream } from "./streams.js";
export { type DeviceTensor, wrap } from "./tensors.js";
export { createTimer, type DeviceTimer } from "./timer.js";
