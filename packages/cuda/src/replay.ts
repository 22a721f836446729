import { checkSignal, type DispatchReport, type ReadyOptions } from "@moe-a2a/core";
import { unlessAborted } from "./abandon.js";
import type { CudaContext } from "./context.js";
import type { Lane } from "./lane.js";
import { PhaseWait } from "./phase.js";

/** A round that a replay plays. */
export interface ReplayedRound {
  readonly lane: Lane;
  readonly round: number;
}

export interface ReplayParts {
  /** Settles once all replays are enqueued, where that takes time. */
  readonly enqueued: Promise<void> | undefined;
  /** The rounds of the last replay, by lane. */
  readonly rounds: readonly ReplayedRound[];
  /** What the replays use. */
  readonly keep: unknown;
}

/** Replays that were enqueued together. */
export class Replay {
  readonly #context: CudaContext;
  /** @internal What the replays use. */
  readonly keep: unknown;
  /** Settles once all are enqueued; undefined where they are. */
  #enqueued: Promise<void> | undefined;
  /** By lane, for its last round: with that all have run. */
  readonly #waits: readonly PhaseWait[];

  /** @internal */
  constructor(context: CudaContext, { enqueued, rounds, keep }: ReplayParts) {
    this.#context = context;
    this.keep = keep;
    const lanes = new Set(rounds.map(({ lane }) => lane));
    this.#waits = Array.from(lanes, (lane) => {
      const played = rounds.filter((each) => each.lane === lane).map(({ round }) => round);
      return new PhaseWait(context, lane, "combine", played.at(-1)!, played);
    });
    this.#enqueued = enqueued;
    enqueued?.then(
      () => {
        this.#enqueued = undefined;
      },
      // Who does not ask is not told.
      () => {},
    );
  }

  /**
   * Waits until all replays have run. May be called again.
   *
   * @returns the reports of the last replay's dispatches, by lane and round
   * @throws (rejects) with the first failure of any of the rounds
   */
  async ready(options?: ReadyOptions): Promise<readonly DispatchReport[]> {
    const context = this.#context;
    const signal = checkSignal(context.rank, options?.signal);
    if (signal?.aborted) throw signal.reason;
    if (this.#enqueued) {
      // Peers that leave meanwhile have to be told of, for replays wait for them.
      context.beginWait();
      try {
        await unlessAborted(this.#enqueued, signal);
      } finally {
        context.endWait();
      }
    }
    for (const wait of this.#waits) await wait.ready(signal ? { signal } : undefined);
    return this.#reports();
  }

  /** As `ready()`, blocking the thread; not while they are still being enqueued. */
  readySync(): readonly DispatchReport[] {
    if (this.#enqueued) {
      throw this.#context.stateError(
        "Replay.readySync()",
        "replaying",
        "the replays are still being enqueued; await ready()",
      );
    }
    for (const wait of this.#waits) wait.readySync("Replay.readySync()");
    return this.#reports();
  }

  #reports(): readonly DispatchReport[] {
    return this.#waits.flatMap(({ reports }) => reports);
  }
}
