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
