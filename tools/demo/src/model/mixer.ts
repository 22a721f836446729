import { addToRow, multiply, widenRow } from "./linear.js";
import type { ModelShape } from "./shape.js";
import type { LayerWeights } from "./weights.js";

/** What the mixer of one layer remembers of a request: per head a matrix `[keys, values]`. */
export type MixerState = Float32Array;

/**
 * The token mixer: linear attention that forgets, as in retentive networks. A request's past is a matrix per head, so
 * a token costs the same wherever it stands, and a prompt may come in chunks.
 */
export class Mixer {
  readonly #heads: number;
  readonly #width: number;
  readonly #hidden: number;
  readonly #x: Float64Array;
  readonly #query: Float64Array;
  readonly #key: Float64Array;
  readonly #value: Float64Array;
  readonly #mixed: Float64Array;

  constructor({ hidden, heads }: ModelShape) {
    this.#heads = heads;
    this.#width = hidden / heads;
    this.#hidden = hidden;
    this.#x = new Float64Array(hidden);
    this.#query = new Float64Array(hidden);
    this.#key = new Float64Array(hidden);
    this.#value = new Float64Array(hidden);
    this.#mixed = new Float64Array(hidden);
  }

  newState(): MixerState {
    return new Float32Array(this.#heads * this.#width * this.#width);
  }

  /** Runs one token: takes it from a normalised row, updates `state` and adds the result to the row of `residual`. */
  token(
    weights: LayerWeights,
    state: MixerState,
    normalized: Uint16Array,
    residual: Uint16Array,
    offset: number,
  ): void {
    const n = this.#hidden;
    widenRow(normalized, offset, this.#x);
    multiply(weights.query, 0, n, n, this.#x, this.#query);
    multiply(weights.key, 0, n, n, this.#x, this.#key);
    multiply(weights.value, 0, n, n, this.#x, this.#value);
    for (let head = 0; head < this.#heads; head++) this.#attend(head, state);
    multiply(weights.output, 0, n, n, this.#mixed, this.#x);
    addToRow(residual, offset, this.#x);
  }

  #attend(head: number, state: MixerState): void {
    const width = this.#width;
    const first = head * width;
    const decay = 1 - 2 ** -(2 + head);
    const gain = (1 - decay) / Math.sqrt(width);
    const query = this.#query;
    const value = this.#value;
    const mixed = this.#mixed;
    mixed.fill(0, first, first + width);
    let at = first * width;
    for (let i = first; i < first + width; i++) {
      const key = this.#key[i]! * gain;
      const q = query[i]!;
      for (let j = first; j < first + width; j++, at++) {
        state[at] = state[at]! * decay + key * value[j]!;
        mixed[j] = mixed[j]! + q * state[at]!;
      }
    }
  }
}
