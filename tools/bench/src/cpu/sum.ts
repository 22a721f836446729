import { createLocalGroup, tensor } from "@moe-a2a/core";
import { jsBackend } from "@moe-a2a/js";
import { type Spread, spread } from "../stats.js";
import { type Plan, timeSync } from "./plan.js";

const RANKS = 4;
const HIDDEN = 7168;
const TOKENS = 16;

export interface SumFigures {
  readonly hiddenSize: number;
  readonly rows: number;
  /**
   * Microseconds per token: the whole of a combine's last step, and plain loops over the same rows, element after element,
   * row after row, and written out for four rows.
   */
  readonly combine: Spread;
  readonly scalar: Spread;
  readonly scalarByRow: Spread;
  readonly scalarOfFour: Spread;
  /** Against the fastest of the loops. */
  readonly ratio: number;
}

/** What anyone would write: four bfloat16 rows, summed in float32, rounded to nearest even. */
function scalarLoop(
  rows: readonly Uint16Array[],
  out: Uint16Array,
  word: Float32Array,
  bits: Int32Array,
): void {
  for (let i = 0; i < out.length; i++) {
    let sum = 0;
    for (let r = 0; r < rows.length; r++) {
      bits[0] = rows[r]![i]! << 16;
      sum = Math.fround(sum + word[0]!);
    }
    word[0] = sum;
    const b = bits[0]!;
    out[i] = (b & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : (b + 0x7fff + ((b >>> 16) & 1)) >>> 16;
  }
}

/** The same written out for four rows, which nobody could use for another number of them. */
class LoopOfFour {
  readonly #words = new Float32Array(4);
  readonly #bits = new Int32Array(this.#words.buffer);

  run([r0, r1, r2, r3]: readonly Uint16Array[], out: Uint16Array): void {
    const [words, bits] = [this.#words, this.#bits];
    for (let i = 0; i < out.length; i++) {
      bits[0] = r0![i]! << 16;
      bits[1] = r1![i]! << 16;
      bits[2] = r2![i]! << 16;
      bits[3] = r3![i]! << 16;
      words[0] = Math.fround(Math.fround(words[0]! + words[1]!) + words[2]!) + words[3]!;
      const b = bits[0]!;
      out[i] = (b & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : (b + 0x7fff + ((b >>> 16) & 1)) >>> 16;
    }
  }
}

/** The same row after row, in loops that engines make better code of. */
class RowLoops {
  readonly #sum = new Float32Array(HIDDEN);
  readonly #sumBits = new Int32Array(this.#sum.buffer);
  readonly #addend = new Float32Array(HIDDEN);
  readonly #addendBits = new Int32Array(this.#addend.buffer);

  run(rows: readonly Uint16Array[], out: Uint16Array): void {
    const [sum, addend] = [this.#sum, this.#addend];
    const [sumBits, addendBits] = [this.#sumBits, this.#addendBits];
    sum.fill(0);
    for (const row of rows) {
      for (let i = 0; i < HIDDEN; i++) addendBits[i] = row[i]! << 16;
      for (let i = 0; i < HIDDEN; i++) sum[i] = sum[i]! + addend[i]!;
    }
    for (let i = 0; i < HIDDEN; i++) {
      const b = sumBits[i]!;
      out[i] = (b & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : (b + 0x7fff + ((b >>> 16) & 1)) >>> 16;
    }
  }
}

/** Each call by itself, as the combine: one that others interrupt does not count. @returns microseconds */
function medianCall(plan: Plan, run: () => void): number {
  const micros: number[] = [];
  const end = performance.now() + plan.sampleMs;
  let now = performance.now();
  while (now < end) {
    const start = now;
    run();
    now = performance.now();
    micros.push((now - start) * 1000);
  }
  return spread(micros).median;
}

/** The combine of tokens that went to four ranks each, against a plain loop. */
export async function measureSum(plan: Plan): Promise<SumFigures> {
  const config = {
    epSize: RANKS,
    numExperts: RANKS,
    topK: RANKS,
    maxTokensPerRank: TOKENS,
    maxDispatchBytesPerToken: 1,
    maxCombineBytesPerToken: 2 * HIDDEN,
  };
  const ranks = await Promise.all(createLocalGroup(RANKS).map((group) => jsBackend.create(config, group)));
  const everywhere = Int32Array.from({ length: TOKENS * RANKS }, (_, i) => i % RANKS);
  const values = Uint16Array.from({ length: HIDDEN }, (_, i) => 0x3f80 + ((i * 37) % 256));
  const input = (tokens: number) => ({
    numLocalTokens: tokens,
    tokenSelectedExperts: tensor("int32", [tokens, RANKS], everywhere.subarray(0, tokens * RANKS)),
    payloads: [tensor("uint8", [tokens, 1])],
  });

  // Only rank 0 has tokens; the others do nothing but offer their results.
  const once = async (): Promise<number> => {
    const dispatches = ranks.map((a2a, rank) => a2a.dispatch(input(rank === 0 ? TOKENS : 0)));
    await Promise.all(dispatches.map((dispatch) => dispatch.ready()));
    const combines = dispatches.map((dispatch) => {
      const buffer = dispatch.combineBuffer(HIDDEN, "bfloat16");
      (buffer.data as Uint16Array).set(values);
      return dispatch.combine(buffer);
    });
    // Everything has come: what is left to do is the sum.
    const start = performance.now();
    await combines[0]!.ready();
    const micros = ((performance.now() - start) * 1000) / TOKENS;
    await Promise.all(combines.map((combine) => combine.ready()));
    return micros;
  };
  const word = new Float32Array(1);
  const bits = new Int32Array(word.buffer);
  const rows = Array.from({ length: RANKS }, () => values.slice());
  const out = new Uint16Array(HIDDEN);
  const scalar = (): void => scalarLoop(rows, out, word, bits);
  const loops = new RowLoops();
  const scalarByRow = (): void => loops.run(rows, out);
  const ofFour = new LoopOfFour();
  const scalarOfFour = (): void => ofFour.run(rows, out);

  for (let i = 0; i < 20; i++) await once();
  timeSync(plan, scalar);
  timeSync(plan, scalarByRow);
  timeSync(plan, scalarOfFour);
  const combineSamples: number[] = [];
  const scalarSamples: number[] = [];
  const byRowSamples: number[] = [];
  const ofFourSamples: number[] = [];
  for (let s = 0; s < plan.samples; s++) {
    const micros: number[] = [];
    const end = performance.now() + plan.sampleMs;
    while (performance.now() < end) micros.push(await once());
    combineSamples.push(spread(micros).median);
    scalarSamples.push(medianCall(plan, scalar));
    byRowSamples.push(medianCall(plan, scalarByRow));
    ofFourSamples.push(medianCall(plan, scalarOfFour));
  }
  await Promise.all(ranks.map((a2a) => a2a.close()));
  const [combine, plain] = [spread(combineSamples), spread(scalarSamples)];
  const [byRow, four] = [spread(byRowSamples), spread(ofFourSamples)];
  const ratio = Math.min(plain.median, byRow.median, four.median) / combine.median;
  return {
    ...{ hiddenSize: HIDDEN, rows: RANKS, combine },
    ...{ scalar: plain, scalarByRow: byRow, scalarOfFour: four, ratio },
  };
}
