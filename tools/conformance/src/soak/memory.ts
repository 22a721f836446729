import type { BackendUnderTest } from "../backends.js";

/** Bytes in use. */
export interface MemorySample {
  readonly rss: number;
  readonly heap: number;
  /** What the backend says, such as memory of GPUs. */
  readonly backend: number;
}

/** Bytes by which a run may grow: caches of the runtime settle late, leaks per round would be far larger. */
export const SLACK = 48 * 2 ** 20;

export async function sampleMemory(target: BackendUnderTest): Promise<MemorySample> {
  const backend = await target.memoryInUse();
  const { rss, heapUsed: heap } = process.memoryUsage();
  return { rss, heap, backend };
}

/** How much each grew, where that is too much. */
export function growth(before: MemorySample, after: MemorySample): string | undefined {
  const grown = (["rss", "heap", "backend"] as const).filter((kind) => after[kind] - before[kind] > SLACK);
  if (grown.length === 0) return undefined;
  const mib = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  return grown.map((kind) => `${kind} grew from ${mib(before[kind])} to ${mib(after[kind])}`).join(", ");
}
