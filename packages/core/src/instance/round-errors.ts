import type { ResolvedConfig } from "../config.js";
import { MoeA2AError } from "../errors.js";

/** The message of an ABORTED error. */
export function abortMessage(rank: number, reason: string): string {
  return `rank ${rank} called abort()${reason ? `: ${reason}` : ""}; the round fails on all ranks. Call reset() on them to go on`;
}

/** A reason as text, for other ranks. */
export function reasonText(reason: unknown): string {
  if (reason === undefined) return "";
  // Whatever a reason is or does, ranks are told that there was an abort.
  try {
    if (reason instanceof Error) return String(reason.message);
    return typeof reason === "object" ? (JSON.stringify(reason) ?? "") : String(reason);
  } catch {
    return "a reason that cannot be told as text";
  }
}

/** Longer reasons of abort() are cut for the other ranks, in characters. */
const REASON_LENGTH = 500;

/** A reason's text as the other ranks get it: cut between characters, not inside one that takes two units. */
export function shortReason(reason: unknown): string {
  return reasonText(reason)
    .slice(0, REASON_LENGTH)
    .replace(/[\uD800-\uDBFF]$/, "");
}

/** The ABORTED error of the rank that called `abort(reason)`: it keeps the very value. */
export function abortedError(rank: number, reason: unknown): MoeA2AError<"ERR_MOE_A2A_ABORTED"> {
  return new MoeA2AError(
    "ERR_MOE_A2A_ABORTED",
    abortMessage(rank, reasonText(reason)),
    { rank, reason },
    reason === undefined ? undefined : { cause: reason },
  );
}

/** An id that is neither an expert's nor padding. */
export function expertIdError(
  { numExperts }: Pick<ResolvedConfig, "numExperts">,
  { rank, token, k, id }: { rank: number; token: number; k: number; id: number },
): MoeA2AError<"ERR_MOE_A2A_EXPERT_ID"> {
  return new MoeA2AError(
    "ERR_MOE_A2A_EXPERT_ID",
    `rank ${rank}: tokenSelectedExperts[${token}, ${k}] is ${id}; expert ids are 0…${numExperts - 1}, and -1 is padding ` +
      "(config.invalidExpert: 'drop' drops and counts such entries)",
    { rank, token, k, id },
  );
}

/**
 * Ranks that said different things about a phase.
 *
 * @param by the rank that found it, for the message
 * @param values by rank, undefined for ranks that said nothing
 */
export function disagreementError(
  by: number,
  where: string,
  field: string,
  values: readonly unknown[],
): MoeA2AError<"ERR_MOE_A2A_MISMATCH"> {
  const list = values
    .map((value, rank) => `rank ${rank}: ${JSON.stringify(value)}`)
    .filter((_, rank) => values[rank] !== undefined)
    .join(", ");
  return new MoeA2AError(
    "ERR_MOE_A2A_MISMATCH",
    `rank ${by}, ${where}: ranks disagree on ${field} (${list}); it has to be equal on all ranks. ` +
      "Call reset() on all of them to go on",
    { field, values },
  );
}
