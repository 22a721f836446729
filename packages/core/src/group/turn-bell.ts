import type { Bell } from "./internals.js";

/** A bell for ranks that never block: it rings in a microtask, so that no caller runs a listener on its stack. */
export class TurnBell implements Bell {
  readonly #listeners = new Set<() => void>();
  #rung = false;

  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  waitSync(): void {
    throw new Error("a rank that needs its event loop cannot block it");
  }

  ring(): void {
    if (this.#rung || this.#listeners.size === 0) return;
    this.#rung = true;
    queueMicrotask(() => {
      this.#rung = false;
      for (const listener of [...this.#listeners]) listener();
    });
  }
}
