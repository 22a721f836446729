import {
  type CheckedCombine,
  type CheckedDispatch,
  type CheckedTensor,
  type Combine,
  type CpuTensor,
  type MoeA2AError,
  misplacedExpertOutputError,
  misplacedOutError,
  type ReadyOptions,
} from "@moe-a2a/core";
import type { RankContext } from "./context.js";
import type { Lane } from "./lane.js";
import { PhaseWait } from "./phase.js";
import { passCombineFlags, spoilCombine, takeCombine } from "./receive.js";
import { settle, settleSync, throwFailure } from "./settle.js";
import { tensorAt } from "./tensors.js";

export interface CombineParts {
  readonly context: RankContext;
  readonly lane: Lane;
  readonly round: number;
  readonly dispatch: CheckedDispatch<CpuTensor>;
  readonly checked: CheckedCombine<CpuTensor>;
  /** The caller's own tensor, to be handed back as `output`. */
  readonly out: CpuTensor | undefined;
}

/** The second half of a round of the CPU backend. */
export class JsCombine implements Combine<CpuTensor> {
  readonly #context: RankContext;
  readonly #lane: Lane;
  readonly #round: number;
  readonly #phase: PhaseWait;
  readonly #output: CpuTensor;
  readonly #ownsOutput: boolean;
  #shown = false;

  private constructor(parts: CombineParts) {
    const { context, lane, round, dispatch, checked, out } = parts;
    this.#context = context;
    this.#lane = lane;
    this.#round = round;
    this.#ownsOutput = out !== undefined;
    const { numLocalTokens, maxTokens } = dispatch;
    const { hiddenSize, dtype } = checked;
    const planned = () =>
      tensorAt(context.privateMemory, lane.outputOffset, dtype, [numLocalTokens, hiddenSize]);
    this.#output = out ?? planned();
    const output = checked.out ?? this.#output;
    this.#phase = new PhaseWait({
      context,
      lane,
      phase: "combine",
      round,
      arrivals: lane.arrivals,
      exchanges: maxTokens > 0,
      complete: () => {
        if (maxTokens === 0) passCombineFlags(context, lane, round);
        takeCombine(context, lane, { numLocalTokens, maxTokens, hiddenSize, dtype, output });
      },
      spoil: () => spoilCombine(output),
    });
  }

  /** Offers the expert output to the peers; on an instance that has failed nothing is sent. */
  static start(parts: CombineParts): JsCombine {
    const { context, lane, round, dispatch, checked } = parts;
    checkOverlap(context, lane, checked);
    const started = new JsCombine(parts);
    lane.lastCombine = started;
    if (!started.#phase.hasFailed() && dispatch.maxTokens > 0) {
      context.wire.sendCombine(lane, { number: round, maxTokens: dispatch.maxTokens }, checked);
    }
    return started;
  }

  get output(): CpuTensor {
    const context = this.#context;
    if (!this.#shown) {
      const { error } = this.#phase;
      throw error
        ? context.stateError("output", "failed", `the combine of round ${this.#round} failed (${error.code})`)
        : context.stateError(
            "output",
            "combining",
            `the combine of round ${this.#round} is not known to be ready; await ready() first`,
          );
    }
    if (!this.#ownsOutput && this.#lane.lastCombine !== this) {
      throw context.stateError(
        "output",
        "over",
        `the lane's next combine reuses this memory; pass 'out' to keep results longer`,
      );
    }
    return this.#output;
  }

  async ready(options?: ReadyOptions): Promise<void> {
    const waiting = settle(this.#context, this.#phase, options);
    if (waiting) await waiting;
    throwFailure(this.#context, this.#phase);
    this.#shown = true;
  }

  readySync(): void {
    settleSync(this.#context, this.#phase, "Combine.readySync()");
    this.#shown = true;
  }

  poll(): boolean {
    return this.#phase.poll();
  }

  giveUp(error: MoeA2AError): void {
    this.#phase.giveUp(error);
  }
}

/** @throws ERR_MOE_A2A_ARGUMENT where a tensor lies across the memory that peers read the results from */
function checkOverlap(
  context: RankContext,
  lane: Lane,
  { expertOutput, out }: CheckedCombine<CpuTensor>,
): void {
  const overlaps = ({ data }: CheckedTensor<CpuTensor>, { at }: Lane): boolean =>
    data.buffer === context.own.memory &&
    data.byteOffset < at.combine + context.combineBytes &&
    data.byteOffset + data.byteLength > at.combine;
  if (overlaps(expertOutput, lane) && expertOutput.data.byteOffset !== lane.at.combine) {
    throw misplacedExpertOutputError(context.rank);
  }
  if (out && context.lanes.some((other) => overlaps(out, other))) {
    throw misplacedOutError(context.rank);
  }
}
