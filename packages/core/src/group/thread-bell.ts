import type { Bell, BlockingWait } from "./internals.js";
import type { ThreadControl } from "./thread-control.js";

interface AsyncWait {
  readonly async: boolean;
  readonly value: Promise<unknown> | string;
}

// `Atomics.waitAsync` exists since Node 16, but the types know it only from ES2024 on.
const waitAsync = (Atomics as unknown as { waitAsync(a: Int32Array, i: number, v: number): AsyncWait })
  .waitAsync;

/**
 * Looks before a thread sleeps, a few microseconds' worth: a peer that is nearly there is cheaper to spin for than to sleep
 * for, but one without a processor may be waiting for this thread's.
 */
const SPINS = 40;

/** Rings of one rank's bell, seen from the thread that the rank lives on. */
export class ThreadBell implements Bell {
  readonly #control: ThreadControl;
  readonly #rank: number;
  readonly #listeners = new Set<() => void>();
  #armed = false;

  constructor(control: ThreadControl, rank: number) {
    this.#control = control;
    this.#rank = rank;
  }

  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    this.#arm();
    return () => this.#listeners.delete(listener);
  }

  waitSync(target: BlockingWait): void {
    for (let spin = 0; spin < SPINS && !target.hasNews(); spin++);
    const control = this.#control;
    for (;;) {
      const bell = control.bellOf(this.#rank);
      const wake = control.wakeOf(this.#rank);
      if (target.poll()) return;
      const left = target.deadline - performance.now();
      if (left <= 0) return;
      control.sleep(this.#rank, bell, wake, Math.max(1, target.missing()), left);
    }
  }

  /** At most one wait is outstanding; it outlives its subscribers and then serves the next ones. */
  #arm(): void {
    if (this.#armed || this.#listeners.size === 0) return;
    this.#armed = true;
    const control = this.#control;
    control.listen(this.#rank, true);
    const wait = waitAsync(control.words, control.bellIndex(this.#rank), control.bellOf(this.#rank));
    void Promise.resolve(wait.value).then(() => {
      this.#armed = false;
      control.listen(this.#rank, false);
      // Armed again before anybody looks, so that no ring falls in between.
      this.#arm();
      for (const listener of [...this.#listeners]) listener();
    });
  }
}
