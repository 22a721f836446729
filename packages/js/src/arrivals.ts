import { hasReached } from "./round-number.js";

/** Where the flags of one phase of one lane stand. */
export interface Flags {
  /** Word index of the flag of rank `source`. */
  flag(phase: "dispatch" | "combine", source: number): number;
}

/** Which peers have arrived in one phase of one lane, and how long this rank waited for each. */
export class Arrivals {
  readonly #here: Uint8Array;
  readonly #waitMs: Float64Array;
  #expected: readonly number[] = [];
  #missing = 0;
  #waitingSince: number | undefined;

  constructor(ranks: number) {
    this.#here = new Uint8Array(ranks);
    this.#waitMs = new Float64Array(ranks);
  }

  /** Starts a phase in which these ranks are expected. */
  begin(activeRanks: readonly number[]): void {
    this.#here.fill(0);
    this.#waitMs.fill(0);
    this.#expected = activeRanks;
    this.#missing = activeRanks.length;
    this.#waitingSince = undefined;
  }

  /** Looks at the flags of those still missing, in this rank's window; true once all have arrived. */
  look(words: Int32Array, flags: Flags, phase: "dispatch" | "combine", round: number): boolean {
    if (this.#missing === 0) return true;
    const now = performance.now();
    const waited = this.#waitingSince === undefined ? 0 : now - this.#waitingSince;
    // Time before the first look was not spent waiting.
    this.#waitingSince ??= now;
    // By index, here and where rounds send: iterators would be garbage in every round.
    for (let i = 0; i < this.#expected.length; i++) {
      const peer = this.#expected[i]!;
      if (this.#here[peer] === 1 || !hasReached(Atomics.load(words, flags.flag(phase, peer)), round))
        continue;
      this.#here[peer] = 1;
      this.#waitMs[peer] = waited;
      this.#missing--;
    }
    return this.#missing === 0;
  }

  has(peer: number): boolean {
    return this.#here[peer] === 1;
  }

  missingRanks(): number[] {
    return this.#expected.filter((peer) => this.#here[peer] === 0);
  }

  waitMs(): number[] {
    const ms: number[] = [];
    for (let i = 0; i < this.#waitMs.length; i++) ms.push(this.#waitMs[i]!);
    return ms;
  }
}
