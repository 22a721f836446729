import { performance } from "node:perf_hooks";
import type { Window } from "./memory.js";
import { hasReached } from "./round-number.js";

/** Where the flags of one phase of one lane stand. */
export interface Flags {
  /** Word index of the flag of rank `source`. */
  flag(phase: "dispatch" | "combine", source: number): number;
}

/** By index, here and wherever a round passes: iterators would be garbage. */
function haveAllReached(
  window: Window,
  flags: Flags,
  phase: "dispatch" | "combine",
  round: number,
  ranks: readonly number[],
): boolean {
  for (let i = 0; i < ranks.length; i++) {
    if (!hasReached(window.load(flags.flag(phase, ranks[i]!)), round)) return false;
  }
  return true;
}

/** Which peers have arrived in one phase of one lane, and how long this rank waited for each. */
export class Arrivals {
  /** This and the next are kept only from a look on that has found somebody missing: mostly all are there at the first. */
  readonly #here: Uint8Array;
  readonly #waitMs: Float64Array;
  #expected: readonly number[] = [];
  #missing = 0;
  #waitingSince: number | undefined;
  readonly #noWaits: readonly number[];

  constructor(ranks: number) {
    this.#here = new Uint8Array(ranks);
    this.#waitMs = new Float64Array(ranks);
    this.#noWaits = Array.from({ length: ranks }, () => 0);
  }

  /** Starts a phase in which these ranks are expected. */
  begin(activeRanks: readonly number[]): void {
    this.#expected = activeRanks;
    this.#missing = activeRanks.length;
    this.#waitingSince = undefined;
  }

  /** Looks at the flags of those still missing, in this rank's window; true once all have arrived. */
  look(window: Window, flags: Flags, phase: "dispatch" | "combine", round: number): boolean {
    if (this.#missing === 0) return true;
    const expected = this.#expected;
    if (this.#waitingSince === undefined) {
      if (haveAllReached(window, flags, phase, round, expected)) {
        this.#missing = 0;
        return true;
      }
      this.#here.fill(0);
      this.#waitMs.fill(0);
    }
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
    return this.#missing === 0 || (this.#waitingSince !== undefined && this.#here[peer] === 1);
  }

  /** How many are missing, as far as the last look saw. */
  get missing(): number {
    return this.#missing;
  }

  missingRanks(): number[] {
    return this.#expected.filter((peer) => !this.has(peer));
  }

  waitMs(): number[] {
    if (this.#waitingSince === undefined) return this.#noWaits.slice();
    // Made as long as it will be: one that grows is made several times.
    const ms = new Array<number>(this.#waitMs.length);
    for (let i = 0; i < ms.length; i++) ms[i] = this.#waitMs[i]!;
    return ms;
  }
}
