import type { Bell } from "./internals.js";

/** A bell for ranks that never block: it rings in a microtask, so that no caller runs a listener on its stack. */
export class TurnBell implements Bell {
  readonly #listeners = new Set<() => void>();
  /** Whether a ring does something: somebody listens, and it has not been rung. Most rings find nobody, and ask just this. */
  #isArmed = false;

  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    this.#isArmed = true;
    return () => this.#listeners.delete(listener);
  }

  waitSync(): void {
    throw new Error("a rank that needs its event loop cannot block it");
  }

  ring(): void {
    if (!this.#isArmed) return;
    this.#isArmed = false;
    queueMicrotask(() => {
      this.#isArmed = this.#listeners.size > 0;
      for (const listener of [...this.#listeners]) listener();
    });
  }
}
