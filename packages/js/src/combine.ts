import {
  argumentError,
  type CheckedCombine,
  type CheckedDispatch,
  type Combine,
  type CpuTensor,
  type MoeA2AError,
  type ReadyOptions,
} from "@moe-a2a/core";
import type { RankContext } from "./context.js";
import type { Lane } from "./lane.js";
import { PhaseWait } from "./phase.js";
import { spoilCombine, takeCombine } from "./receive.js";
import { sendCombine } from "./send.js";
import { settle, settleSync } from "./settle.js";
import { tensorAt } from "./tensors.js";

export interface CombineParts {
  readonly context: RankContext;
  readonly lane: Lane;
  readonly round: number;
  readonly checked: CheckedDispatch;
  readonly combine: CheckedCombine;
  readonly expertOutput: CpuTensor;
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
    const { context, lane, round, checked, combine, out } = parts;
    this.#context = context;
    this.#lane = lane;
    this.#round = round;
    this.#ownsOutput = out !== undefined;
    const { numLocalTokens, maxTokens } = checked;
    const { hiddenSize, dtype } = combine;
    const output =
      out ?? tensorAt(context.privateMemory, lane.outputOffset, dtype, [numLocalTokens, hiddenSize]);
    this.#output = output;
    this.#phase = new PhaseWait({
      context,
      lane,
      phase: "combine",
      round,
      arrivals: lane.arrivals,
      complete: () => takeCombine(context, lane, { numLocalTokens, maxTokens, hiddenSize, dtype, output }),
      spoil: () => spoilCombine(output),
      exchanges: maxTokens > 0,
    });
  }

  /** Offers the expert output to the peers; on an instance that has failed nothing is sent. */
  static start(parts: CombineParts): JsCombine {
    const { context, lane, round, checked, combine, expertOutput } = parts;
    checkOverlap(context, lane, expertOutput, parts.out);
    const started = new JsCombine(parts);
    if (!started.#phase.hasFailed() && checked.maxTokens > 0) {
      sendCombine(context, lane, { number: round, maxTokens: checked.maxTokens }, expertOutput, combine);
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
    if (!this.#ownsOutput && this.#lane.current?.combined !== this && this.#lane.current?.combined) {
      throw context.stateError(
        "output",
        "over",
        `the lane's next combine reuses this memory; pass 'out' to keep results longer`,
      );
    }
    return this.#output;
  }

  async ready(options?: ReadyOptions): Promise<void> {
    await settle(this.#context, this.#phase, options);
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
  expertOutput: CpuTensor,
  out: CpuTensor | undefined,
): void {
  const overlaps = ({ data }: CpuTensor, { at }: Lane): boolean =>
    data.buffer === context.own.memory &&
    data.byteOffset < at.combine + context.combineBytes &&
    data.byteOffset + data.byteLength > at.combine;
  if (overlaps(expertOutput, lane) && expertOutput.data.byteOffset !== lane.at.combine) {
    throw argumentError(
      context.rank,
      "expertOutput",
      "lies inside the combine buffer but does not start where it starts; pass what combineBuffer() returned",
    );
  }
  if (out && context.lanes.some((other) => overlaps(out, other))) {
    throw argumentError(
      context.rank,
      "out",
      "lies inside a combine buffer, which peers read; pass other memory",
    );
  }
}
