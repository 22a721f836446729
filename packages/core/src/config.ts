import { MoeA2AError } from "./errors.js";
import { describe } from "./tensor.js";

/** What all ranks of an instance agree on at `create`. See `docs/semantics.md`. */
export interface MoeAllToAllConfig {
  /** Ranks, 1…64. */
  readonly epSize: number;
  /** Experts over all ranks, at least `epSize`. */
  readonly numExperts: number;
  /** Experts per token, 1…32 and at most `numExperts`. */
  readonly topK: number;
  /** Capacity: the most tokens that one rank dispatches in a round; the same on all ranks. */
  readonly maxTokensPerRank: number;
  /** Row bytes summed over the payloads of a dispatch, the largest of all calls. */
  readonly maxDispatchBytesPerToken: number;
  /** Bytes of one row of expert output, the largest of all calls. */
  readonly maxCombineBytesPerToken: number;
  /** Length of the longest `expertStats` vector. Default 0. */
  readonly maxExpertStats?: number;
  /** What an expert id outside `[-1, numExperts)` means: an error (default), or a dropped and counted entry. */
  readonly invalidExpert?: "error" | "drop";
  /** Milliseconds that a phase waits for its peers, counted from this rank's own arrival. Default 30 000. */
  readonly timeoutMs?: number;
  /** Lanes: rounds that may be in flight at once. Default 1. */
  readonly roundsInFlight?: 1 | 2;
}

/** Limits of config values and of calls. */
export const LIMITS = {
  epSize: 64,
  topK: 32,
  payloads: 8,
  /** Counts travel as int32. */
  maxTokensPerRank: 2 ** 31 - 1,
  numExperts: 2 ** 31 - 1,
  maxExpertStats: 2 ** 24,
  bytesPerToken: 2 ** 31 - 1,
  timeoutMs: 2 ** 31 - 1,
} as const;

/** Default of `timeoutMs`, for phases and for group exchanges. */
export const DEFAULT_TIMEOUT_MS = 30_000;

/** A config with its defaults filled in. */
export type ResolvedConfig = Readonly<Required<MoeAllToAllConfig>>;

/** The config fields, in the order in which they are checked and compared between ranks. */
export const CONFIG_FIELDS = [
  "epSize",
  "numExperts",
  "topK",
  "maxTokensPerRank",
  "maxDispatchBytesPerToken",
  "maxCombineBytesPerToken",
  "maxExpertStats",
  "invalidExpert",
  "timeoutMs",
  "roundsInFlight",
] as const satisfies readonly (keyof MoeAllToAllConfig)[];

/** A CONFIG error about one field, of rank `rank` where there is one. */
export function configError(
  field: string,
  value: unknown,
  problem: string,
  rank?: number,
): MoeA2AError<"ERR_MOE_A2A_CONFIG"> {
  // A group that is none may say anything of its rank.
  const who = typeof rank === "number" ? `rank ${rank}: ` : "";
  const message = `${who}config.${field} is ${describe(value)}: ${problem}`;
  return new MoeA2AError("ERR_MOE_A2A_CONFIG", message, { field, value });
}

/**
 * Checks every value of a config and fills in the defaults.
 *
 * @param rank the rank whose config it is, for messages
 * @throws ERR_MOE_A2A_CONFIG with the first field that is out of range
 */
export function checkConfig(config: MoeAllToAllConfig, rank?: number): ResolvedConfig {
  if (typeof config !== "object" || config === null) {
    throw new MoeA2AError("ERR_MOE_A2A_CONFIG", `the config is ${describe(config)}, not an object`, {
      field: "config",
      value: config,
    });
  }
  const integer = (field: keyof MoeAllToAllConfig, low: number, high: number, fallback?: number): number => {
    const given: unknown = config[field];
    const value = given === undefined && fallback !== undefined ? fallback : given;
    if (!Number.isInteger(value) || (value as number) < low || (value as number) > high) {
      throw configError(field, given, `it must be an integer from ${low} to ${high}`, rank);
    }
    return value as number;
  };
  const oneOf = <V>(field: keyof MoeAllToAllConfig, values: readonly V[], fallback: V): V => {
    const given: unknown = config[field];
    const value = given === undefined ? fallback : given;
    if (!values.includes(value as V))
      throw configError(field, given, `it must be ${values.map(describe).join(" or ")}`, rank);
    return value as V;
  };

  const epSize = integer("epSize", 1, LIMITS.epSize);
  const numExperts = integer("numExperts", 1, LIMITS.numExperts);
  if (numExperts < epSize) {
    throw configError(
      "numExperts",
      numExperts,
      `every rank needs an expert, so it must be at least epSize (${epSize})`,
      rank,
    );
  }
  const topK = integer("topK", 1, LIMITS.topK);
  if (topK > numExperts) {
    throw configError(
      "topK",
      topK,
      `a token cannot choose more experts than there are (numExperts is ${numExperts})`,
      rank,
    );
  }
  return Object.freeze({
    epSize,
    numExperts,
    topK,
    maxTokensPerRank: integer("maxTokensPerRank", 1, LIMITS.maxTokensPerRank),
    maxDispatchBytesPerToken: integer("maxDispatchBytesPerToken", 1, LIMITS.bytesPerToken),
    maxCombineBytesPerToken: integer("maxCombineBytesPerToken", 1, LIMITS.bytesPerToken),
    maxExpertStats: integer("maxExpertStats", 0, LIMITS.maxExpertStats, 0),
    invalidExpert: oneOf("invalidExpert", ["error", "drop"] as const, "error"),
    timeoutMs: integer("timeoutMs", 1, LIMITS.timeoutMs, DEFAULT_TIMEOUT_MS),
    roundsInFlight: oneOf("roundsInFlight", [1, 2] as const, 1),
  });
}
