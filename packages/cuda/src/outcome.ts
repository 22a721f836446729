import {
  abortMessage,
  type DispatchReport,
  DTYPES,
  disagreementError,
  expertIdError,
  fromVerdict,
  type MissingKind,
  MoeA2AError,
  missingError,
  type ResolvedConfig,
  toVerdict,
} from "@moe-a2a/core";
import type { NativeFailure } from "./native.js";

/** Places in the array that the addon writes an outcome into. */
const VALUE = {
  completed: 0,
  known: 1,
  numLocalTokens: 2,
  tokensSent: 3,
  tokensReceived: 4,
  padding: 5,
  invalidExpert: 6,
  inactiveRank: 7,
  waitNs: 8,
} as const;

const MAX_RANKS = 64;

/** Room for one outcome. */
export function outcomeValues(): Float64Array {
  return new Float64Array(VALUE.waitNs + MAX_RANKS);
}

export function hasCompleted(values: Float64Array): boolean {
  return values[VALUE.completed] === 1;
}

/** The report of a dispatch; its counts are NaN where later rounds have overwritten it. */
export function makeReport(
  values: Float64Array,
  { round, lane, ranks }: { readonly round: number; readonly lane: 0 | 1; readonly ranks: number },
): DispatchReport {
  const known = values[VALUE.known] === 1;
  const read = (at: number): number => (known ? values[at]! : Number.NaN);
  return {
    round,
    lane,
    tokensSent: read(VALUE.tokensSent),
    tokensReceived: read(VALUE.tokensReceived),
    droppedEntries: {
      padding: read(VALUE.padding),
      invalidExpert: read(VALUE.invalidExpert),
      inactiveRank: read(VALUE.inactiveRank),
    },
    waitMs: Array.from({ length: ranks }, (_, rank) => read(VALUE.waitNs + rank) / 1e6),
  };
}

/** `enum moe_a2a_failure_code`. */
const CODE = { expertId: 1, capacity: 2, mismatch: 3, missing: 4, aborted: 5, leftOut: 6 } as const;

/** `enum moe_a2a_field`, by the names that errors have. */
const FIELDS = [
  "generation",
  "round",
  "runtimeMaxTokensPerRank",
  "payloadCount",
  "rowBytes",
  "expertStatsLength",
  "hiddenSize",
  "dtype",
] as const;

/** `enum moe_a2a_phase`, as failures tell it. */
const FAILURE_PHASES = ["dispatch", "combine", "reset"] as const;

/** `enum moe_a2a_missing_kind`. */
export const MISSING_KINDS: readonly MissingKind[] = ["timeout", "closed", "lost"];

function ranksIn(mask: bigint): number[] {
  return Array.from({ length: MAX_RANKS }, (_, rank) => rank).filter((rank) => (mask >> BigInt(rank)) & 1n);
}

/** The number nearest to `near` whose low 32 bits are `low`. */
export function widenRound(low: number, near: number): number {
  return near + ((low - near) | 0);
}

/** What each rank said about a field that ranks disagree on. */
function valuesByRank(
  { field, valuesMask, valuesPerRank, values }: NativeFailure,
  config: ResolvedConfig,
): unknown[] {
  const name = FIELDS[field];
  const byRank: unknown[] = new Array(config.epSize).fill(undefined);
  for (const rank of ranksIn(valuesMask)) {
    const first = values[rank * Math.max(1, valuesPerRank)];
    if (name === "rowBytes") {
      const row = values.subarray(rank * valuesPerRank, (rank + 1) * valuesPerRank);
      byRank[rank] = Array.from(row).filter((bytes) => bytes >= 0);
    } else byRank[rank] = name === "dtype" ? DTYPES[first!] : first;
  }
  return byRank;
}

/** Who asks what a failure means. */
export interface FailureContext {
  readonly config: ResolvedConfig;
  readonly rank: number;
  /** A round number near those in flight, by lane. */
  nearRound(lane: number): number;
  leftOutError(call: string): MoeA2AError;
}

/** The error that a failure on the device stands for; found by a peer, it says so. */
export function failureError(context: FailureContext, failure: NativeFailure): MoeA2AError {
  const error = ownError(context, failure);
  const { foundBy } = failure;
  return foundBy === context.rank ? error : fromVerdict(toVerdict(error), foundBy);
}

function ownError(context: FailureContext, failure: NativeFailure): MoeA2AError {
  const { config } = context;
  const { foundBy, rank, token, k, id, value, limit } = failure;
  const phase = FAILURE_PHASES[failure.phase] ?? "dispatch";
  const outsideRounds = phase === "reset";
  const round = outsideRounds ? 0 : widenRound(failure.round, context.nearRound(failure.lane));
  const where = outsideRounds ? phase : `${phase} of round ${round}`;
  switch (failure.code) {
    case CODE.expertId:
      return expertIdError(config, { rank, token, k, id });
    case CODE.capacity:
      return new MoeA2AError(
        "ERR_MOE_A2A_CAPACITY",
        `rank ${rank}, ${where}: numLocalTokens is ${value} on the device, but the inputs have ${limit} rows; ` +
          "write a count from 0 to that, then call reset() on all ranks to go on",
        { value, limit },
      );
    case CODE.mismatch:
      return disagreementError(
        foundBy,
        where,
        FIELDS[failure.field] ?? String(failure.field),
        valuesByRank(failure, config),
      );
    case CODE.missing:
      return missingError({
        phase,
        round,
        missingRanks: ranksIn(failure.missingMask),
        kind: MISSING_KINDS[failure.kind] ?? "timeout",
        timeoutMs: config.timeoutMs,
        rank: foundBy,
        where,
      });
    case CODE.aborted:
      return new MoeA2AError("ERR_MOE_A2A_ABORTED", abortMessage(rank, failure.text), {
        rank,
        reason: failure.text === "" ? undefined : failure.text,
      });
    case CODE.leftOut:
      return context.leftOutError(where);
    default:
      return new MoeA2AError(
        "ERR_MOE_A2A_CUDA",
        `rank ${foundBy}, ${where}: unknown failure ${failure.code}`,
        {
          cudaError: failure.code,
          call: "moe_a2a_outcome",
        },
      );
  }
}
