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
    const settle = (end: () => void): true => {
      unsubscribe();
      clearTimeout(timer);
      end();
      try {
        signal?.removeEventListener("abort", abandon);
      } catch {
        // Whatever the caller's object does then, this wait is over.
      }
      return true;
    };
    const abandon = (): void => {
      settle(() => {
        try {
          reject(signal?.reason);
        } catch (error) {
          reject(error);
        }
      });
    };
    const look = (): boolean => {
      try {
        return target.poll() && settle(resolve);
      } catch (error) {
        return settle(() => reject(error));
      }
    };
    // Timers may come early, so each checks and, if need be, is set again.
    const sleep = (): void => {
      timer = setTimeout(
        () => look() || sleep(),
        Math.max(1, Math.ceil(target.deadline - performance.now())),
      );
    };
    let unsubscribe = (): void => {};
    signal?.addEventListener("abort", abandon, { once: true });
    unsubscribe = bell.subscribe(() => void look());
    if (!look()) sleep();
  });
}
