import { Experts } from "../model/experts.js";
import { Router } from "../model/router.js";
import type { ModelShape } from "../model/shape.js";
import type { LayerWeights } from "../model/weights.js";
import { ReferenceMoe } from "./reference.js";

/** A token's row and its routing; row `t` of each array belongs to the same token. */
export interface RoutedRows {
  readonly hidden: Uint16Array;
  readonly ids: Int32Array;
  readonly topWeights: Float32Array;
}

/** Where in the run a layer is computed. */
export interface Place {
  readonly rank: number;
  readonly step: number;
  readonly layer: number;
}

/** Compares what the all-to-all delivered with what it should have, and counts the rows that differ. */
export class Checker {
  /** Rows that differ. */
  mismatches = 0;
  /** Rows compared. */
  compared = 0;
  /** What the first of the mismatches was. */
  first: string | undefined;
  readonly #shape: ModelShape;
  readonly #router: Router;
  readonly #reference: ReferenceMoe;
  readonly #ids: Int32Array;
  readonly #topWeights: Float32Array;
  readonly #row: Uint16Array;

  constructor(shape: ModelShape, ranks: number) {
    this.#shape = shape;
    this.#router = new Router(shape);
    this.#reference = new ReferenceMoe(shape, ranks, new Experts(shape));
    this.#ids = new Int32Array(shape.topK);
    this.#topWeights = new Float32Array(shape.topK);
    this.#row = new Uint16Array(shape.hidden);
  }

  /**
   * Checks received slots: a row must come with the very ids and weights that the router gives it, one of them an expert
   * of `[start, end)`; a padding slot must have invalid ids only.
   *
   * @param counts rows received from each rank, each of which has `slots` slots
   */
  received(
    place: Place,
    weights: LayerWeights,
    rows: RoutedRows,
    counts: Int32Array,
    slots: number,
    { start, end }: { readonly start: number; readonly end: number },
  ): void {
    const { hidden, topK } = this.#shape;
    for (let source = 0; source < counts.length; source++) {
      for (let j = 0; j < slots; j++) {
        const slot = source * slots + j;
        const at = slot * topK;
        const slotName = `slot ${j} from rank ${source}`;
        if (j >= counts[source]!) {
          const id = rows.ids.subarray(at, at + topK).find((id) => id !== -1);
          if (id !== undefined) this.#mismatch(place, `${slotName} is padding, but names expert ${id}`);
          continue;
        }
        this.compared++;
        this.#router.route(weights, rows.hidden, slot * hidden, this.#ids, this.#topWeights, 0);
        let own = false;
        let same = true;
        for (let k = 0; k < topK; k++) {
          const id = rows.ids[at + k]!;
          own ||= id >= start && id < end;
          same &&= id === this.#ids[k] && Object.is(rows.topWeights[at + k], this.#topWeights[k]);
        }
        if (!same) this.#mismatch(place, `${slotName} has ids or weights that are not its row's`);
        else if (!own) this.#mismatch(place, `${slotName} has no expert of this rank`);
      }
    }
  }

  /** Compares the layer's combined rows of this rank's `count` tokens with the reference, bit for bit. */
  combined(
    place: Place,
    weights: LayerWeights,
    rows: RoutedRows,
    count: number,
    combined: Uint16Array,
  ): void {
    const { hidden, topK } = this.#shape;
    for (let t = 0; t < count; t++) {
      this.compared++;
      const offset = t * hidden;
      this.#reference.token(weights, rows.hidden, offset, rows.ids, rows.topWeights, t * topK, this.#row);
      const at = this.#row.findIndex((bits, i) => bits !== combined[offset + i]);
      if (at < 0) continue;
      const hex = (bits: number | undefined): string => `0x${(bits ?? 0).toString(16).padStart(4, "0")}`;
      this.#mismatch(
        place,
        `token ${t}, element ${at} combined to ${hex(combined[offset + at])}, not ${hex(this.#row[at])}`,
      );
    }
  }

  #mismatch({ rank, step, layer }: Place, what: string): void {
    this.mismatches++;
    this.first ??= `rank ${rank}, step ${step}, layer ${layer}: ${what}`;
  }
}
