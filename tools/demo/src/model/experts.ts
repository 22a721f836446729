import { float32ToBfloat16 } from "@moe-a2a/core";
import { multiply, widenRow } from "./linear.js";
import type { ModelShape } from "./shape.js";
import type { LayerWeights } from "./weights.js";

/** Runs experts: SwiGLU networks whose results are weighted and summed. */
export class Experts {
  readonly #topK: number;
  readonly #hidden: number;
  readonly #intermediate: number;
  readonly #x: Float64Array;
  readonly #gateUp: Float64Array;
  readonly #inner: Float64Array;
  readonly #result: Float64Array;
  readonly #sum: Float64Array;

  constructor({ hidden, intermediate, topK }: ModelShape) {
    this.#topK = topK;
    this.#hidden = hidden;
    this.#intermediate = intermediate;
    this.#x = new Float64Array(hidden);
    this.#gateUp = new Float64Array(2 * intermediate);
    this.#inner = new Float64Array(intermediate);
    this.#result = new Float64Array(hidden);
    this.#sum = new Float64Array(hidden);
  }

  /**
   * Runs those of one token's experts that lie in `[start, end)`: reads the token's row of `x` at `offset` and its ids
   * and weights from `at` on, sums in ascending k, and writes the sum as bfloat16 to `out` at `outOffset`.
   */
  run(
    weights: LayerWeights,
    start: number,
    end: number,
    x: Uint16Array,
    offset: number,
    ids: Int32Array,
    topWeights: Float32Array,
    at: number,
    out: Uint16Array,
    outOffset: number,
  ): void {
    const sum = this.#sum;
    const result = this.#result;
    widenRow(x, offset, this.#x);
    sum.fill(0);
    for (let k = at; k < at + this.#topK; k++) {
      const expert = ids[k]!;
      if (expert < start || expert >= end) continue;
      this.#expert(weights, expert);
      const weight = topWeights[k]!;
      for (let i = 0; i < sum.length; i++) sum[i] = sum[i]! + weight * result[i]!;
    }
    for (let i = 0; i < sum.length; i++) out[outOffset + i] = float32ToBfloat16(sum[i]!);
  }

  #expert({ gateUp, down }: LayerWeights, expert: number): void {
    const hidden = this.#hidden;
    const width = this.#intermediate;
    const both = this.#gateUp;
    const inner = this.#inner;
    multiply(gateUp, expert * 2 * width * hidden, 2 * width, hidden, this.#x, both);
    for (let i = 0; i < width; i++) {
      const gate = both[i]!;
      inner[i] = (gate / (1 + Math.exp(-gate))) * both[width + i]!;
    }
    multiply(down, expert * hidden * width, hidden, width, inner, this.#result);
  }
}
