import { multiply, widenRow } from "./linear.js";
import type { ModelShape } from "./shape.js";
import type { LayerWeights } from "./weights.js";

/** Chooses each token's experts: softmax over all of them, the `topK` best, weights that sum to 1. */
export class Router {
  readonly #experts: number;
  readonly #topK: number;
  readonly #hidden: number;
  readonly #x: Float64Array;
  readonly #logits: Float64Array;

  constructor({ hidden, experts, topK }: ModelShape) {
    this.#experts = experts;
    this.#topK = topK;
    this.#hidden = hidden;
    this.#x = new Float64Array(hidden);
    this.#logits = new Float64Array(experts);
  }

  /** Routes `x`'s row at `offset`; writes `topK` ids and weights from `at` on, best first, of equals the lower id first. */
  route(
    weights: LayerWeights,
    x: Uint16Array,
    offset: number,
    ids: Int32Array,
    topWeights: Float32Array,
    at: number,
  ): void {
    const logits = this.#logits;
    widenRow(x, offset, this.#x);
    multiply(weights.router, 0, this.#experts, this.#hidden, this.#x, logits);

    let best = Number.NEGATIVE_INFINITY;
    for (let k = 0; k < this.#topK; k++) {
      let choice = -1;
      for (let e = 0; e < logits.length; e++) {
        if (!taken(ids, at, k, e) && (choice < 0 || logits[e]! > logits[choice]!)) choice = e;
      }
      ids[at + k] = choice;
      if (k === 0) best = logits[choice]!;
    }
    // The softmax's own sum cancels once the chosen weights are made to sum to 1.
    let sum = 0;
    for (let k = 0; k < this.#topK; k++) sum += Math.exp(logits[ids[at + k]!]! - best);
    for (let k = 0; k < this.#topK; k++) topWeights[at + k] = Math.exp(logits[ids[at + k]!]! - best) / sum;
  }
}

function taken(ids: Int32Array, at: number, count: number, expert: number): boolean {
  for (let k = 0; k < count; k++) if (ids[at + k] === expert) return true;
  return false;
}
