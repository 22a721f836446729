import type { ProcessGroupOptions, ThreadTicket } from "@moe-a2a/core";
import type { MadeCase } from "./case.js";
import type { RankResult } from "./rank.js";

/** What a thread or a process is asked to do. */
export interface Job {
  readonly backend: string;
  /** Name of the case, or what it is made from. */
  readonly case: string | MadeCase;
  readonly seed: number;
  readonly jitterMs: number | undefined;
  readonly rank: number;
  readonly place: Place;
}

/** How the rank gets into its group. */
export type Place =
  | {
      readonly kind: "threads";
      readonly ticket: ThreadTicket;
      /** Where the rank notes what it is about to do; see {@link readNote}. */
      readonly note: SharedArrayBuffer;
    }
  | { readonly kind: "processes"; readonly options: ProcessGroupOptions };

/** A thread or process, and the job that it is at. */
export interface RankHost {
  readonly ended: boolean;
  /**
   * Resolves with the rank's result, also where the host ended before it could say so.
   *
   * @param resume called where the rank wants another one to go on
   */
  start(job: Job, resume: (rank: number) => void): Promise<RankResult>;
  /** Has the host go on, where its rank has stopped it. */
  resume(): void;
  /** What the rank was last about to do. */
  where(): string;
  terminate(): Promise<void>;
}

/** Hosts used again from case to case: starting one takes longer than most cases. */
export class Pool<H extends RankHost> {
  readonly #make: () => H;
  #idle: H[] = [];

  constructor(make: () => H) {
    this.#make = make;
  }

  take(count: number, fresh: boolean): H[] {
    const hosts = fresh ? [] : this.#idle.splice(0, count);
    while (hosts.length < count) hosts.push(this.#make());
    return hosts;
  }

  /** Takes hosts back; those that ended are dropped. */
  giveBack(hosts: readonly H[]): void {
    this.#idle.push(...hosts.filter((host) => !host.ended));
  }

  async close(): Promise<void> {
    await Promise.all(this.#idle.splice(0).map((host) => host.terminate()));
  }
}

/** The result of a rank whose host has ended. */
export function endedResult(rank: number, what: string, why: string): RankResult {
  const time = performance.timeOrigin + performance.now();
  return { rank, failure: `rank ${rank}: its ${what} ended${why}`, ended: true, time };
}
