import type { Gatherings, PeerState } from "./gathering.js";
import type { Group } from "./group.js";

/** Wakes a rank whose peers did something that it may be waiting for. */
export interface Bell {
  /**
   * Has `listener` called, in a turn of its own, after each ring that follows; calls may be spurious.
   *
   * @returns ends the subscription
   */
  subscribe(listener: () => void): () => void;
  /**
   * Blocks the thread until `poll` says true or `deadline` (a `performance.now()`) has passed. Only where
   * {@link MemoryGroupInternals.canBlock}.
   */
  waitSync(poll: () => boolean, deadline: number): void;
}

/** What a backend for CPU ranks needs of a group beyond `exchange`: memory that all ranks see, and bells. */
export interface MemoryGroupInternals {
  readonly kind: "local" | "threads";
  /** Whether a rank may block its thread while it waits for the others. */
  readonly canBlock: boolean;
  /** Zeroed memory that peers see once it was gathered. */
  allocate(byteLength: number): ArrayBufferLike;
  readonly gatherings: Gatherings;
  /** How many instances this rank has created in this group; counts up at each call. */
  nextInstance(): number;
  peerState(rank: number): PeerState;
  readonly bell: Bell;
  /** Rings a rank's bell. What was stored before is visible to whom it wakes. */
  ring(rank: number): void;
}

const internals: unique symbol = Symbol.for("moe-a2a.memory-group");

/** Puts the internals where {@link memoryGroupOf} finds them, also in another copy of this package. */
export function defineMemoryGroup(group: Group, value: MemoryGroupInternals): void {
  Object.defineProperty(group, internals, { value });
}

/** The shared-memory side of a group, or undefined where its ranks share none. */
export function memoryGroupOf(group: Group): MemoryGroupInternals | undefined {
  return (group as { readonly [internals]?: MemoryGroupInternals })[internals];
}
