import type { Group, MoeAllToAll, MoeAllToAllConfig } from "@moe-a2a/core";
import type { BackendUnderTest, GroupKind, TestOptions, Traits } from "./backends.js";
import type { ScenarioRef } from "./faults/scenario.js";
import type { Flight, PlayOptions } from "./flight.js";
import type { RankResult } from "./rank.js";
import type { Round, RoundSpec } from "./round.js";
import type { WorldRef } from "./world.js";

/** What a rank of a case sees. Every rank runs the same function. */
export interface Context {
  readonly rank: number;
  readonly size: number;
  readonly target: BackendUnderTest;
  readonly kind: GroupKind;
  /** Whether `readySync()` may be used. */
  readonly canBlock: boolean;
  readonly group: Group;
  /** The case's config. */
  readonly config: MoeAllToAllConfig;
  readonly seed: number;
  /** Creates an instance of the case's config, changed by `over`; it is closed when the case ends. */
  create(over?: Partial<MoeAllToAllConfig>, options?: TestOptions): Promise<MoeAllToAll>;
  /** The round of this key; the same for every rank that asks, also in another thread. */
  round(key: string | number, spec: RoundSpec, config?: MoeAllToAllConfig): Round;
  /** Uploads this rank's input and dispatches. */
  launch(a2a: MoeAllToAll, round: Round, options?: PlayOptions): Promise<Flight>;
  /** Plays a whole round and compares all that this rank gets. */
  play(a2a: MoeAllToAll, round: Round, options?: PlayOptions): Promise<void>;
  /** Notes what this rank is about to do, for the report of one that never finishes. */
  at(where: string): void;
  /** Waits for all ranks of the group. */
  barrier(): Promise<void>;
  /** All-gathers a JSON value by rank. */
  gather<T>(value: T): Promise<T[]>;
  /** Ends this rank's thread or process, which the case has to announce as `dying`. */
  die(how: "exits" | "is terminated"): Promise<never>;
  /** Stops this rank's thread or process until another rank calls {@link resume}. */
  pause(): void;
  /** Lets a rank that paused go on. */
  resume(rank: number): void;
  /** Joins the group once more, as a rank that has started again; rejects where it is refused. */
  rejoin(rank: number, timeoutMs: number): Promise<Group>;
  /** Keeps a figure for the report. */
  measure(what: string, value: number): void;
}

/** A case that every rank runs. */
export interface RankCase {
  readonly name: string;
  readonly ranks: number;
  readonly config: MoeAllToAllConfig;
  /** Default: every kind that the backend has. */
  readonly groups?: readonly GroupKind[];
  /** Traits of the backends that it says something about; default all. */
  readonly needs?: Partial<Traits> & { readonly cuda?: true };
  /** Whether its ranks block while they wait. */
  readonly blocks?: true;
  /** Ranks whose threads or processes end in the case; it then gets some of its own. */
  readonly dying?: readonly number[];
  readonly deadlineMs?: number;
  run(context: Context): Promise<void>;
}

/** What stands for a case that is made from plain data, in place of a name. */
export type MadeCase = WorldRef | ScenarioRef;

/** A case that starts rounds of its own, over and over. */
export interface DrivenCase {
  readonly name: string;
  readonly groups?: readonly GroupKind[];
  readonly deadlineMs?: number;
  /**
   * @param play plays a case in the kind of group that is asked for; throws what differed, returns what ranks measured
   * @returns a note for the report
   */
  drive(options: {
    readonly target: BackendUnderTest;
    readonly kind: GroupKind;
    readonly seed: number;
    readonly rounds: number | undefined;
    play(spec: MadeCase): Promise<readonly RankResult[]>;
  }): Promise<string>;
}

export type Case = RankCase | DrivenCase;
