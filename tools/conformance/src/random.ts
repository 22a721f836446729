import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import type { RandomGenerator } from "pure-rand/types/RandomGenerator";

/** Seeded randomness: the same labels give the same sequence on every rank and thread. */
export class Random {
  readonly #generator: RandomGenerator;

  constructor(...labels: readonly (string | number)[]) {
    // FNV-1a
    let hash = 0x811c9dc5;
    for (const character of labels.join("\0")) {
      hash = Math.imul(hash ^ (character.codePointAt(0) as number), 0x01000193);
    }
    this.#generator = xoroshiro128plus(hash);
  }

  /** 32 bits. */
  bits(): number {
    return this.#generator.next();
  }

  /** An integer of `[low, high]`. */
  int(low: number, high: number): number {
    return uniformInt(this.#generator, low, high);
  }

  /** True once in `n` times. */
  oneIn(n: number): boolean {
    return this.int(1, n) === 1;
  }

  pick<T>(values: readonly T[]): T {
    return values[this.int(0, values.length - 1)] as T;
  }

  /** `count` different integers of `[0, below)`, in random order. */
  distinct(count: number, below: number): number[] {
    const chosen = new Set<number>();
    while (chosen.size < count) chosen.add(this.int(0, below - 1));
    return [...chosen];
  }

  /** Fills memory with random bytes. */
  fill(memory: ArrayBufferView): void {
    const bytes = new Uint8Array(memory.buffer, memory.byteOffset, memory.byteLength);
    // Words first, where they lie as words do; little-endian, as all that Node runs on.
    const words = bytes.byteOffset % 4 === 0 ? bytes.length >> 2 : 0;
    const view = new Int32Array(bytes.buffer, words && bytes.byteOffset, words);
    for (let w = 0; w < words; w++) view[w] = this.bits();
    for (let i = 4 * words; i < bytes.length; i++) bytes[i] = this.bits();
  }
}
