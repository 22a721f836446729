import { checkSignal, type DispatchReport, type ReadyOptions } from "@moe-a2a/core";
import { unlessAborted } from "./abandon.js";
import type { CudaContext } from "./context.js";
import type { Lane } from "./lane.js";
import { PHASES } from "./native.js";
import { makeReport, outcomeValues } from "./outcome.js";
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
  readonly #parts: ReplayParts;
  /** By lane, for its last round: with that all have run. */
  readonly #waits: readonly PhaseWait[];
  #reports: readonly DispatchReport[] | undefined;

  /** @internal */
  constructor(context: CudaContext, parts: ReplayParts) {
    this.#context = context;
    this.#parts = parts;
    const last = new Map(parts.rounds.map(({ lane, round }) => [lane, round]));
    this.#waits = Array.from(last, ([lane, round]) => new PhaseWait(context, lane, "combine", round));
    // Who does not ask is not told.
    parts.enqueued?.catch(() => {});
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
    if (this.#reports) return this.#reports;
    const { enqueued } = this.#parts;
    if (enqueued) {
      // Peers that leave meanwhile have to be told of, for replays wait for them.
      context.beginWait();
      try {
        await unlessAborted(enqueued, signal);
      } finally {
        context.endWait();
      }
    }
    for (const wait of this.#waits) await wait.ready(signal ? { signal } : undefined);
    this.#reports ??= this.#read();
    return this.#reports;
  }

  /** As `ready()`, blocking the thread; not while many replays are still being enqueued. */
  readySync(): readonly DispatchReport[] {
    const context = this.#context;
    if (context.enqueuing) {
      throw context.stateError(
        "Replay.readySync()",
        "replaying",
        "the replays are still being enqueued; await ready()",
      );
    }
    if (this.#reports) return this.#reports;
    for (const wait of this.#waits) wait.readySync("Replay.readySync()");
    this.#reports = this.#read();
    return this.#reports;
  }

  #read(): readonly DispatchReport[] {
    const context = this.#context;
    return this.#parts.rounds.map(({ lane, round }) => {
      const values = outcomeValues();
      context.call("replay()", (native, id) =>
        native.outcome(id, lane.index, PHASES.dispatch, round >>> 0, values),
      );
      return makeReport(values, { round, lane: lane.index, ranks: context.config.epSize });
    });
  }
}
