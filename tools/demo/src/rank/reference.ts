import type { Experts } from "../model/experts.js";
import type { ModelShape } from "../model/shape.js";
import type { LayerWeights } from "../model/weights.js";

/**
 * A MoE layer as one rank with all experts computes it, nothing dispatched, with the sums grouped as the all-to-all
 * groups them: the experts of one owner are summed and rounded to bfloat16 by the expert code, then the owners' sums are
 * added in float32 in the order in which the token names the owners, and the total is rounded to bfloat16 once.
 *
 * Grouping and rounding are written out here, so that they share nothing with what they check.
 */
export class ReferenceMoe {
  readonly #experts: Experts;
  readonly #topK: number;
  /** `#ownerOf[e]` owns expert e. */
  readonly #ownerOf: readonly number[];
  readonly #partial: Uint16Array;
  readonly #sum: OwnerSum;

  constructor(shape: ModelShape, ranks: number, experts: Experts) {
    this.#experts = experts;
    this.#topK = shape.topK;
    this.#ownerOf = Array.from({ length: ranks }, (_, rank) => {
      const owned = Math.floor(shape.experts / ranks) + (rank < shape.experts % ranks ? 1 : 0);
      return new Array<number>(owned).fill(rank);
    }).flat();
    this.#partial = new Uint16Array(shape.hidden);
    this.#sum = new OwnerSum(shape.hidden);
  }

  /** The distinct owners of a token's experts, in the order in which its ids from `at` on name them first. */
  owners(ids: Int32Array, at: number): number[] {
    const owners: number[] = [];
    for (let k = at; k < at + this.#topK; k++) {
      const owner = this.#ownerOf[ids[k]!]!;
      if (!owners.includes(owner)) owners.push(owner);
    }
    return owners;
  }

  /** Computes the token whose row of `x` starts at `offset` and whose ids and weights start at `at`, into `out`. */
  token(
    weights: LayerWeights,
    x: Uint16Array,
    offset: number,
    ids: Int32Array,
    topWeights: Float32Array,
    at: number,
    out: Uint16Array,
  ): void {
    this.#sum.clear();
    for (const owner of this.owners(ids, at)) {
      const start = this.#ownerOf.indexOf(owner);
      const end = this.#ownerOf.lastIndexOf(owner) + 1;
      this.#experts.run(weights, start, end, x, offset, ids, topWeights, at, this.#partial, 0);
      this.#sum.add(this.#partial);
    }
    this.#sum.round(out);
  }
}

/** Adds bfloat16 rows in float32, from +0, and rounds once. */
export class OwnerSum {
  readonly #sum: Float32Array;
  readonly #float = new Float32Array(1);
  readonly #bits = new Uint32Array(this.#float.buffer);

  constructor(length: number) {
    this.#sum = new Float32Array(length);
  }

  clear(): void {
    this.#sum.fill(0);
  }

  add(row: Uint16Array): void {
    for (let i = 0; i < row.length; i++) {
      this.#bits[0] = row[i]! << 16;
      this.#sum[i] = this.#sum[i]! + this.#float[0]!;
    }
  }

  /** To nearest, ties to the even neighbour. */
  round(out: Uint16Array): void {
    for (let i = 0; i < out.length; i++) {
      this.#float[0] = this.#sum[i]!;
      const low = this.#bits[0]! >>> 16;
      const rest = this.#bits[0]! & 0xffff;
      const up = rest > 0x8000 || (rest === 0x8000 && low % 2 === 1);
      out[i] = Number.isNaN(this.#sum[i]) ? 0x7fc0 : low + Number(up);
    }
  }
}
