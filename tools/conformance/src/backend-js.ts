import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { byteLengthOf, CPU, numElements, typedArrayOf } from "@moe-a2a/core";
import { jsBackend } from "@moe-a2a/js";
import type { BackendUnderTest } from "./backends.js";

const gc = (): void => {
  setFlagsFromString("--expose-gc");
  (runInNewContext("gc") as () => void)();
};

export const js: BackendUnderTest = {
  name: "js",
  backend: jsBackend,
  groups: ["local", "threads", "processes"],
  traits: {
    callsSeeMemory: true,
    gatedByReady: true,
    tensorsKnowTheirLength: true,
    countInMemory: false,
    anyAddress: false,
  },
  device: "cpu",
  maxRanks: 64,
  // Ranks on threads cost more than ranks on one thread, and ranks in processes more than either.
  worldRounds: { local: 2_000, threads: 250, processes: 150 },
  placement: () => ({}),
  foreign(_, dtype, shape, offset) {
    const TypedArray = typedArrayOf(dtype);
    const start = offset * TypedArray.BYTES_PER_ELEMENT;
    const memory = new ArrayBuffer(start + byteLengthOf(dtype, shape));
    return { dtype, shape, device: CPU, data: new TypedArray(memory, start, numElements(shape)) };
  },
  /** Array buffers that are alive on this thread. */
  async memoryInUse() {
    for (let i = 0; i < 4; i++) {
      gc();
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    return process.memoryUsage().arrayBuffers;
  },
};
