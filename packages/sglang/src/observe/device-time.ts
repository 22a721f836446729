import type { PhaseTrace } from "./phase-trace.js";

/** When a phase ran on its GPU: milliseconds since 1970, as `performance.timeOrigin + performance.now()` gives them. */
export interface DeviceTime {
  readonly start: number;
  readonly end: number;
}

/** Instances of the CUDA backend can time what is enqueued in a function. */
interface Timing {
  timed<R>(enqueue: () => R): R;
}

/** A phase of such an instance. */
interface Timed {
  deviceTime(): Promise<DeviceTime | undefined>;
}

/** Enqueues a phase, timed where a listener asks for that and the backend can. */
export function enqueueTraced<R>(a2a: object, trace: PhaseTrace, enqueue: () => R): R {
  const { timed } = a2a as Partial<Timing>;
  return trace.isTimed && typeof timed === "function" ? (timed.call(a2a, enqueue) as R) : enqueue();
}

/** The time of a phase that was enqueued so; undefined where there is none. */
export async function deviceTimeOf(phase: object): Promise<DeviceTime | undefined> {
  const { deviceTime } = phase as Partial<Timed>;
  return typeof deviceTime === "function" ? await deviceTime.call(phase) : undefined;
}
