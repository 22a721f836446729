import { uniformFloat32 } from "pure-rand/distribution/uniformFloat32";
import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import { skipN } from "pure-rand/utils/skipN";

/** A stream of random numbers that depends on its seeds alone. */
export class Random {
  readonly #generator: ReturnType<typeof xoroshiro128plus>;

  constructor(...seeds: readonly number[]) {
    let state = 0x9e3779b9 | 0;
    for (const seed of seeds) state = Math.imul(state ^ seed, 0x85ebca6b) ^ (state >>> 13);
    this.#generator = xoroshiro128plus(state);
    // Nearby seeds give nearby first numbers.
    skipN(this.#generator, 16);
  }

  /** An integer of `[low, high]`. */
  integer(low: number, high: number): number {
    return uniformInt(this.#generator, low, high);
  }

  /** True with probability `p`. */
  chance(p: number): boolean {
    return uniformFloat32(this.#generator) < p;
  }

  /** Fills `out` with numbers of `[-spread, spread)`. */
  fill(out: Float32Array, spread: number): void {
    for (let i = 0; i < out.length; i++) out[i] = (2 * uniformFloat32(this.#generator) - 1) * spread;
  }
}
