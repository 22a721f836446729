import { createLocalGroup } from "@moe-a2a/core";
import * as cuda from "@moe-a2a/cuda";
import { type Api, plain } from "./api.js";
import { CONFIG } from "./world.js";

/** The CUDA backend where there is no GPU: it has to say so, whatever it is asked. Where there is one, tools/gpu runs. */
export const cudaApis: readonly Api[] = cuda.cudaBackend.status().available
  ? []
  : [
      plain("cudaBackend.status", cuda.cudaBackend.status, () => []),
      plain("cudaBackend.create", cuda.cudaBackend.create, () => [
        { ...CONFIG, epSize: 1 },
        createLocalGroup(1)[0]!,
        { device: 0 },
      ]),
      plain("inspectGpus", cuda.inspectGpus, () => []),
      plain("createStream", cuda.createStream, () => [0]),
      plain("createTimer", cuda.createTimer, () => [0]),
      plain("emptyIpc", cuda.emptyIpc, () => ["float32", [2, 2], 0]),
      plain("exportIpc", cuda.exportIpc, () => [
        { dtype: "float32", shape: [2, 2], device: { type: "cuda", id: 0 }, data: 4096n },
      ]),
      plain("importIpc", cuda.importIpc, () => [
        { handle: new Uint8Array(64), byteOffset: 0, dtype: "float32", shape: [2, 2] },
        0,
      ]),
      plain("wrap", cuda.wrap, () => [4096n, "float32", [2, 2], 0]),
    ];
