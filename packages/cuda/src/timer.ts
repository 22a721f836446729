import { guarded } from "./native.js";
import { cudaRuntime } from "./runtime.js";

/** A moment on a stream, by a GPU's own clock; for benchmarks. */
export class DeviceTimer {
  readonly #device: number;
  readonly #event: bigint;

  /** @internal */
  constructor(device: number, event: bigint) {
    this.#device = device;
    this.#event = event;
  }

  /** Takes the time when all that `stream` holds now has run. */
  record(stream: bigint): void {
    guarded("DeviceTimer.record()", () =>
      cudaRuntime().native.recordEvent(this.#device, this.#event, stream),
    );
  }

  /** Milliseconds since `earlier`, both of which have passed. */
  since(earlier: DeviceTimer): number {
    return guarded("DeviceTimer.since()", () =>
      cudaRuntime().native.elapsed(this.#device, earlier.#event, this.#event),
    );
  }

  dispose(): void {
    guarded("DeviceTimer.dispose()", () => cudaRuntime().native.destroyTimer(this.#device, this.#event));
  }
}

/** @internal */
export function createTimer(device: number): DeviceTimer {
  const { native } = cudaRuntime();
  return new DeviceTimer(
    device,
    guarded("createTimer()", () => native.createTimer(device)),
  );
}
