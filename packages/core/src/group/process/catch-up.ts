/** Turns of the event loop after which whatever still comes is late. */
const MAX_TURNS = 1_000;

/**
 * Tells when all messages have been taken that had come by a moment. A process that was stopped, or too busy to look, finds
 * its timers due before it has read what its peers sent in time.
 */
export class CatchUp {
  readonly #received: () => number;
  #waiting: (() => void)[] = [];
  #running = false;

  /** @param received counts what has been taken so far */
  constructor(received: () => number) {
    this.#received = received;
  }

  /** Calls `then` once everything that has come by now has been taken. */
  after(then: () => void): void {
    this.#waiting.push(then);
    if (!this.#running) this.#run();
  }

  /** Each turn reads some of what each socket has; a turn that brings nothing has found them empty. */
  #run(): void {
    this.#running = true;
    const calls = this.#waiting;
    this.#waiting = [];
    let seen = -1;
    let turns = 0;
    const look = (): void => {
      const received = this.#received();
      if (received !== seen && turns < MAX_TURNS) {
        seen = received;
        turns++;
        setImmediate(look);
        return;
      }
      this.#running = false;
      for (const call of calls) call();
      if (this.#waiting.length > 0 && !this.#running) this.#run();
    };
    setImmediate(look);
  }
}
