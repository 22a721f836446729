import type { MissingKind, MoeA2AError, Phase } from "../errors.js";
import type { Verdict } from "../verdict.js";

/** Whether a rank of a group is there. */
export type PeerState = "absent" | "joined" | "closed" | "lost";

/** What ranks tell one another; a wire carries it to all other ranks, in order per sender. */
export type GroupMessage =
  /** A rank has joined and asks for what was put before. */
  | { readonly kind: "hello"; readonly from: number }
  | {
      readonly kind: "put";
      readonly from: number;
      readonly to?: number;
      readonly key: string;
      readonly value: unknown;
      readonly series: Series | undefined;
    }
  /** A rank gave up on a key, which nobody can complete any more. */
  | {
      readonly kind: "fail";
      readonly from: number;
      readonly to?: number;
      readonly key: string;
      readonly verdict: Verdict;
    }
  /** A rank left the group, or something in it that others may gather for. */
  | { readonly kind: "gone"; readonly from: number };

/** Gatherings of which a rank is in one at a time, and that follow one another by number. */
export interface Series {
  readonly name: string;
  readonly number: number;
}

/** Who gathers, for how long, and what to tell of it. */
export interface GatherOptions<T> {
  /** The ranks that take part, this one among them. Default all. */
  readonly ranks?: readonly number[];
  readonly timeoutMs: number;
  readonly phase: Phase;
  readonly round?: number;
  /** What the caller does, for messages. */
  readonly where: string;
  readonly series?: Series;
  /** Whether a value is what ranks gather here. A process that sends something else is not heard any more: it is lost. */
  readonly isValid?: (value: unknown) => boolean;
  /**
   * Looks at each value as it arrives, and at those of ranks that are in a later gathering of the series already; what it
   * returns fails the gathering on all ranks.
   */
  readonly check?: (rank: number, value: T) => MoeA2AError | undefined;
  /** Whether a rank has left what this gathering is for, rather than the group. */
  readonly departure?: (rank: number) => MissingKind | undefined;
}

/** All-gathers by key among the ranks of a group. Each key is used once. */
export interface Gatherings {
  /** Puts `value`, which may be shared memory, and waits for the others'. The result is indexed by rank. */
  gather<T>(key: string, value: T, options: GatherOptions<T>): Promise<T[]>;
  /** Why one of `ranks` has given up on `key`, which then cannot be completed any more. */
  failure(key: string, ranks: readonly number[]): MoeA2AError | undefined;
  /** Whether one of `ranks` has put a value under `key` already. */
  hasBegun(key: string, ranks: readonly number[]): boolean;
  /** Gives up on `key` for all ranks, pending here or not; whoever waits is told. */
  giveUp(key: string, error: MoeA2AError): void;
  /** Has the others look again, through `departure` of what they gather, who is gone. */
  announceDeparture(): void;
}
