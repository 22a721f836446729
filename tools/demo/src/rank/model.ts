import { bfloat16ToFloat32, float32ToBfloat16 } from "@moe-a2a/core";
import { normalizeRows } from "../model/linear.js";
import { Mixer } from "../model/mixer.js";
import type { ModelShape } from "../model/shape.js";
import { Tokens } from "../model/tokens.js";
import type { LayerWeights } from "../model/weights.js";
import type { Moe } from "./moe.js";
import type { Sequence } from "./sequence.js";

/** Tokens of one sequence in a step. */
export interface Piece {
  readonly sequence: Sequence;
  readonly start: number;
  readonly count: number;
  readonly samples: boolean;
}

/** The model as one rank runs it: everything but the experts belongs to this rank alone. */
export class Model {
  readonly mixer: Mixer;
  readonly #rank: number;
  readonly #shape: ModelShape;
  readonly #layers: readonly LayerWeights[];
  readonly #moe: Moe;
  readonly #tokens: Tokens;
  readonly #residual: Uint16Array;

  constructor(rank: number, shape: ModelShape, layers: readonly LayerWeights[], seed: number, moe: Moe) {
    this.mixer = new Mixer(shape);
    this.#rank = rank;
    this.#shape = shape;
    this.#layers = layers;
    this.#moe = moe;
    this.#tokens = new Tokens(shape.hidden, seed);
    this.#residual = new Uint16Array(moe.input.length);
  }

  /** Runs a step on this rank's pieces, maybe none, and appends the tokens that it chooses to their sequences. */
  async step(step: number, pieces: readonly Piece[], tokensByRank: readonly number[]): Promise<void> {
    const { hidden } = this.#shape;
    const residual = this.#residual;
    const input = this.#moe.input;
    let tokens = 0;
    for (const { sequence, start, count } of pieces) {
      for (let i = 0; i < count; i++) {
        this.#tokens.embed(sequence.token(start + i), residual, tokens++ * hidden);
      }
    }
    for (const [layer, weights] of this.#layers.entries()) {
      normalizeRows(residual, tokens, hidden, input);
      let row = 0;
      for (const { sequence, count } of pieces) {
        for (let i = 0; i < count; i++) {
          this.mixer.token(weights, sequence.states[layer]!, input, residual, row++ * hidden);
        }
      }
      normalizeRows(residual, tokens, hidden, input);
      const place = { rank: this.#rank, step, layer };
      const rows = await this.#moe.run(place, weights, tokens, tokensByRank);
      for (let i = 0; i < tokens * hidden; i++) {
        residual[i] = float32ToBfloat16(bfloat16ToFloat32(residual[i]!) + bfloat16ToFloat32(rows[i]!));
      }
    }
    normalizeRows(residual, tokens, hidden, input);
    let row = 0;
    for (const { sequence, count, samples } of pieces) {
      row += count;
      if (!samples) continue;
      sequence.append(this.#tokens.choose(sequence.request.vocabulary, input, (row - 1) * hidden));
    }
  }
}
