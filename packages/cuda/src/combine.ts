import {
  type CheckedCombine,
  type CheckedDispatch,
  type CheckedTensor,
  type CudaTensor,
  misplacedExpertOutputError,
  misplacedOutError,
  type ReadyOptions,
  sharedOutError,
} from "@moe-a2a/core";
import type { CaptureInProgress, CudaContext } from "./context.js";
import type { DeviceCombine } from "./device-phases.js";
import type { Lane } from "./lane.js";
import { overlaps, rangeOf } from "./memory-range.js";
import { cudaError } from "./native.js";
import { PhaseWait } from "./phase.js";
import type { DeviceTime } from "./phase-clock.js";
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
    // What stands in the lane's block has passed.
    if (checked !== lane.block.combine) checkOverlap(context, lane, checked);
    const { native, id } = context;
    const target = checked.out ?? lane.ownOutput(dispatch.numLocalTokens, checked);
    lane.block.setCombine(checked, target, stream);
    const timer = context.timePhase(stream);
    if (native.combine(id, lane.index) < 0) {
      timer?.cancel();
      throw cudaError(native.lastError(), `rank ${context.rank}: combine()`);
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

/** @throws ERR_MOE_A2A_ARGUMENT where a tensor lies across the memory that peers read the results from, or across the other */
function checkOverlap(
  context: CudaContext,
  lane: Lane,
  { expertOutput, out }: CheckedCombine<CudaTensor>,
): void {
  const end = context.window + BigInt(context.layout.windowBytes);
  const inWindow = (t: CheckedTensor<CudaTensor>) => t.data >= context.window && t.data < end;
  if (inWindow(expertOutput)) {
    const buffer = lane.combineBuffer;
    if (expertOutput.data !== buffer.start && overlaps(rangeOf(expertOutput), buffer)) {
      throw misplacedExpertOutputError(context.rank);
    }
  }
  if (out && overlaps(rangeOf(out), rangeOf(expertOutput))) throw sharedOutError(context.rank);
  if (out && inWindow(out)) {
    const range = rangeOf(out);
    if (context.lanes.some((other) => overlaps(range, other.combineBuffer))) {
      throw misplacedOutError(context.rank);
    }
  }
}
