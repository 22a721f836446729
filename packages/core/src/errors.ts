/** What this rank was doing: a phase of an instance, or a group exchange of the caller. */
export type Phase = "create" | "dispatch" | "combine" | "reset" | "exchange";

/** Why a peer is missing: it did not come in time, it closed, or its thread or process ended. */
export type MissingKind = "timeout" | "closed" | "lost";

/** The fields that each error code carries. */
export interface ErrorDetails {
  /** A config value is out of range, or ranks were created with different configs. */
  ERR_MOE_A2A_CONFIG: { readonly field: string; readonly value: unknown };
  /** Wrong dtype, shape or device, too many payloads or bytes. */
  ERR_MOE_A2A_ARGUMENT: { readonly argument: string };
  /** More tokens than the round or the workspace has room for. */
  ERR_MOE_A2A_CAPACITY: { readonly value: number; readonly limit: number };
  /** An expert id outside `[0, numExperts)` that is not the padding id -1. */
  ERR_MOE_A2A_EXPERT_ID: {
    readonly rank: number;
    readonly token: number;
    readonly k: number;
    readonly id: number;
  };
  /** Ranks disagree about the round; `values[r]` is what rank r said, undefined where it said nothing. */
  ERR_MOE_A2A_MISMATCH: { readonly field: string; readonly values: readonly unknown[] };
  /** A peer did not arrive in time, closed, or was lost. */
  ERR_MOE_A2A_PEER_TIMEOUT: {
    readonly phase: Phase;
    readonly round: number;
    readonly missingRanks: readonly number[];
    readonly kind: MissingKind;
  };
  /** A rank called `abort()`; `reason` is its text, or the very value on the rank that called. */
  ERR_MOE_A2A_ABORTED: { readonly rank: number; readonly reason: unknown };
  /** The call is not allowed in this state. */
  ERR_MOE_A2A_STATE: { readonly state: string };
  /** The backend asked for cannot run here. */
  ERR_MOE_A2A_UNAVAILABLE: { readonly reason: string; readonly hint: string };
  /** A CUDA call failed. */
  ERR_MOE_A2A_CUDA: { readonly cudaError: number | string; readonly call: string };
}

/** What an error's `code` can be; docs/troubleshooting.md has an entry for each. */
export type ErrorCode = keyof ErrorDetails;

// Shared by every copy of this package in a process, so that a guard of one copy knows errors of another.
const brand: unique symbol = Symbol.for("moe-a2a.error");

/**
 * The one error class. `code` tells what happened; the fields of that code (see {@link ErrorDetails}) tell where.
 */
export class MoeA2AError<C extends ErrorCode = ErrorCode> extends Error {
  readonly code: C;
  declare readonly field?: string;
  declare readonly value?: unknown;
  declare readonly argument?: string;
  declare readonly limit?: number;
  declare readonly rank?: number;
  declare readonly token?: number;
  declare readonly k?: number;
  declare readonly id?: number;
  declare readonly values?: readonly unknown[];
  declare readonly phase?: Phase;
  declare readonly round?: number;
  declare readonly missingRanks?: readonly number[];
  declare readonly kind?: MissingKind;
  declare readonly reason?: unknown;
  declare readonly state?: string;
  declare readonly hint?: string;
  declare readonly cudaError?: number | string;
  declare readonly call?: string;

  constructor(code: C, message: string, details: ErrorDetails[C], options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
    Object.assign(this, details);
  }

  override get name(): string {
    return "MoeA2AError";
  }

  get [brand](): true {
    return true;
  }
}

/** A {@link MoeA2AError} of code `C`, with that code's fields. */
export type MoeA2AErrorOf<C extends ErrorCode> = MoeA2AError<C> & ErrorDetails[C];

/** Whether `e` is a {@link MoeA2AError} (of `code`, where one is given), also across copies of this package. */
export function isMoeA2AError(e: unknown): e is MoeA2AError;
export function isMoeA2AError<C extends ErrorCode>(e: unknown, code: C): e is MoeA2AErrorOf<C>;
export function isMoeA2AError(e: unknown, code?: string): e is MoeA2AError;
export function isMoeA2AError(e: unknown, code?: string): boolean {
  if (typeof e !== "object" || e === null || !(brand in e)) return false;
  return code === undefined || (e as { code?: unknown }).code === code;
}
