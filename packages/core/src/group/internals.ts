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
  /** Blocks the thread until the target is settled or its deadline has passed. Only where {@link GroupInternals.canBlock}. */
  waitSync(target: BlockingWait): void;
}

/** What a rank blocks its thread for. */
export interface BlockingWait {
  /** A `performance.now()`. */
  readonly deadline: number;
  /** Whether it is settled; looks at everything that could settle it. */
  poll(): boolean;
  /** Whether a poll is worth it: a quick look, for threads that spin. */
  hasNews(): boolean;
  /** How many arrivals it waits for, as far as the last poll saw. Fewer do not wake the thread. */
  missing(): number;
}

/** A message that is filled in when its turn to be sent comes. */
export interface LazyMessage {
  /** Fills it in now, where that has not happened: what it is made from may change from then on. */
  fillNow(): void;
}

/** Messages between the ranks of one instance, in order per pair of ranks; where ranks share no memory. */
export interface Channel {
  /**
   * Has messages handed to `receive` from now on, those first that have come already. What it throws as
   * {@link MalformedMessage} ends the connection to that peer, which is then lost.
   */
  listen(receive: (from: number, type: number, body: Uint8Array) => void): void;
  /** Sends `body`, which must not change any more, as a message of `type` (0…255). */
  send(to: number, type: number, body: Uint8Array): void;
  /**
   * Sends `head` and then `bytes` bytes, which `fill` writes when the peer can take them; together less than 1 MiB.
   *
   * @param sent called once the message has left the process; never where the connection ends before
   */
  sendLazily(
    to: number,
    type: number,
    message: { readonly head: Uint8Array; readonly bytes: number; fill(target: Uint8Array): void },
    sent?: () => void,
  ): LazyMessage;
  /** Takes no more messages. */
  close(): void;
}

/** A peer sent what it must not send. */
export class MalformedMessage extends Error {}

/** What backends need of a group beyond `exchange`. */
export interface GroupInternals {
  readonly kind: "local" | "threads" | "processes";
  /** Whether a rank may block its thread while it waits for the others. */
  readonly canBlock: boolean;
  /** Zeroed memory. Where ranks share memory, peers see it once it was gathered. */
  allocate(byteLength: number): ArrayBufferLike;
  /** In groups of processes, values travel as JSON. */
  readonly gatherings: Gatherings;
  /** How many instances this rank has created in this group; counts up at each call. */
  nextInstance(): number;
  peerState(rank: number): PeerState;
  readonly bell: Bell;
  /** Rings a rank's bell. What was stored before is visible to whom it wakes. Between processes, messages ring. */
  ring(rank: number): void;
  /** As {@link ring}, where all that happened is what {@link BlockingWait.missing} counts: this rank has arrived there. */
  ringArrival(rank: number): void;
  /**
   * Where messages wait to be read: calls `then` once those have been taken that had come by now. Who has not been heard
   * from by then is late.
   */
  afterCatchingUp?(then: () => void): void;
  /** Where ranks share no memory: this rank's end of the channel of an instance. */
  openChannel?(instance: number): Channel;
}

const internals: unique symbol = Symbol.for("moe-a2a.group");

/** Puts the internals where {@link groupInternalsOf} finds them, also in another copy of this package. */
export function defineGroupInternals(group: Group, value: GroupInternals): void {
  Object.defineProperty(group, internals, { value });
}

/** What a group of this package has for backends, or undefined for another. */
export function groupInternalsOf(group: Group): GroupInternals | undefined {
  return (group as { readonly [internals]?: GroupInternals })[internals];
}
