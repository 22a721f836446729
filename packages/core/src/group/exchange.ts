import { DEFAULT_TIMEOUT_MS, LIMITS } from "../config.js";
import { MoeA2AError } from "../errors.js";
import { describe } from "../tensor.js";
import type { Rendezvous } from "./rendezvous.js";

function argumentError(argument: string, message: string): MoeA2AError<"ERR_MOE_A2A_ARGUMENT"> {
  return new MoeA2AError("ERR_MOE_A2A_ARGUMENT", message, { argument });
}

/** Checks a time limit in milliseconds, of a call on `rank`, where there is one. */
export function checkTimeoutMs(
  timeoutMs: unknown,
  argument: string,
  fallback: number = DEFAULT_TIMEOUT_MS,
  rank?: number,
): number {
  const value = timeoutMs === undefined ? fallback : timeoutMs;
  if (!Number.isInteger(value) || (value as number) < 1 || (value as number) > LIMITS.timeoutMs) {
    throw argumentError(
      argument,
      `${rank === undefined ? "" : `rank ${rank}: `}${argument} is ${describe(timeoutMs)}; ` +
        `it must be an integer from 1 to ${LIMITS.timeoutMs}`,
    );
  }
  return value as number;
}

/** Checks the number of ranks of a new group. */
export function checkGroupSize(size: unknown): number {
  if (!Number.isInteger(size) || (size as number) < 1 || (size as number) > LIMITS.epSize) {
    throw argumentError(
      "size",
      `the group's size is ${describe(size)}; it must be an integer from 1 to ${LIMITS.epSize}`,
    );
  }
  return size as number;
}

/** `Group.exchange` over a rendezvous: the n-th call with a key meets the peers' n-th. */
export class Exchange {
  readonly #rank: number;
  readonly #rendezvous: Rendezvous;
  readonly #calls = new Map<string, number>();

  constructor(rank: number, rendezvous: Rendezvous) {
    this.#rank = rank;
    this.#rendezvous = rendezvous;
  }

  async exchange(
    key: string,
    value: Uint8Array,
    options?: { readonly timeoutMs?: number },
  ): Promise<readonly Uint8Array[]> {
    if (typeof key !== "string")
      throw argumentError("key", `exchange(): the key is ${describe(key)}, not a string`);
    // Between processes it travels as UTF-8, which has none of these.
    if (/\p{Surrogate}/u.test(key))
      throw argumentError("key", `exchange(${JSON.stringify(key)}): the key has half of a surrogate pair`);
    if (!(value instanceof Uint8Array)) {
      throw argumentError(
        "value",
        `exchange(${JSON.stringify(key)}): the value is ${describe(value)}, not a Uint8Array`,
      );
    }
    const timeoutMs = checkTimeoutMs(options?.timeoutMs, "options.timeoutMs");
    // A copy with a buffer of its own (a Buffer's slice() is none): clones carry their whole buffer, and the caller may
    // change its array at once.
    const mine = new Uint8Array(value);
    const call = this.#calls.get(key) ?? 0;
    this.#calls.set(key, call + 1);
    const values = await this.#rendezvous.gather<Uint8Array>(`exchange:${key}#${call}`, mine, {
      timeoutMs,
      phase: "exchange",
      isValid: (bytes) => bytes instanceof Uint8Array,
      where: `exchange(${JSON.stringify(key)}, …), call ${call + 1} with this key (rank ${this.#rank})`,
    });
    return values.map((bytes) => new Uint8Array(bytes));
  }
}
