import {
  type CheckedCombine,
  type CheckedTensor,
  type Combine,
  type CombineDType,
  type CpuTensor,
  type MoeA2AError,
  misplacedExpertOutputError,
  misplacedOutError,
  type ReadyOptions,
  sharedOutError,
} from "@moe-a2a/core";
import type { RankContext } from "./context.js";
import type { DispatchPhase } from "./dispatch.js";
import type { Lane } from "./lane.js";
import { PhaseWait } from "./phase.js";
import { type Output, passCombineFlags, type Summing, spoilCombine, takeCombine } from "./receive.js";
import { settle, settleSync, throwFailure } from "./settle.js";
import { tensorAt } from "./tensors.js";

/** The second half of a round, as this rank plays it. */
class CombinePhase extends PhaseWait implements Summing {
  readonly numLocalTokens: number;
  readonly maxTokens: number;
  readonly hiddenSize: number;
  readonly dtype: CombineDType;
  readonly #output: Output;

  constructor({ context, lane, round, checked }: DispatchPhase, combine: CheckedCombine<CpuTensor>) {
    super(context, lane, "combine", round, checked.maxTokens > 0);
    const { hiddenSize, dtype, out } = combine;
    this.numLocalTokens = checked.numLocalTokens;
    this.maxTokens = checked.maxTokens;
    this.hiddenSize = hiddenSize;
    this.dtype = dtype;
    const elementBytes = dtype === "float32" ? 4 : 2;
    this.#output = out
      ? { data: out.data as Output["data"], dtype: out.dtype as CombineDType, start: 0 }
      : { data: context.private.rows(dtype), dtype, start: lane.outputOffset / elementBytes };
  }

  protected override complete(): void {
    if (this.maxTokens === 0) passCombineFlags(this.context, this.lane, this.round);
    takeCombine(this.context, this.lane, this, this.#output);
  }

  protected override spoil(): void {
    spoilCombine(this, this.#output);
  }
}

/** What is ready needs no promise of its own. */
const READY: Promise<void> = Promise.resolve();

/** The second half of a round of the CPU backend. */
export class JsCombine implements Combine<CpuTensor> {
  readonly #phase: CombinePhase;
  /** The caller's own tensor, or the plan's memory, shown when somebody asks. */
  #output: CpuTensor | undefined;
  readonly #ownsOutput: boolean;
  #shown = false;

  private constructor(phase: CombinePhase, out: CpuTensor | undefined) {
    this.#phase = phase;
    this.#output = out;
    this.#ownsOutput = out !== undefined;
  }

  /**
   * Offers the expert output to the peers; on an instance that has failed nothing is sent.
   *
   * @param out the caller's own tensor, to be handed back as `output`
   */
  static start(
    dispatch: DispatchPhase,
    checked: CheckedCombine<CpuTensor>,
    out: CpuTensor | undefined,
  ): JsCombine {
    const { context, lane, round } = dispatch;
    checkOverlap(context, lane, checked);
    const phase = new CombinePhase(dispatch, checked);
    const started = new JsCombine(phase, out);
    lane.lastCombine = started;
    if (!phase.hasFailed() && phase.maxTokens > 0) {
      context.wire.sendCombine(lane, { number: round, maxTokens: phase.maxTokens }, checked);
    }
    return started;
  }

  get output(): CpuTensor {
    const { context, lane, round, error, dtype, numLocalTokens, hiddenSize } = this.#phase;
    if (!this.#shown) {
      throw error
        ? context.stateError("output", "failed", `the combine of round ${round} failed (${error.code})`)
        : context.stateError(
            "output",
            "combining",
            `the combine of round ${round} is not known to be ready; await ready() first`,
          );
    }
    if (!this.#ownsOutput && lane.lastCombine !== this) {
      throw context.stateError(
        "output",
        "over",
        `the lane's next combine reuses this memory; pass 'out' to keep results longer`,
      );
    }
    this.#output ??= tensorAt(context.privateMemory, lane.outputOffset, dtype, [numLocalTokens, hiddenSize]);
    return this.#output;
  }

  ready(options?: ReadyOptions): Promise<void> {
    try {
      const waiting = settle(this.#phase, options);
      if (waiting) return waiting.then(() => this.#show());
      this.#show();
      return READY;
    } catch (error) {
      return Promise.reject(error);
    }
  }

  readySync(): void {
    settleSync(this.#phase, "Combine.readySync()");
    this.#shown = true;
  }

  #show(): void {
    throwFailure(this.#phase);
    this.#shown = true;
  }

  poll(): boolean {
    return this.#phase.poll();
  }

  giveUp(error: MoeA2AError): void {
    this.#phase.giveUp(error);
  }
}

/** @throws ERR_MOE_A2A_ARGUMENT where a tensor lies across the memory that peers read the results from, or across the other */
function checkOverlap(
  context: RankContext,
  lane: Lane,
  { expertOutput, out }: CheckedCombine<CpuTensor>,
): void {
  if (overlaps(context, lane, expertOutput) && expertOutput.data.byteOffset !== lane.at.combine) {
    throw misplacedExpertOutputError(context.rank);
  }
  if (out && context.lanes.some((other) => overlaps(context, other, out))) {
    throw misplacedOutError(context.rank);
  }
  if (out && shareMemory(out, expertOutput)) throw sharedOutError(context.rank);
}

function shareMemory({ data: a }: CheckedTensor<CpuTensor>, { data: b }: CheckedTensor<CpuTensor>): boolean {
  return (
    a.buffer === b.buffer &&
    a.byteOffset < b.byteOffset + b.byteLength &&
    b.byteOffset < a.byteOffset + a.byteLength
  );
}

function overlaps(
  { own, combineBytes }: RankContext,
  { at }: Lane,
  { data }: CheckedTensor<CpuTensor>,
): boolean {
  return (
    // Asking for a typed array's buffer takes longer than all else here, and no bytes lie nowhere.
    data.length > 0 &&
    data.buffer === own.memory &&
    data.byteOffset < at.combine + combineBytes &&
    data.byteOffset + data.byteLength > at.combine
  );
}
