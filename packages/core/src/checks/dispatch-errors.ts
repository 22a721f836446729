import type { MoeAllToAllConfig } from "../config.js";
import { LIMITS } from "../config.js";
import { MoeA2AError } from "../errors.js";
import { describe } from "../tensor.js";
import { argumentError, type CheckContext, type CheckedTensor } from "./check-tensor.js";

/** What is said of a dispatch's arguments. Apart from the checks, which engines inline only where they are short. */

type Argument = MoeA2AError<"ERR_MOE_A2A_ARGUMENT">;

/** m that is no count, or more than the capacity. */
export function maxTokensError({ config, rank }: CheckContext, given: unknown): MoeA2AError {
  const capacity = config.maxTokensPerRank;
  if (!Number.isSafeInteger(given) || (given as number) < 0) {
    return argumentError(
      rank,
      "runtimeMaxTokensPerRank",
      `is ${describe(given)}; it must be an integer >= 0`,
    );
  }
  const value = given as number;
  return new MoeA2AError(
    "ERR_MOE_A2A_CAPACITY",
    `rank ${rank}: runtimeMaxTokensPerRank is ${value}, but the workspace holds ${capacity} tokens per rank; ` +
      `create the instance with config.maxTokensPerRank of at least ${value}`,
    { value, limit: capacity },
  );
}

/** L that is no count, or more than m. */
export function numLocalTokensError(
  { config, rank, device }: CheckContext,
  given: unknown,
  maxTokens: number,
): MoeA2AError {
  if (!Number.isSafeInteger(given) || (given as number) < 0) {
    const tensor = device === "cuda" ? ", or a cuda int32 tensor [1]" : "";
    return argumentError(
      rank,
      "numLocalTokens",
      `is ${describe(given)}; it must be an integer >= 0${tensor}`,
    );
  }
  const value = given as number;
  const capacity = config.maxTokensPerRank;
  const cure =
    value <= capacity
      ? `pass a runtimeMaxTokensPerRank of at least ${value} on every rank`
      : `create the instance with config.maxTokensPerRank of at least ${value} (it is ${capacity})`;
  return new MoeA2AError(
    "ERR_MOE_A2A_CAPACITY",
    `rank ${rank}: numLocalTokens is ${value}, but this round has ${maxTokens} slots per rank ` +
      `(runtimeMaxTokensPerRank); ${cure}`,
    { value, limit: maxTokens },
  );
}

/** More rows of inputs than slots, where their count stands in device memory. */
export function rowsError({ rank, config }: CheckContext, rows: number, maxTokens: number): MoeA2AError {
  return new MoeA2AError(
    "ERR_MOE_A2A_CAPACITY",
    `rank ${rank}: tokenSelectedExperts has ${rows} rows, but this round has ${maxTokens} slots per rank ` +
      `(runtimeMaxTokensPerRank, at most config.maxTokensPerRank, which is ${config.maxTokensPerRank})`,
    { value: rows, limit: maxTokens },
  );
}

export function streamError(rank: number, given: unknown): Argument {
  return argumentError(rank, "stream", `is ${describe(given)}; it must be a stream's handle, a bigint`);
}

export function payloadsError(rank: number, given: unknown): Argument {
  const what = Array.isArray(given) ? `has ${given.length} tensors` : `is ${describe(given)}`;
  return argumentError(rank, "payloads", `${what}; it must be an array of 1 to ${LIMITS.payloads} tensors`);
}

/** Payloads whose rows take more than the config has room for. */
export function rowBytesError(
  { config, rank }: CheckContext,
  rowBytes: readonly number[],
  total: number,
): Argument {
  return argumentError(
    rank,
    "payloads",
    `take ${total} bytes per token (${rowBytes.join(" + ")}), but config.maxDispatchBytesPerToken is ` +
      `${config.maxDispatchBytesPerToken}; create the instance with at least ${total}`,
  );
}

/** An index of no payload, or of one that holds no expert ids. */
export function expertIdPayloadError(
  rank: number,
  given: unknown,
  payloads: readonly CheckedTensor[],
): Argument {
  const argument = "expertIdPayloadIndex";
  const payload = typeof given === "number" ? payloads[given] : undefined;
  return payload
    ? argumentError(
        rank,
        argument,
        `names payloads[${given}] of dtype ${payload.dtype}; expert ids are int32`,
      )
    : argumentError(
        rank,
        argument,
        `is ${describe(given)}; it must name one of the ${payloads.length} payloads`,
      );
}

export function invalidTokenExpertIdError(rank: number, given: unknown): Argument {
  return argumentError(rank, "invalidTokenExpertId", `is ${describe(given)}; it must be an int32`);
}

export function statsError({ config, rank }: CheckContext, length: number): Argument {
  return argumentError(
    rank,
    "expertStats",
    `has ${length} elements, but config.maxExpertStats is ${config.maxExpertStats}; create the instance with at least ${length}`,
  );
}

export function laneError(
  { roundsInFlight }: Pick<Required<MoeAllToAllConfig>, "roundsInFlight">,
  rank: number,
  given: unknown,
): Argument {
  return argumentError(
    rank,
    "lane",
    `is ${describe(given)}; config.roundsInFlight is ${roundsInFlight}, so the lanes are 0…${roundsInFlight - 1}`,
  );
}
