import type { Bell } from "./internals.js";
import type { ThreadControl } from "./thread-control.js";

interface AsyncWait {
  readonly async: boolean;
  readonly value: Promise<unknown> | string;
}

// `Atomics.waitAsync` exists since Node 16, but the types know it only from ES2024 on.
const waitAsync = (Atomics as unknown as { waitAsync(a: Int32Array, i: number, v: number): AsyncWait })
  .waitAsync;

/** Polls before a blocking wait: a peer that is nearly there is cheaper to spin for than to sleep for. */
const SPINS = 200;

/** Rings of one rank's bell, seen from the thread that the rank lives on. */
export class ThreadBell implements Bell {
  readonly #control: ThreadControl;
  readonly #index: number;
  readonly #listeners = new Set<() => void>();
  #armed = false;

  constructor(control: ThreadControl, rank: number) {
    this.#control = control;
    this.#index = control.bellIndex(rank);
  }

  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    this.#arm();
    return () => this.#listeners.delete(listener);
  }

  waitSync(poll: () => boolean, deadline: number): void {
    const { words } = this.#control;
    for (let spin = 0; spin < SPINS; spin++) if (poll()) return;
    for (;;) {
      const seen = Atomics.load(words, this.#index);
      if (poll()) return;
      const left = deadline - performance.now();
      if (left <= 0) return;
      Atomics.wait(words, this.#index, seen, left);
    }
  }

  /** At most one wait is outstanding; it outlives its subscribers and then serves the next ones. */
  #arm(): void {
    if (this.#armed || this.#listeners.size === 0) return;
    this.#armed = true;
    const { words } = this.#control;
    const wait = waitAsync(words, this.#index, Atomics.load(words, this.#index));
    void Promise.resolve(wait.value).then(() => {
      this.#armed = false;
      // Armed again before anybody looks, so that no ring falls in between.
      this.#arm();
      for (const listener of [...this.#listeners]) listener();
    });
  }
}
