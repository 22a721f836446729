import { expertRange, type MoeAllToAll } from "@moe-a2a/core";
import { MoeA2ADispatcher } from "@moe-a2a/sglang";
import { Experts } from "../model/experts.js";
import { Router } from "../model/router.js";
import type { ModelShape } from "../model/shape.js";
import type { LayerWeights } from "../model/weights.js";
import { Checker, type Place } from "./checker.js";
import { giveBack, hostData, Rows } from "./rows.js";

/** The expert-parallel MoE layers of one rank. All of them share one dispatcher, one after another. */
export class Moe {
  readonly checker: Checker;
  /** Where the layer's input is to be written: bfloat16 `[tokens, hidden]`. */
  readonly input: Uint16Array;
  readonly #a2a: MoeAllToAll;
  readonly #dispatcher: MoeA2ADispatcher;
  readonly #shape: ModelShape;
  readonly #router: Router;
  readonly #experts: Experts;
  readonly #own: { readonly start: number; readonly end: number };
  readonly #hidden: Rows<"bfloat16">;
  readonly #ids: Rows<"int32">;
  readonly #topWeights: Rows<"float32">;
  #flipBit: boolean;

  /** @param flipBit whether to spoil one bit of the first row that comes back, which the checker has to notice */
  constructor(a2a: MoeAllToAll, shape: ModelShape, flipBit: boolean) {
    const { epSize, maxTokensPerRank } = a2a.config;
    this.#a2a = a2a;
    this.#shape = shape;
    this.#dispatcher = new MoeA2ADispatcher({
      a2a,
      hiddenSize: shape.hidden,
      dtype: "bfloat16",
      combineInPlace: true,
    });
    this.#router = new Router(shape);
    this.#experts = new Experts(shape);
    this.#own = expertRange(a2a.config, a2a.epRank);
    this.#hidden = new Rows(a2a, "bfloat16", maxTokensPerRank, shape.hidden);
    this.#ids = new Rows(a2a, "int32", maxTokensPerRank, shape.topK);
    this.#topWeights = new Rows(a2a, "float32", maxTokensPerRank, shape.topK);
    this.input = this.#hidden.host;
    this.checker = new Checker(shape, epSize);
    this.#flipBit = flipBit;
  }

  /**
   * Runs a layer on the first `tokens` rows of `input`: route, dispatch, experts, combine. A rank without tokens calls
   * like any other.
   *
   * @param tokensByRank every rank's tokens in this step
   * @returns bfloat16 `[tokens, hidden]`, good until the next call
   */
  async run(
    place: Place,
    weights: LayerWeights,
    tokens: number,
    tokensByRank: readonly number[],
  ): Promise<Uint16Array> {
    const { hidden, topK } = this.#shape;
    const sent = { hidden: this.input, ids: this.#ids.host, topWeights: this.#topWeights.host };
    for (let t = 0; t < tokens; t++) {
      this.#router.route(weights, sent.hidden, t * hidden, sent.ids, sent.topWeights, t * topK);
    }
    const output = await this.#dispatcher.dispatch(
      await this.#hidden.first(tokens),
      {
        format: "standard",
        topkIds: await this.#ids.first(tokens),
        topkWeights: await this.#topWeights.first(tokens),
      },
      { dpGlobalNumTokens: tokensByRank },
    );
    // On a GPU only this tells of a round that failed: what it left looks like an empty one.
    await output.ready();
    const { moeOutput } = output;
    if (!moeOutput) throw new Error("the dispatcher gave no place for the experts' results");

    const received = {
      hidden: await hostData(this.#a2a, output.hiddenStates, "bfloat16"),
      ids: await hostData(this.#a2a, output.topkOutput.topkIds, "int32"),
      topWeights: await hostData(this.#a2a, output.topkOutput.topkWeights, "float32"),
    };
    const counts = await hostData(this.#a2a, output.recvCounts, "int32");
    const slots = output.hiddenStates.shape[0]! / counts.length;
    this.checker.received(place, weights, received, counts, slots, this.#own);

    const results = await hostData(this.#a2a, moeOutput, "bfloat16");
    for (let source = 0; source < counts.length; source++) {
      for (let slot = source * slots; slot < source * slots + counts[source]!; slot++) {
        this.#experts.run(
          weights,
          this.#own.start,
          this.#own.end,
          received.hidden,
          slot * hidden,
          received.ids,
          received.topWeights,
          slot * topK,
          results,
          slot * hidden,
        );
      }
    }
    await giveBack(this.#a2a, moeOutput, results);

    const combined = await this.#dispatcher.combine({ format: "flashinfer", hiddenStates: moeOutput });
    const rows = await hostData(this.#a2a, combined, "bfloat16");
    if (this.#flipBit && tokens > 0) {
      rows[0] = rows[0]! ^ 1;
      this.#flipBit = false;
    }
    this.checker.combined(place, weights, sent, tokens, rows);
    return rows;
  }
}
