import { performance } from "node:perf_hooks";
import { type BlockingWait, type MissingKind, type MoeA2AError, missingError } from "@moe-a2a/core";
import { type AbortRecord, phaseNumber, readAbortRecord } from "./abort-record.js";
import type { RankContext } from "./context.js";
import { disagreement } from "./headers.js";
import type { Lane } from "./lane.js";
import type { Pollable } from "./wait.js";

/** What one phase does with what arrived. */
export interface PhaseWork {
  /** Whether all active ranks said of it what this one said. */
  isAgreed(): boolean;
  /** Takes what arrived; runs once, when all ranks have come and agree. */
  complete(): void;
  /** Makes the outputs of this phase look failed; runs once. */
  spoil(): void;
}

/**
 * This rank's half of one phase: whether it may send, waiting, agreement, and the verdict. Both kinds of phase have one,
 * none is one: objects of one class are made and read at a fraction of what those of two that extend it take.
 */
export class PhaseWait implements BlockingWait, Pollable {
  readonly context: RankContext;
  readonly lane: Lane;
  readonly phase: "dispatch" | "combine";
  readonly round: number;
  /** Whether anything is exchanged; a combine without slots is not. */
  readonly exchanges: boolean;
  outcome: "pending" | "done" | "failed";
  error: MoeA2AError | undefined;
  // Plain fields, as every round makes two of these: private names take longer to set and to read.
  private readonly work: PhaseWork;
  /** When it began, a `performance.now()`; undefined where nothing is exchanged and nobody has asked since. */
  startedAt: number | undefined;
  /** Whether everything has been received that had come by the deadline. */
  private caughtUp: "no" | "asked" | "yes";

  constructor(
    context: RankContext,
    lane: Lane,
    phase: "dispatch" | "combine",
    round: number,
    exchanges: boolean,
    work: PhaseWork,
  ) {
    this.context = context;
    this.lane = lane;
    this.phase = phase;
    this.round = round;
    this.exchanges = exchanges;
    this.outcome = "pending";
    this.error = undefined;
    this.work = work;
    this.startedAt = undefined;
    this.caughtUp = "no";
  }

  /** From here on it waits. Apart from the constructor, which engines inline where it is short. */
  begin(): void {
    const { context, lane } = this;
    // Without an exchange there is hardly ever something to wait for, and reading the clock is half the phase.
    if (!this.exchanges) return;
    this.startedAt = performance.now();
    lane.arrivals.begin(context.activeRanks);
  }

  /** A `performance.now()`. */
  get deadline(): number {
    this.startedAt ??= performance.now();
    return this.startedAt + this.context.config.timeoutMs;
  }

  /** Whether the instance has failed before this phase sent anything; it then fails with that verdict. */
  hasFailed(): boolean {
    const { context } = this;
    if (!context.failure && !context.isLeftOut() && context.own.load(context.control.aborts) === 0)
      return false;
    const record = context.failure ? undefined : this.verdict();
    if (context.isLeftOut()) this.fail(this.leftOut(), false);
    else if (record) context.fail(record.error, { told: false, tellPeers: true });
    if (context.failure) this.giveUp(context.failure.error);
    return this.outcome === "failed";
  }

  /** Moves the phase on as far as possible without waiting; true once it is settled. */
  poll(): boolean {
    if (this.outcome !== "pending") return true;
    const { context } = this;
    if (context.isLeftOut()) return this.fail(this.leftOut(), false);
    const here = this.look() && context.wire.unsent(this.lane).length === 0;
    if (here && this.exchanges && !this.work.isAgreed()) return this.fail(this.disagreement(), true);
    if (context.own.load(context.control.aborts) !== 0) {
      const record = this.verdict();
      if (record) return this.fail(record.error, true);
    }
    if (!here) return this.findMissing();
    this.finish();
    return true;
  }

  /** Whether something is to be seen that could settle the phase, time and peers that have left aside. */
  hasNews(): boolean {
    const { context } = this;
    return this.look() || context.own.load(context.control.aborts) !== 0 || context.isLeftOut();
  }

