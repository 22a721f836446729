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
import type { Lane, RoundInFlight } from "./lane.js";
import { PhaseWait } from "./phase.js";
import { spoilDispatch, takeDispatch } from "./receive.js";
import type { DroppedEntries } from "./routing.js";
import { settle, settleSync, throwFailure } from "./settle.js";
import { tensorAt } from "./tensors.js";

/** A sum; `reduce()` of a typed array costs more than the rest of an idle rank's report. */
export function total(counts: Int32Array): number {
  let sum = 0;
  for (let i = 0; i < counts.length; i++) sum += counts[i]!;
  return sum;
}

export interface DispatchParts {
  readonly context: RankContext;
  readonly lane: Lane;
  readonly round: number;
  readonly checked: CheckedDispatch<CpuTensor>;
  /** Of each payload, in this rank's window. */
  readonly offsets: readonly number[];
  readonly dropped: DroppedEntries;
  readonly tokensSent: number;
}

/** A round of the CPU backend. */
export class JsDispatch implements Dispatch<CpuTensor>, RoundInFlight {
  readonly #parts: DispatchParts;
  readonly #phase: PhaseWait;
  #report: DispatchReport | undefined;
  #shown = false;
  #recv: readonly CpuTensor[] | undefined;
  #combine: JsCombine | undefined;

  constructor(parts: DispatchParts) {
    this.#parts = parts;
    const { context, lane } = parts;
    this.#phase = new PhaseWait({
      context,
      lane,
      phase: "dispatch",
      round: parts.round,
      arrivals: lane.arrivals,
      exchanges: true,
      complete: () => {
        takeDispatch(context, lane, parts);
        this.#report = this.#makeReport();
      },
      spoil: () => spoilDispatch(context, lane, parts),
    });
  }

  get recv(): readonly CpuTensor[] {
    this.#checkShown("recv");
    if (!this.#recv) {
      const { context, checked, offsets } = this.#parts;
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
    return {
      dtype: "int32",
      shape: [this.#parts.context.config.epSize],
      device: CPU,
      data: this.#parts.lane.recvCounts,
    };
  }

  get expertStats(): CpuTensor | undefined {
    this.#checkShown("expertStats");
    const { context, lane, checked } = this.#parts;
    if (!checked.expertStats) return undefined;
    const shape = [context.config.epSize, checked.statsLength];
    return { dtype: "int32", shape, device: CPU, data: lane.gatheredStats.subarray(0, numElements(shape)) };
  }

  combineBuffer(hiddenSize: number, dtype: DType): CpuTensor {
    this.#checkShown("combineBuffer()");
    const { context, lane, checked } = this.#parts;
    checkCombineRow(context.checks, "combineBuffer()", hiddenSize, dtype);
    return tensorAt(context.own.memory, lane.at.combine, dtype, [
      context.config.epSize,
      checked.maxTokens,
      hiddenSize,
    ]);
  }

  async ready(options?: ReadyOptions): Promise<DispatchReport> {
    const { context } = this.#parts;
    const waiting = settle(context, this.#phase, options);
    if (waiting) await waiting;
    throwFailure(context, this.#phase);
    return this.#show();
  }

  readySync(): DispatchReport {
    settleSync(this.#parts.context, this.#phase, "Dispatch.readySync()");
    return this.#show();
  }

  combine(expertOutput: CpuTensor, options?: { readonly out?: CpuTensor }): Combine<CpuTensor> {
    const { context, lane, round, checked } = this.#parts;
    this.#checkUncombined();
    this.#checkShown("combine()");
    context.checkUsable("combine()");
    const out = options?.out;
    const combine = checkCombine(context.checks, checked, expertOutput, out);
    // Reading the arguments may have run code of the caller.
    this.#checkUncombined();
    context.checkUsable("combine()");
    this.#combine = JsCombine.start({ context, lane, round, dispatch: checked, checked: combine, out });
    return this.#combine;
  }

  get unfinished(): string | undefined {
    if (this.#combine)
      return this.#combine.poll() ? undefined : "its combine is not ready; await its ready() first";
    if (!this.#phase.poll()) return "it has not arrived; await its ready() and combine it first";
    return this.#phase.outcome === "failed"
      ? undefined
      : "it was not combined; call combine() and await its ready() first";
  }

  /** Whether the instance had failed before anything of this round was sent. */
  hasFailed(): boolean {
    return this.#phase.hasFailed();
  }

  giveUp(error: MoeA2AError): void {
    this.#phase.giveUp(error);
    this.#combine?.giveUp(error);
  }

  #checkUncombined(): void {
    if (this.#combine) throw this.#parts.context.combinedError(this.#parts.round);
  }

  #makeReport(): DispatchReport {
    const { lane, round, dropped, tokensSent } = this.#parts;
    return {
      round,
      lane: lane.index,
      tokensSent,
      tokensReceived: total(lane.recvCounts),
      droppedEntries: dropped,
      waitMs: lane.arrivals.waitMs(),
    };
  }

  #show(): DispatchReport {
    this.#shown = true;
    return this.#report as DispatchReport;
  }

  /** What arrived may be looked at from `ready()` until the lane's next dispatch. */
  #checkShown(what: string): void {
    const { context, lane, round } = this.#parts;
    if (!this.#shown) {
      const { error } = this.#phase;
      const state = error ? "failed" : "dispatched";
      const problem = error
        ? `the dispatch of round ${round} failed (${error.code}), so there is nothing to see`
        : `round ${round} is not known to have arrived; await ready() first`;
      throw context.stateError(what, state, problem);
    }
    if (lane.current !== this) throw context.overError(what, round);
  }
}
