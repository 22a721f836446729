import { LIMITS } from "../../config.js";
import { MoeA2AError } from "../../errors.js";
import { describe } from "../../tensor.js";
import { checkGroupSize, checkTimeoutMs } from "../exchange.js";
import { type Place, parseAddress } from "./place.js";

/** What `joinProcessGroup` takes. What is left out comes from the environment, under the names that torchrun uses. */
export interface ProcessGroupOptions {
  /** This process's rank, 0…size-1. Default `RANK`. */
  readonly rank?: number;
  /** Ranks, 1…64; the same on all. Default `WORLD_SIZE`. */
  readonly size?: number;
  /**
   * Where rank 0 listens and the others find it: `host:port`, `[host]:port`, `:port` on loopback, or `unix:/path`.
   * Default `MASTER_ADDR` (or loopback) and `MASTER_PORT`.
   */
  readonly address?: string;
  /** What every rank has to prove that it knows, of at least 16 bytes. Default `MOE_A2A_SECRET`. */
  readonly secret?: string | Uint8Array;
  /** Milliseconds until all ranks have to be there. Default 30 000. */
  readonly timeoutMs?: number;
}

/** Options as checked. */
export interface JoinOptions {
  readonly rank: number;
  readonly size: number;
  readonly place: Place;
  readonly secret: Uint8Array;
  readonly timeoutMs: number;
}

const MIN_SECRET_BYTES = 16;

function argumentError(argument: string, problem: string): MoeA2AError<"ERR_MOE_A2A_ARGUMENT"> {
  return new MoeA2AError("ERR_MOE_A2A_ARGUMENT", `joinProcessGroup(): ${problem}`, { argument });
}

/** A value of the environment; one that is set but empty counts as not set. */
function fromEnvironment(argument: string, variable: string, env: NodeJS.ProcessEnv): string {
  const value = env[variable];
  if (value) return value;
  throw argumentError(argument, `${argument} is not given, and the environment has no ${variable}`);
}

function integerFromEnvironment(argument: string, variable: string, env: NodeJS.ProcessEnv): number {
  const value = fromEnvironment(argument, variable, env);
  if (!/^\d{1,9}$/.test(value)) {
    throw argumentError(argument, `${variable} in the environment is ${describe(value)}, not a number`);
  }
  return Number(value);
}

function addressFromEnvironment(env: NodeJS.ProcessEnv): string {
  const port = fromEnvironment("address", "MASTER_PORT", env);
  const host = env.MASTER_ADDR ?? "";
  return host.includes(":") && !host.startsWith("[") ? `[${host}]:${port}` : `${host}:${port}`;
}

function checkSecret(secret: unknown): Uint8Array {
  const isText = typeof secret === "string";
  if (!isText && !(secret instanceof Uint8Array)) {
    throw argumentError("secret", "secret is neither a string nor a Uint8Array");
  }
  const bytes = isText ? new TextEncoder().encode(secret) : new Uint8Array(secret);
  if (bytes.length < MIN_SECRET_BYTES) {
    throw argumentError(
      "secret",
      `secret has ${bytes.length} bytes; it needs at least ${MIN_SECRET_BYTES}, random ones at best`,
    );
  }
  return bytes;
}

/**
 * Checks every option, and takes from the environment what is not given.
 *
 * @throws ERR_MOE_A2A_ARGUMENT with the first that is missing or wrong; it tells neither secret nor address
 */
export function checkJoinOptions(options: unknown, env: NodeJS.ProcessEnv): JoinOptions {
  if (typeof options !== "object" || options === null) {
    throw argumentError("options", `the options are ${describe(options)}, not an object`);
  }
  const given = options as { readonly [K in keyof ProcessGroupOptions]: unknown };
  const size = checkGroupSize(given.size ?? integerFromEnvironment("size", "WORLD_SIZE", env));
  const rank = given.rank ?? integerFromEnvironment("rank", "RANK", env);
  if (!Number.isInteger(rank) || (rank as number) < 0 || (rank as number) >= size) {
    throw argumentError(
      "rank",
      `rank is ${describe(rank)}; in a group of size ${size} (at most ${LIMITS.epSize}) it is an integer from 0 to ${size - 1}`,
    );
  }
  return {
    rank: rank as number,
    size,
    place: parseAddress(given.address ?? addressFromEnvironment(env)),
    secret: checkSecret(given.secret ?? fromEnvironment("secret", "MOE_A2A_SECRET", env)),
    timeoutMs: checkTimeoutMs(given.timeoutMs, "options.timeoutMs"),
  };
}
