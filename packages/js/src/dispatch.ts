import {
  type CheckedDispatch,
  type Combine,
  CPU,
  type CpuTensor,
  checkCombine,
  checkCombineRow,
  type Dispatch,
  type DispatchReport,
  type DType,
  type MoeA2AError,
  numElements,
  type ReadyOptions,
} from "@moe-a2a/core";
import { JsCombine } from "./combine.js";
import type { RankContext } from "./context.js";
import { isDispatchAgreed } from "./headers.js";
import type { Lane, RoundInFlight } from "./lane.js";
import { payloadOffsets } from "./payload-layout.js";
import { PhaseWait, type PhaseWork } from "./phase.js";
import { spoilDispatch, takeDispatch } from "./receive.js";
import type { DroppedEntries } from "./routing.js";
import { settle, settleSync, throwFailure } from "./settle.js";
import { tensorAt } from "./tensors.js";
import type { DispatchRound } from "./wire/wire.js";

/** The first half of a round, as this rank plays it. */
export class DispatchPhase implements DispatchRound, PhaseWork {
  readonly context: RankContext;
  readonly lane: Lane;
  readonly round: number;
  readonly wait: PhaseWait;
  readonly checked: CheckedDispatch<CpuTensor>;
  /** Known once the phase is done. */
  report: DispatchReport | undefined;
  // Plain fields, as in PhaseWait.
  private readonly dropped: DroppedEntries;
  private readonly tokensSent: number;
  /** Worked out where rows are sent, filled in or shown: not in rounds of idle ranks. */
  private foundOffsets: readonly number[] | undefined;

  /** @param dropped what routing dropped; it has left `sendCounts` in the lane */
  constructor(
    context: RankContext,
    lane: Lane,
    round: number,
    checked: CheckedDispatch<CpuTensor>,
    dropped: DroppedEntries,
  ) {
    this.context = context;
    this.lane = lane;
    this.round = round;
    this.wait = new PhaseWait(context, lane, "dispatch", round, true, this);
    this.wait.begin();
    this.checked = checked;
    this.report = undefined;
    this.dropped = dropped;
    this.tokensSent = lane.tokensSent;
    this.foundOffsets = undefined;
  }

  get offsets(): readonly number[] {
    this.foundOffsets ??= payloadOffsets(this.context.layout, this.lane, this.round, this.checked);
    return this.foundOffsets;
  }

  isAgreed(): boolean {
    const { own, generation, activeRanks } = this.context;
    return isDispatchAgreed(own, this.lane, this.round, generation, this.checked, activeRanks);
  }

  complete(): void {
    const { lane } = this;
    const tokensReceived = takeDispatch(this.context, lane, this);
    this.report = {
      round: this.round,
      lane: lane.index,
      tokensSent: this.tokensSent,
      tokensReceived,
      droppedEntries: this.dropped,
      waitMs: lane.arrivals.waitMs(),
    };
  }

  spoil(): void {
    spoilDispatch(this.context, this.lane, this);
  }
}

/** A round of the CPU backend. */
export class JsDispatch implements Dispatch<CpuTensor>, RoundInFlight {
  readonly #phase: DispatchPhase;
  #shown = false;
  #recv: readonly CpuTensor[] | undefined;
  #combine: JsCombine | undefined;

  constructor(phase: DispatchPhase) {
    this.#phase = phase;
  }

  get recv(): readonly CpuTensor[] {
    this.#checkShown("recv");
    if (!this.#recv) {
      const { context, checked, offsets } = this.#phase;
      this.#recv = checked.payloads.map(({ dtype, shape }, p) => {
        const columns = shape[1]!;
        return tensorAt(context.own.memory, offsets[p]!, dtype, [
          context.config.epSize,
          checked.maxTokens,
          columns,
        ]);
      });
    }
    return this.#recv;
  }

  get recvCounts(): CpuTensor {
    this.#checkShown("recvCounts");
    const { ranks, recvCounts } = this.#phase.lane;
    return { dtype: "int32", shape: [ranks], device: CPU, data: recvCounts };
  }

  get expertStats(): CpuTensor | undefined {
    this.#checkShown("expertStats");
    const { context, lane, checked } = this.#phase;
    if (!checked.expertStats) return undefined;
    const shape = [context.config.epSize, checked.statsLength];
    return { dtype: "int32", shape, device: CPU, data: lane.gatheredStats.subarray(0, numElements(shape)) };
  }

  combineBuffer(hiddenSize: number, dtype: DType): CpuTensor {
    this.#checkShown("combineBuffer()");
    const { context, lane, checked } = this.#phase;
    checkCombineRow(context.checks, "combineBuffer()", hiddenSize, dtype);
    return tensorAt(context.own.memory, lane.at.combine, dtype, [
      context.config.epSize,
      checked.maxTokens,
      hiddenSize,
    ]);
  }

  ready(options?: ReadyOptions): Promise<DispatchReport> {
    try {
      const waiting = settle(this.#phase.wait, options);
      return waiting ? waiting.then(() => this.#show()) : Promise.resolve(this.#show());
    } catch (error) {
      return Promise.reject(error);
    }
  }

  readySync(): DispatchReport {
    settleSync(this.#phase.wait, "Dispatch.readySync()");
    return this.#show();
  }

  combine(expertOutput: CpuTensor, options?: { readonly out?: CpuTensor }): Combine<CpuTensor> {
    const { context, checked } = this.#phase;
    this.#checkUncombined();
    this.#checkShown("combine()");
    context.checkUsable("combine()");
    const out = options?.out;
    const combine = checkCombine(context.checks, checked, expertOutput, out, context.keptCombine);
    // Reading the arguments may have run code of the caller.
    this.#checkUncombined();
    context.checkUsable("combine()");
    context.keptCombine = combine;
    this.#combine = JsCombine.start(this.#phase, combine, out);
    return this.#combine;
  }

  get unfinished(): string | undefined {
    if (this.#combine)
      return this.#combine.poll() ? undefined : "its combine is not ready; await its ready() first";
    const { wait } = this.#phase;
    if (!wait.poll()) return "it has not arrived; await its ready() and combine it first";
    return wait.outcome === "failed"
      ? undefined
      : "it was not combined; call combine() and await its ready() first";
  }

  giveUp(error: MoeA2AError): void {
    this.#phase.wait.giveUp(error);
    this.#combine?.giveUp(error);
  }

  #checkUncombined(): void {
    if (this.#combine) throw this.#phase.context.combinedError(this.#phase.round);
  }

  #show(): DispatchReport {
    throwFailure(this.#phase.wait);
    this.#shown = true;
    return this.#phase.report as DispatchReport;
  }

  /** What arrived may be looked at from `ready()` until the lane's next dispatch. */
  #checkShown(what: string): void {
    const { context, lane, round } = this.#phase;
    if (!this.#shown) {
      const { error } = this.#phase.wait;
      const state = error ? "failed" : "dispatched";
      const problem = error
        ? `the dispatch of round ${round} failed (${error.code}), so there is nothing to see`
        : `round ${round} is not known to have arrived; await ready() first`;
      throw context.stateError(what, state, problem);
    }
    if (lane.current !== this) throw context.overError(what, round);
  }
}