  /** How many ranks have not arrived, as far as the last look saw. */
  missing(): number {
    return this.exchanges ? this.lane.arrivals.missing : 0;
  }

  /** Settles a pending phase with `error`. */
  giveUp(error: MoeA2AError): void {
    if (this.outcome !== "pending") return;
    this.outcome = "failed";
    this.error = error;
    this.context.wire.release(this.lane);
    this.work.spoil();
  }

  private look(): boolean {
    const { context, lane } = this;
    return !this.exchanges || lane.arrivals.look(context.own, lane, this.phase, this.round);
  }

  private disagreement(): MoeA2AError {
    const { lane, phase, round } = this;
    const { own, rank, activeRanks } = this.context;
    return disagreement(own, phase, lane, round, rank, activeRanks);
  }

  /** A peer's verdict on this phase or an earlier one; one on a later phase leaves this phase alone. */
  private verdict(): AbortRecord | undefined {
    const { own, layout, control, activeRanks, generation } = this.context;
    const record = readAbortRecord(own, layout, control, activeRanks, generation);
    const number = phaseNumber(this.round, this.phase);
    return record && ((record.completed[this.lane.index]! - number) | 0) < 0 ? record : undefined;
  }

  private finish(): void {
    const { context, lane } = this;
    // A peer that has left may not have taken its rows; their memory is the caller's again all the same.
    context.wire.release(lane);
    try {
      this.work.complete();
    } catch (error) {
      // Of memory that the caller has taken away meanwhile. The round itself is over, and the next may follow.
      this.outcome = "failed";
      this.error = error as MoeA2AError;
      context.completed[lane.index] = phaseNumber(this.round, this.phase);
      return;
    }
    // What a reset that left this rank out let others overwrite meanwhile must not pass as good.
    if (this.exchanges && context.own.loadLast(context.control.generation) !== context.generation) {
      this.fail(this.leftOut(), false);
      return;
    }
    this.outcome = "done";
    context.completed[lane.index] = phaseNumber(this.round, this.phase);
  }

  private leftOut(): MoeA2AError {
    return this.context.leftOutError(`${this.phase} of round ${this.round}`);
  }

  /** Fails the instance, and with it this phase. A verdict is passed on too: its finder may have ended while it told it. */
  private fail(error: MoeA2AError, tellPeers: boolean): true {
    const { context } = this;
    context.fail(error, { told: false, tellPeers });
    this.giveUp(context.failure?.error ?? error);
    return true;
  }

  /** Fails the phase where a missing rank has left, or the time is up. */
  private findMissing(): boolean {
    const { context, lane, phase, round } = this;
    const { arrivals } = lane;
    if (context.isCutOff()) return this.fail(context.givenUpError("closed"), false);
    const late = this.isLate();
    if (!late && !this.someLeft()) return false;
    // Who left stored its flag or its verdict before, and so may who came at the last moment: look once more, after that.
    const departures = arrivals.missingRanks().map((peer) => ({ peer, how: context.departure(peer) }));
    const unsent = context.wire.unsent(lane);
    if (this.look() && unsent.length === 0) return this.poll();
    const record = this.verdict();
    if (record) return this.fail(record.error, true);
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
    return this.fail(error, true);
  }

  /** Whether the time is up, also for what came in time and has not been read yet. */
  private isLate(): boolean {
    if (performance.now() < this.deadline) return false;
    const { group, rank } = this.context;
    if (!group.afterCatchingUp || this.caughtUp === "yes") return true;
    if (this.caughtUp === "no") {
      this.caughtUp = "asked";
      group.afterCatchingUp(() => {
        this.caughtUp = "yes";
        group.ring(rank);
      });
    }
    return false;
  }

  private someLeft(): boolean {
    const { context, lane } = this;
    const { activeRanks } = context;
    for (let i = 0; i < activeRanks.length; i++) {
      const peer = activeRanks[i]!;
      if (!lane.arrivals.has(peer) && context.departure(peer)) return true;
    }
    return false;
  }
}
