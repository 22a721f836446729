import { type MissingKind, type MoeA2AError, missingError } from "@moe-a2a/core";
import { type AbortRecord, phaseNumber, readAbortRecord } from "./abort-record.js";
import type { Arrivals } from "./arrivals.js";
import type { RankContext } from "./context.js";
import { disagreement } from "./headers.js";
import type { Lane } from "./lane.js";

export interface PhaseParts {
  readonly context: RankContext;
  readonly lane: Lane;
  readonly phase: "dispatch" | "combine";
  readonly round: number;
  readonly arrivals: Arrivals;
  /** Whether anything is exchanged; a combine without slots is not. */
  readonly exchanges: boolean;
  /** Takes what arrived; runs once, when all ranks have come and agree. */
  readonly complete: () => void;
  /** Makes the outputs of this phase look failed; runs once. */
  readonly spoil: () => void;
}

/** This rank's half of one phase: whether it may send, waiting, agreement, and the verdict. */
export class PhaseWait {
  readonly #parts: PhaseParts;
  readonly #number: number;
  /** A `performance.now()`. */
  readonly deadline: number;
  outcome: "pending" | "done" | "failed" = "pending";
  error: MoeA2AError | undefined;
  /** Whether everything has been received that had come by the deadline. */
  #caughtUp: "no" | "asked" | "yes" = "no";

  constructor(parts: PhaseParts) {
    this.#parts = parts;
    this.#number = phaseNumber(parts.round, parts.phase);
    this.deadline = performance.now() + parts.context.config.timeoutMs;
    parts.arrivals.begin(parts.context.activeRanks);
  }

  /** Whether the instance has failed before this phase sent anything; it then fails with that verdict. */
  hasFailed(): boolean {
    const { context } = this.#parts;
    const record = context.failure ? undefined : this.#verdict();
    if (context.isLeftOut()) this.#fail(this.#leftOut(), false);
    else if (record) context.fail(record.error, { told: false, tellPeers: true });
    if (context.failure) this.giveUp(context.failure.error);
    return this.outcome === "failed";
  }

  /** Moves the phase on as far as possible without waiting; true once it is settled. */
  poll(): boolean {
    if (this.outcome !== "pending") return true;
    const { context } = this.#parts;
    if (context.isLeftOut()) return this.#fail(this.#leftOut(), false);
    const here = this.#look() && context.wire.unsent(this.#parts.lane).length === 0;
    const error = here ? this.#disagreement() : undefined;
    if (error) return this.#fail(error, true);
    const record = this.#verdict();
    if (record) return this.#fail(record.error, true);
    if (!here) return this.#findMissing();
    this.#finish();
    return true;
  }

  /** Settles a pending phase with `error`. */
  giveUp(error: MoeA2AError): void {
    if (this.outcome !== "pending") return;
    this.outcome = "failed";
    this.error = error;
    this.#parts.context.wire.release(this.#parts.lane);
    this.#parts.spoil();
  }

  #look(): boolean {
    const { context, lane, phase, round, arrivals, exchanges } = this.#parts;
    return !exchanges || arrivals.look(context.own.words, lane, phase, round);
  }

  #disagreement(): MoeA2AError | undefined {
    const { context, lane, phase, round, exchanges } = this.#parts;
    if (!exchanges) return undefined;
    const { rank, activeRanks, config } = context;
    return disagreement(context.own, phase, { lane, round, ranks: config.epSize, rank, activeRanks });
  }

  /** A peer's verdict on this phase or an earlier one; one on a later phase leaves this phase alone. */
  #verdict(): AbortRecord | undefined {
    const { context, lane } = this.#parts;
    const { own, layout, control, activeRanks, generation } = context;
    const record = readAbortRecord(own, layout, control, activeRanks, generation);
    return record && ((record.completed[lane.index]! - this.#number) | 0) < 0 ? record : undefined;
  }

  #finish(): void {
    const { context, lane, complete } = this.#parts;
    // A peer that has left may not have taken its rows; their memory is the caller's again all the same.
    context.wire.release(lane);
    complete();
    // What a reset that left this rank out let others overwrite meanwhile must not pass as good. The read-modify-write
    // keeps the reads of complete() before this one, which a plain atomic load would not.
    Atomics.add(context.own.words, context.control.generation, 0);
    if (context.isLeftOut()) {
      this.#fail(this.#leftOut(), false);
      return;
    }
    this.outcome = "done";
    context.completed[lane.index] = this.#number;
  }

  #leftOut(): MoeA2AError {
    return this.#parts.context.leftOutError(`${this.#parts.phase} of round ${this.#parts.round}`);
  }

  /** Fails the instance, and with it this phase. A verdict is passed on too: its finder may have ended while it told it. */
  #fail(error: MoeA2AError, tellPeers: boolean): true {
    const { context } = this.#parts;
    context.fail(error, { told: false, tellPeers });
    this.giveUp(context.failure?.error ?? error);
    return true;
  }

  /** Fails the phase where a missing rank has left, or the time is up. */
  #findMissing(): boolean {
    const { context, phase, round, arrivals } = this.#parts;
    if (context.isCutOff()) return this.#fail(context.givenUpError("closed"), false);
    const late = this.#isLate();
    if (!late && !this.#someLeft()) return false;
    // Who left stored its flag or its verdict before, and so may who came at the last moment: look once more, after that.
    const departures = arrivals.missingRanks().map((peer) => ({ peer, how: context.departure(peer) }));
    const unsent = context.wire.unsent(this.#parts.lane);
    if (this.#look() && unsent.length === 0) return this.poll();
    const record = this.#verdict();
    if (record) return this.#fail(record.error, true);
    // Who does not take what it is sent is as good as absent.
    const missing = [...new Set([...arrivals.missingRanks(), ...unsent])].sort((a, b) => a - b);
    const left = (kind: MissingKind) =>
      departures.filter(({ peer, how }) => how === kind && missing.includes(peer)).map(({ peer }) => peer);
    const kind: MissingKind | undefined =
      left("lost").length > 0 ? "lost" : left("closed").length > 0 ? "closed" : late ? "timeout" : undefined;
    if (!kind) return false;
    const error = missingError({
      phase,
      round,
      missingRanks: kind === "timeout" ? missing : left(kind),
      kind,
      timeoutMs: context.config.timeoutMs,
      rank: context.rank,
      where: `${phase} of round ${round}`,
    });
    return this.#fail(error, true);
  }

  /** Whether the time is up, also for what came in time and has not been read yet. */
  #isLate(): boolean {
    if (performance.now() < this.deadline) return false;
    const { group, rank } = this.#parts.context;
    if (!group.afterCatchingUp || this.#caughtUp === "yes") return true;
    if (this.#caughtUp === "no") {
      this.#caughtUp = "asked";
      group.afterCatchingUp(() => {
        this.#caughtUp = "yes";
        group.ring(rank);
      });
    }
    return false;
  }

  #someLeft(): boolean {
    const { context, arrivals } = this.#parts;
    const { activeRanks } = context;
    for (let i = 0; i < activeRanks.length; i++) {
      const peer = activeRanks[i]!;
      if (!arrivals.has(peer) && context.departure(peer)) return true;
    }
    return false;
  }
}
