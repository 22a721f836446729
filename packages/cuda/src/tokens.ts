import type { Native, Token } from "./native.js";

interface Pending {
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** What the addon does beside this thread, as promises. */
export class Tokens {
  readonly #pending = new Map<Token, Pending>();

  constructor(native: Native) {
    native.listen((token, error) => {
      const pending = this.#pending.get(token);
      this.#pending.delete(token);
      if (error === undefined) pending?.resolve();
      else pending?.reject(error);
    });
  }

  /** Settles when `token` is over; rejects with the addon's error. */
  end(token: Token): Promise<void> {
    return new Promise((resolve, reject) => this.#pending.set(token, { resolve, reject }));
  }
}
