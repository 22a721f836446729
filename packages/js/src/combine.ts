import {
  type CheckedCombine,
  type Combine,
  type CombineDType,
  type CpuTensor,
  goneOutError,
  type MoeA2AError,
  misplacedExpertOutputError,
  misplacedOutError,
  ownOutputError,
  type ReadyOptions,
  sharedOutError,
} from "@moe-a2a/core";
import type { RankContext } from "./context.js";
import type { DispatchPhase } from "./dispatch.js";
import { isCombineAgreed } from "./headers.js";
import type { Lane } from "./lane.js";
import { PhaseWait, type PhaseWork } from "./phase.js";
import { type Output, passCombineFlags, type Summing, spoilCombine, takeCombine } from "./receive.js";
import { settle, settleSync, throwFailure } from "./settle.js";
import { tensorAt } from "./tensors.js";

/** The second half of a round, as this rank plays it. */
class CombinePhase implements Summing, PhaseWork {
  readonly context: RankContext;
  readonly lane: Lane;
  readonly round: number;
  readonly wait: PhaseWait;
  readonly numLocalTokens: number;
  readonly maxTokens: number;
  readonly hiddenSize: number;
  readonly dtype: CombineDType;
  // Plain, as in PhaseWait.
  private readonly out: Output | undefined;

  constructor({ context, lane, round, checked }: DispatchPhase, combine: CheckedCombine<CpuTensor>) {
    this.context = context;
    this.lane = lane;
    this.round = round;
    this.wait = new PhaseWait(context, lane, "combine", round, checked.maxTokens > 0, this);
    this.wait.begin();
    const { hiddenSize, dtype, out } = combine;
    this.numLocalTokens = checked.numLocalTokens;
    this.maxTokens = checked.maxTokens;
    this.hiddenSize = hiddenSize;
    this.dtype = dtype;
    this.out = out && { data: out.data as Output["data"], dtype: out.dtype as CombineDType, start: 0 };
  }

  isAgreed(): boolean {
    const { own, generation, activeRanks } = this.context;
    return isCombineAgreed(own, this.lane, this.round, generation, this, activeRanks);
  }

  complete(): void {
    if (this.maxTokens === 0) passCombineFlags(this.context, this.lane, this.round);
    const { numLocalTokens, hiddenSize, out } = this;
    // The caller may have transferred or shrunk it since combine().
    if (out && out.data.length < numLocalTokens * hiddenSize) throw goneOutError(this.context.rank);
    if (numLocalTokens > 0) takeCombine(this.context, this.lane, this, this.output());
  }

  spoil(): void {
    spoilCombine(this, this.output());
  }

  /** Where the sums go: worked out only where there are any. */
  private output(): Output {
    const { context, lane, dtype } = this;
    const elementBytes = dtype === "float32" ? 4 : 2;
    return this.out ?? { data: context.private.rows(dtype), dtype, start: lane.outputOffset / elementBytes };
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
    checkPlaced(context, lane, dispatch.checked.numLocalTokens, checked);
    const phase = new CombinePhase(dispatch, checked);
    const started = new JsCombine(phase, out);
    lane.combinedRound = round;
    if (!phase.wait.hasFailed() && phase.maxTokens > 0) {
      context.wire.sendCombine(lane, { number: round, maxTokens: phase.maxTokens }, checked);
    }
    return started;
  }

  get output(): CpuTensor {
    const { context, lane, round, wait, dtype, numLocalTokens, hiddenSize } = this.#phase;
    if (!this.#shown) {
      const { error } = wait;
      throw error
        ? context.stateError("output", "failed", `the combine of round ${round} failed (${error.code})`)
        : context.stateError(
            "output",
            "combining",
            `the combine of round ${round} is not known to be ready; await ready() first`,
          );
    }
    if (!this.#ownsOutput && lane.combinedRound !== round) {
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
      const waiting = settle(this.#phase.wait, options);
      if (waiting) return waiting.then(() => this.#show());
      this.#show();
      return READY;
    } catch (error) {
      return Promise.reject(error);
    }
  }

  readySync(): void {
    settleSync(this.#phase.wait, "Combine.readySync()");
    this.#shown = true;
  }

  #show(): void {
    throwFailure(this.#phase.wait);
    this.#shown = true;
  }

  poll(): boolean {
    return this.#phase.wait.poll();
  }

  giveUp(error: MoeA2AError): void {
    this.#phase.wait.giveUp(error);
  }
}

/**
 * @throws ERR_MOE_A2A_ARGUMENT where expert output lies across the memory that peers read the results from, where `out` lies
 * in memory of the plan, and where one lies across the other
 */
function checkPlaced(
  { own, privateMemory, combineBytes, rank }: RankContext,
  { at, outputOffset }: Lane,
  rows: number,
  { expertOutput: { data: given }, out, rowBytes }: CheckedCombine<CpuTensor>,
): void {
  // Asking for a typed array's buffer takes longer than all else here, and no bytes lie nowhere.
  const buffer = given.length > 0 ? given.buffer : undefined;
  const isAcross = (start: number, bytes: number) =>
    given.byteOffset < start + bytes && given.byteOffset + given.byteLength > start;
  if (buffer === own.memory && given.byteOffset !== at.combine && isAcross(at.combine, combineBytes)) {
    throw misplacedExpertOutputError(rank);
  }
  if (!out) {
    if (buffer === privateMemory && isAcross(outputOffset, rows * rowBytes)) throw ownOutputError(rank);
  } else if (out.data.length > 0) {
    const { buffer: target, byteOffset, byteLength } = out.data;
    if (target === own.memory || target === privateMemory) throw misplacedOutError(rank);
    if (target === buffer && isAcross(byteOffset, byteLength)) throw sharedOutError(rank);
  }
}
