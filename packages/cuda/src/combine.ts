import type { CheckedCombine, CheckedDispatch, CudaTensor, ReadyOptions } from "@moe-a2a/core";
import type { CaptureInProgress, CudaContext } from "./context.js";
import type { DeviceCombine } from "./device-phases.js";
import type { Lane } from "./lane.js";
import { PhaseWait } from "./phase.js";
import type { DeviceTime } from "./phase-clock.js";
import { checkCombinePlaced } from "./placement.js";
import { view } from "./tensors.js";

export interface CombineParts {
  readonly context: CudaContext;
  readonly lane: Lane;
  readonly round: number;
  readonly dispatch: CheckedDispatch<CudaTensor>;
  readonly checked: CheckedCombine<CudaTensor>;
  /** The caller's own tensor, to be handed back as `output`. */
  readonly out: CudaTensor | undefined;
  readonly stream: bigint;
  readonly capture: CaptureInProgress | undefined;
}

/** The second half of a round of the CUDA backend. */
export class CudaCombine implements DeviceCombine {
  readonly #parts: CombineParts;
  readonly #phase: PhaseWait;
  #output: CudaTensor | undefined;
  readonly #time: Promise<DeviceTime | undefined> | undefined;

  private constructor(parts: CombineParts, time: Promise<DeviceTime | undefined> | undefined) {
    this.#parts = parts;
    this.#time = time;
    this.#output = parts.out;
    this.#phase = new PhaseWait(parts.context, parts.lane, "combine", parts.round);
  }

  /** Enqueues the combine. @throws ERR_MOE_A2A_ARGUMENT, ERR_MOE_A2A_CUDA */
  static start(parts: CombineParts): CudaCombine {
    const { context, lane, round, dispatch, checked, stream, capture } = parts;
    const target = checked.out ?? lane.ownOutput(dispatch.numLocalTokens, checked);
    // What stands in the lane's block has passed.
    if (checked !== lane.block.combine || target !== lane.block.output) {
      checkCombinePlaced(context, lane, checked, target);
    }
    const { native, id } = context;
    lane.block.setCombine(checked, target, { stream, capture: capture?.id ?? 0n });
    const timer = context.timePhase(stream);
    if (native.combine(id, lane.index) < 0) {
      timer?.cancel();
      throw context.launchError("combine()", stream, native.lastError());
    }
    const started = new CudaCombine(parts, timer?.end());
    lane.lastCombine = started;
    if (!capture) {
      lane.noteCombine(checked.expertOutput, target, round, stream);
    }
    return started;
  }

  get output(): CudaTensor {
    const { context, lane, dispatch, checked, out } = this.#parts;
    context.checkOpen("output");
    if (!out && lane.lastCombine !== this) {
      throw context.stateError(
        "output",
        "over",
        "the lane's next combine reuses this memory; pass 'out' to keep results longer",
      );
    }
    if (!this.#output) {
      const shape = [dispatch.numLocalTokens, checked.hiddenSize];
      this.#output = view(checked.dtype, shape, context.device, lane.output);
    }
    return this.#output;
  }

  async ready(options?: ReadyOptions): Promise<void> {
    this.#checkRuns("ready()");
    await this.#phase.ready(options);
  }

  readySync(): void {
    this.#checkRuns("readySync()");
    this.#phase.readySync("Combine.readySync()");
  }

  async deviceTime(): Promise<DeviceTime | undefined> {
    return await this.#time;
  }

  /** A captured round has no outcome of its own. */
  #checkRuns(call: string): void {
    const { context, capture } = this.#parts;
    if (capture) {
      throw context.stateError(
        `Combine.${call}`,
        "captured",
        "this round is part of a graph; it runs with replay(), whose result has a ready()",
      );
    }
  }
}
