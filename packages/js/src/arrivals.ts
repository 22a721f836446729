import type { Window } from "./memory.js";
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
    // By index, here and wherever a round passes: iterators would be garbage, and fill() of a few elements is slower.
    for (let rank = 0; rank < this.#here.length; rank++) {
      this.#here[rank] = 0;
      this.#waitMs[rank] = 0;
    }
    this.#expected = activeRanks;
    this.#missing = activeRanks.length;
    this.#waitingSince = undefined;
  }

  /** Looks at the flags of those still missing, in this rank's window; true once all have arrived. */
  look(window: Window, flags: Flags, phase: "dispatch" | "combine", round: number): boolean {
    if (this.#missing === 0) return true;
    const expected = this.#expected;
    // Reading the clock takes longer than reading all flags: only where a wait begins, or one for somebody ends.
    let waited = -1;
    for (let i = 0; i < expected.length; i++) {
      const peer = expected[i]!;
      if (this.#here[peer] === 1 || !hasReached(window.load(flags.flag(phase, peer)), round)) continue;
      if (this.#waitingSince !== undefined) {
        if (waited < 0) waited = performance.now() - this.#waitingSince;
        this.#waitMs[peer] = waited;
      }
      this.#here[peer] = 1;
      this.#missing--;
    }
    if (this.#missing === 0) return true;
    // Time before the first look was not spent waiting.
    this.#waitingSince ??= performance.now();
    return false;
  }

  has(peer: number): boolean {
    return this.#here[peer] === 1;
  }

  /** How many are missing, as far as the last look saw. */
  get missing(): number {
    return this.#missing;
  }

  missingRanks(): number[] {
    return this.#expected.filter((peer) => this.#here[peer] === 0);
  }

  waitMs(): number[] {
    // Made as long as it will be: one that grows is made several times.
    const ms = new Array<number>(this.#waitMs.length);
    for (let i = 0; i < ms.length; i++) ms[i] = this.#waitMs[i]!;
    return ms;
  }
}
