import { readdirSync } from "node:fs";
import type { BackendUnderTest } from "../backends.js";

/** What a process has in use. */
export interface MemorySample {
  /** Bytes. */
  readonly rss: number;
  readonly heap: number;
  /** What the backend says, such as memory of GPUs, in bytes. */
  readonly backend: number;
  /** Open file descriptors; 0 where the system does not tell. */
  readonly descriptors: number;
  /** What the event loop of the thread has open. */
  readonly handles: number;
}

/** By how much a run may grow: caches of the runtime settle late, leaks per round would be far larger. */
const SLACK: MemorySample = {
  rss: 48 * 2 ** 20,
  heap: 48 * 2 ** 20,
  backend: 48 * 2 ** 20,
  descriptors: 4,
  handles: 4,
};

function openDescriptors(): number {
  try {
    return readdirSync("/proc/self/fd").length;
  } catch {
    return 0;
  }
}

export async function sampleMemory(target: BackendUnderTest): Promise<MemorySample> {
  const backend = await target.memoryInUse();
  const { rss, heapUsed: heap } = process.memoryUsage();
  const handles = process.getActiveResourcesInfo().length;
  return { rss, heap, backend, descriptors: openDescriptors(), handles };
}

/** How much each grew, where that is too much. */
export function growth(before: MemorySample, after: MemorySample): string | undefined {
  const kinds = Object.keys(SLACK) as (keyof MemorySample)[];
  const grown = kinds.filter((kind) => after[kind] - before[kind] > SLACK[kind]);
  if (grown.length === 0) return undefined;
  return grown.map((kind) => `${kind} grew from ${before[kind]} to ${after[kind]}`).join(", ");
}
