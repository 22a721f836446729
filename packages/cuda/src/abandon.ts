import type { AbortSignalLike } from "@moe-a2a/core";

/** Waits for `promise` until `signal` aborts. @throws (rejects) the signal's reason, or as the promise does */
export async function unlessAborted<R>(promise: Promise<R>, signal: AbortSignalLike | undefined): Promise<R> {
  if (!signal) return await promise;
  promise.catch(() => {});
  let abandon: (() => void) | undefined;
  const abandoned = new Promise<never>((_, reject) => {
    abandon = () => reject(signal.reason);
    signal.addEventListener("abort", abandon, { once: true });
  });
  try {
    return await Promise.race([promise, abandoned]);
  } finally {
    try {
      signal.removeEventListener("abort", abandon!);
    } catch {
      // It is only tidied up.
    }
  }
}
