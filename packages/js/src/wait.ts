import { performance } from "node:perf_hooks";
import type { AbortSignalLike, Bell } from "@moe-a2a/core";

/** Something that can be polled to its end, and that settles itself once `deadline` has passed. */
export interface Pollable {
  /** A `performance.now()`. */
  readonly deadline: number;
  poll(): boolean;
}

/**
 * Waits until `target` is settled, without blocking the event loop; keeps the process alive meanwhile.
 *
 * @throws (rejects) `signal.reason`, which ends this wait alone
 */
export function waitFor(target: Pollable, bell: Bell, signal: AbortSignalLike | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const stop = (): void => {
      unsubscribe();
      clearTimeout(timer);
      signal?.removeEventListener("abort", abandon);
    };
    const abandon = (): void => {
      stop();
      reject(signal?.reason);
    };
    const look = (): boolean => {
      try {
        if (!target.poll()) return false;
        stop();
        resolve();
      } catch (error) {
        stop();
        reject(error);
      }
      return true;
    };
    // Timers may come early, so each checks and, if need be, is set again.
    const sleep = (): void => {
      timer = setTimeout(
        () => look() || sleep(),
        Math.max(1, Math.ceil(target.deadline - performance.now())),
      );
    };
    const unsubscribe = bell.subscribe(() => void look());
    signal?.addEventListener("abort", abandon, { once: true });
    if (!look()) sleep();
  });
}
