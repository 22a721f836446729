import { type ErrorCode, type ErrorDetails, type MissingKind, MoeA2AError, type Phase } from "./errors.js";

/** A failure in a form that can be cloned to other threads and processes. */
export interface Verdict {
  readonly code: ErrorCode;
  readonly message: string;
  readonly details: ErrorDetails[ErrorCode];
}

const detailFields = [
  "field",
  "value",
  "argument",
  "limit",
  "rank",
  "token",
  "k",
  "id",
  "values",
  "phase",
  "round",
  "missingRanks",
  "kind",
  "reason",
  "state",
  "hint",
] as const;

/** The clonable form of an error. */
export function toVerdict(error: MoeA2AError): Verdict {
  const details: Record<string, unknown> = {};
  for (const field of detailFields) {
    if (error[field] !== undefined) details[field] = error[field];
  }
  return { code: error.code, message: error.message, details: details as unknown as ErrorDetails[ErrorCode] };
}

const isText = (value: unknown): boolean => typeof value === "string";
const isWhole = (value: unknown): boolean => Number.isSafeInteger(value);
const isOneOf =
  <T>(...known: readonly T[]) =>
  (value: unknown): boolean =>
    known.includes(value as T);

/** What a field of a verdict may be, where not anything. */
const checks: { readonly [field in (typeof detailFields)[number]]?: (value: unknown) => boolean } = {
  field: isText,
  argument: isText,
  limit: isWhole,
  rank: isWhole,
  token: isWhole,
  k: isWhole,
  id: isWhole,
  values: Array.isArray,
  phase: isOneOf<Phase>("create", "dispatch", "combine", "reset", "exchange"),
  round: isWhole,
  missingRanks: (value) => Array.isArray(value) && value.every(isWhole),
  kind: isOneOf<MissingKind>("timeout", "closed", "lost"),
  state: isText,
  hint: isText,
};

/** The fields without which an error of a code is none; those of a CUDA call stay on their rank. */
const required: { readonly [C in ErrorCode]: readonly (typeof detailFields)[number][] } = {
  ERR_MOE_A2A_CONFIG: ["field"],
  ERR_MOE_A2A_ARGUMENT: ["argument"],
  ERR_MOE_A2A_CAPACITY: ["limit"],
  ERR_MOE_A2A_EXPERT_ID: ["rank", "token", "k", "id"],
  ERR_MOE_A2A_MISMATCH: ["field", "values"],
  ERR_MOE_A2A_PEER_TIMEOUT: ["phase", "round", "missingRanks", "kind"],
  ERR_MOE_A2A_ABORTED: ["rank"],
  ERR_MOE_A2A_STATE: ["state"],
  ERR_MOE_A2A_UNAVAILABLE: [],
  ERR_MOE_A2A_CUDA: [],
};

/** A verdict as another process tells it, in JSON; undefined for what {@link toVerdict} does not make. */
export function readVerdict(value: unknown): Verdict | undefined {
  const { code, message, details: given } = (value ?? {}) as Record<keyof Verdict, unknown>;
  if (typeof code !== "string" || !Object.hasOwn(required, code) || typeof message !== "string")
    return undefined;
  if (typeof given !== "object" || given === null) return undefined;
  const details: Record<string, unknown> = {};
  for (const field of detailFields) {
    const found = Object.hasOwn(given, field) ? (given as Record<string, unknown>)[field] : undefined;
    if (found === undefined) {
      if (required[code as ErrorCode].includes(field)) return undefined;
    } else if (checks[field]?.(found) === false) return undefined;
    // JSON knows no undefined, which stands for ranks that said nothing.
    else details[field] = field === "values" ? (found as unknown[]).map((v) => v ?? undefined) : found;
  }
  return { code: code as ErrorCode, message, details: details as unknown as ErrorDetails[ErrorCode] };
}

/** The error that a verdict stands for, as told by rank `by`. */
export function fromVerdict(verdict: Verdict, by: number): MoeA2AError {
  const told = verdict.code === "ERR_MOE_A2A_ABORTED" || / \(as rank \d+ found\)$/.test(verdict.message);
  const message = told ? verdict.message : `${verdict.message} (as rank ${by} found)`;
  return new MoeA2AError(verdict.code, message, verdict.details);
}

/** "rank 2" or "ranks 1, 3". */
export function nameRanks(ranks: readonly number[]): string {
  return `${ranks.length === 1 ? "rank" : "ranks"} ${ranks.join(", ")}`;
}

const howMissing: Record<MissingKind, (ranks: string, ms: number) => string> = {
  timeout: (ranks, ms) => `${ranks} did not arrive within ${ms} ms`,
  closed: (ranks) => `${ranks} closed`,
  lost: (ranks) => `${ranks} ended without closing`,
};

/** A PEER_TIMEOUT error that names who is missing, where, and what to do. */
export function missingError(missing: {
  readonly phase: Phase;
  readonly round: number;
  readonly missingRanks: readonly number[];
  readonly kind: MissingKind;
  readonly timeoutMs: number;
  /** The rank that waited. */
  readonly rank: number;
  /** What it waited in, such as `dispatch of round 7`. */
  readonly where: string;
}): MoeA2AError<"ERR_MOE_A2A_PEER_TIMEOUT"> {
  const { phase, round, missingRanks, kind, timeoutMs, rank, where } = missing;
  const who = howMissing[kind](nameRanks(missingRanks), timeoutMs);
  const inRound = phase === "dispatch" || phase === "combine";
  const cure = inRound
    ? "; call reset() on the ranks that remain (activeRanks) or, once they are back, on all"
    : kind === "timeout"
      ? "; every rank of the group has to make this call (timeoutMs says how long it waits)"
      : "";
  return new MoeA2AError("ERR_MOE_A2A_PEER_TIMEOUT", `rank ${rank}, ${where}: ${who}${cure}`, {
    phase,
    round,
    missingRanks: [...missingRanks],
    kind,
  });
}
