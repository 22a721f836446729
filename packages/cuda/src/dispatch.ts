import {
  type CheckedDispatch,
  type CudaTensor,
  checkCombine,
  checkCombineRow,
  checkStream,
  type DispatchReport,
  type DType,
  type ReadyOptions,
} from "@moe-a2a/core";
import { checkAligned } from "./alignment.js";
import { CudaCombine } from "./combine.js";
import type { CaptureInProgress, CudaContext } from "./context.js";
import type { DeviceCombine, DeviceDispatch } from "./device-phases.js";
import type { Lane, RoundInFlight } from "./lane.js";
import { PhaseWait } from "./phase.js";
import type { DeviceTime } from "./phase-clock.js";
import { view } from "./tensors.js";

export interface DispatchParts {
  readonly context: CudaContext;
  readonly lane: Lane;
  readonly round: number;
  readonly checked: CheckedDispatch<CudaTensor>;
  readonly stream: bigint;
  /** Byte offset of each payload in this rank's window. */
  readonly offsets: readonly bigint[];
  /** Where the round is only captured: it runs with each replay. */
  readonly capture: CaptureInProgress | undefined;
  /** Where it is timed. */
  readonly time: Promise<DeviceTime | undefined> | undefined;
}

/** A round of the CUDA backend. What it shows may be used at once, in the order of its stream. */
export class CudaDispatch implements DeviceDispatch, RoundInFlight {
  readonly #parts: DispatchParts;
  readonly #phase: PhaseWait;
  #recv: readonly CudaTensor[] | undefined;
  #combine: CudaCombine | undefined;

  constructor(parts: DispatchParts) {
    this.#parts = parts;
    this.#phase = new PhaseWait(parts.context, parts.lane, "dispatch", parts.round, [parts.round]);
  }

  get recv(): readonly CudaTensor[] {
    this.#checkCurrent("recv");
    if (!this.#recv) {
      const { context, checked, offsets } = this.#parts;
      this.#recv = checked.payloads.map(({ dtype, shape }, p) =>
        view(
          dtype,
          [context.config.epSize, checked.maxTokens, shape[1]!],
          context.device,
          context.window + offsets[p]!,
        ),
      );
    }
    return this.#recv;
  }

  get recvCounts(): CudaTensor {
    this.#checkCurrent("recvCounts");
    const { context, lane } = this.#parts;
    return view("int32", [context.config.epSize], context.device, context.own + BigInt(lane.at.recvCounts));
  }

  get expertStats(): CudaTensor | undefined {
    this.#checkCurrent("expertStats");
    const { context, lane, checked } = this.#parts;
    if (!checked.expertStats) return undefined;
    const shape = [context.config.epSize, checked.statsLength];
    return view("int32", shape, context.device, context.own + BigInt(lane.at.gatheredStats));
  }

  /** The stream that the dispatch went to: kernels enqueued there see what has arrived. */
  get stream(): bigint {
    return this.#parts.stream;
  }

  combineBuffer(hiddenSize: number, dtype: DType): CudaTensor {
    this.#checkCurrent("combineBuffer()");
    const { context, lane, checked } = this.#parts;
    checkCombineRow(context.checks, "combineBuffer()", hiddenSize, dtype);
    const shape = [context.config.epSize, checked.maxTokens, hiddenSize];
    return view(dtype, shape, context.device, lane.combineBuffer.start);
  }

  async ready(options?: ReadyOptions): Promise<DispatchReport> {
    this.#checkRuns("ready()");
    await this.#phase.ready(options);
    return this.#phase.reports[0] as DispatchReport;
  }

  readySync(): DispatchReport {
    this.#checkRuns("readySync()");
    this.#phase.readySync("Dispatch.readySync()");
    return this.#phase.reports[0] as DispatchReport;
  }

  /** As in the interface; `stream` is by default that of the dispatch. */
  combine(
    expertOutput: CudaTensor,
    options?: { readonly out?: CudaTensor; readonly stream?: bigint },
  ): DeviceCombine {
    const { context, lane, round, checked, capture } = this.#parts;
    this.#checkCombinable();
    const out = options?.out;
    const stream = checkStream(context.checks, options?.stream) ?? this.#parts.stream;
    const kept = lane.block.combine;
    const combine = checkCombine(context.checks, checked, expertOutput, out, kept);
    if (combine !== kept) checkAligned(context.rank, "out", combine.out);
    // Reading the arguments may have run code of the caller.
    this.#checkCombinable();
    this.#combine = CudaCombine.start({
      context,
      lane,
      round,
      dispatch: checked,
      checked: combine,
      out,
      stream,
      capture,
    });
    if (capture) {
      const captured = capture.rounds.find((each) => each.lane === lane && !each.combined);
      if (captured) captured.combined = true;
      capture.uses.push(expertOutput, out);
    }
    return this.#combine;
  }

  async deviceTime(): Promise<DeviceTime | undefined> {
    return await this.#parts.time;
  }

  get unfinished(): string | undefined {
    if (this.#combine || this.#phase.outcome === "failed") return undefined;
    return this.#parts.context.hasFailed() ? undefined : "it was not combined; call combine() first";
  }

  #checkCombinable(): void {
    const { context, round } = this.#parts;
    if (this.#combine) throw context.combinedError(round);
    context.checkUsable("combine()");
    this.#checkCurrent("combine()");
  }

  /** What a dispatch shows holds until the lane's next dispatch. */
  #checkCurrent(what: string): void {
    const { context, lane, round } = this.#parts;
    context.checkOpen(what);
    if (lane.current !== this) throw context.overError(what, round);
  }

  /** A captured round has no outcome of its own. */
  #checkRuns(call: string): void {
    const { context, capture } = this.#parts;
    if (capture) {
      throw context.stateError(
        `Dispatch.${call}`,
        "captured",
        "this round is part of a graph; it runs with replay(), whose result has a ready()",
      );
    }
  }
}
