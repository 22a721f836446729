import { describe, MoeA2AError } from "@moe-a2a/core";
import { guarded } from "./native.js";
import { cudaRuntime } from "./runtime.js";

/** A stream of a GPU, made by {@link createStream}. */
export class DeviceStream {
  readonly device: number;
  /** The `cudaStream_t`; what `stream` options take. */
  readonly handle: bigint;
  #open = true;

  /** @internal */
  constructor(device: number, handle: bigint) {
    this.device = device;
    this.handle = handle;
  }

  /** Resolves once all that the stream holds now has run. Does not block. @throws (rejects) ERR_MOE_A2A_CUDA */
  async ready(): Promise<void> {
    const { native, tokens } = cudaRuntime();
    const { device } = this;
    const event = guarded("DeviceStream.ready()", () => native.takeEvent(device));
    try {
      await guarded("DeviceStream.ready()", () => {
        native.recordEvent(device, event, this.handle);
        return tokens.end(native.waitFor(device, event));
      });
    } finally {
      native.giveEvent(device, event);
    }
  }

  /** Lets this stream's later work wait for all that `other`, a stream of the same GPU, holds now. */
  waitFor(other: bigint): void {
    const { native } = cudaRuntime();
    guarded("DeviceStream.waitFor()", () => {
      const event = native.takeEvent(this.device);
      try {
        native.recordEvent(this.device, event, other);
        native.streamWait(this.device, event, this.handle);
      } finally {
        native.giveEvent(this.device, event);
      }
    });
  }

  /** Destroys the stream once its work has run; its handle must not be used any more. */
  dispose(): void {
    if (!this.#open) return;
    this.#open = false;
    guarded("DeviceStream.dispose()", () => cudaRuntime().native.destroyStream(this.device, this.handle));
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * Makes a stream on a GPU, for work of the caller's own or as the `stream` of dispatches and combines.
 *
 * @param device a GPU's number, as in `cudaBackend.status().devices`
 * @throws ERR_MOE_A2A_UNAVAILABLE, ERR_MOE_A2A_ARGUMENT for a GPU that is not there, ERR_MOE_A2A_CUDA
 */
export function createStream(device: number): DeviceStream {
  const { native } = cudaRuntime();
  checkDevice("createStream(): device", "device", device);
  return new DeviceStream(
    device,
    guarded("createStream()", () => native.createStream(device)),
  );
}

/** @throws ERR_MOE_A2A_ARGUMENT for a GPU that is not there */
export function checkDevice(what: string, argument: string, device: unknown): number {
  const { deviceCount } = cudaRuntime().native.platform();
  if (Number.isInteger(device) && (device as number) >= 0 && (device as number) < deviceCount) {
    return device as number;
  }
  throw new MoeA2AError(
    "ERR_MOE_A2A_ARGUMENT",
    `${what} is ${describe(device)}; the visible GPUs are 0…${deviceCount - 1}`,
    { argument },
  );
}
