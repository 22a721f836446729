import type { RankContext } from "./context.js";
import type { Lane } from "./lane.js";
import { hasReached } from "./round-number.js";

/** Which peers have arrived in one phase of one lane, and how long this rank waited for each. */
export class Arrivals {
  readonly #here: Uint8Array;
  readonly #waitMs: Float64Array;
  #missing = 0;
  #waitingSince: number | undefined;

  constructor(ranks: number) {
    this.#here = new Uint8Array(ranks);
    this.#waitMs = new Float64Array(ranks);
  }

  /** Starts a phase. */
  begin(context: RankContext): void {
    this.#here.fill(0);
    this.#waitMs.fill(0);
    this.#missing = context.activeRanks.length;
    this.#waitingSince = undefined;
  }

  /** Looks at the flags of those still missing; true once all active ranks have arrived. */
  look(context: RankContext, lane: Lane, phase: "dispatch" | "combine", round: number): boolean {
    if (this.#missing === 0) return true;
    const { words } = context.own;
    const now = performance.now();
    const waited = this.#waitingSince === undefined ? 0 : now - this.#waitingSince;
    // Time before the first look was not spent waiting.
    this.#waitingSince ??= now;
    for (const peer of context.activeRanks) {
      if (this.#here[peer] === 1 || !hasReached(Atomics.load(words, lane.flag(phase, peer)), round)) continue;
      this.#here[peer] = 1;
      this.#waitMs[peer] = waited;
      this.#missing--;
    }
    return this.#missing === 0;
  }

  missingRanks(context: RankContext): number[] {
    return context.activeRanks.filter((peer) => this.#here[peer] === 0);
  }

  waitMs(): number[] {
    return Array.from(this.#waitMs);
  }
}
