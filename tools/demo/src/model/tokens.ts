import { bfloat16ToFloat32, float32ToBfloat16 } from "@moe-a2a/core";
import { Random } from "../random.js";

/** One bfloat16 vector per token id, made from the seed when first asked for. */
class TokenVectors {
  readonly #rows = new Map<number, Uint16Array>();
  readonly #seeds: readonly number[];
  readonly #draw: Float32Array;

  constructor(hidden: number, ...seeds: readonly number[]) {
    this.#seeds = seeds;
    this.#draw = new Float32Array(hidden);
  }

  of(token: number): Uint16Array {
    let row = this.#rows.get(token);
    if (!row) {
      new Random(...this.#seeds, token).fill(this.#draw, Math.sqrt(3));
      row = Uint16Array.from(this.#draw, float32ToBfloat16);
      this.#rows.set(token, row);
    }
    return row;
  }
}

/** The model's two ends: from a token to a row, and from a row to the next token. */
export class Tokens {
  readonly #embeddings: TokenVectors;
  readonly #unembeddings: TokenVectors;

  constructor(hidden: number, seed: number) {
    this.#embeddings = new TokenVectors(hidden, seed, 3);
    this.#unembeddings = new TokenVectors(hidden, seed, 4);
  }

  embed(token: number, out: Uint16Array, offset: number): void {
    out.set(this.#embeddings.of(token), offset);
  }

  /** The token of `vocabulary` with the largest logit; of equals the first. */
  choose(vocabulary: Int32Array, x: Uint16Array, offset: number): number {
    let best = -1;
    let bestLogit = Number.NEGATIVE_INFINITY;
    for (const token of vocabulary) {
      const row = this.#unembeddings.of(token);
      let logit = 0;
      for (let i = 0; i < row.length; i++) {
        logit += bfloat16ToFloat32(row[i]!) * bfloat16ToFloat32(x[offset + i]!);
      }
      if (logit > bestLogit) {
        bestLogit = logit;
        best = token;
      }
    }
    return best;
  }
}
