import { MoeA2AError } from "@moe-a2a/core";
import { checkInteger } from "./check.js";
import type { DispatchOptions } from "./dispatcher-options.js";
import { slotsFromCounts } from "./dp.js";

const LARGER =
  "create the all-to-all with a larger config.maxTokensPerRank on every rank, or split the batch";

/**
 * This step's slots per sender, the same on every rank.
 *
 * @throws ERR_MOE_A2A_CAPACITY where they exceed the capacity, or `rows` exceeds them; ERR_MOE_A2A_ARGUMENT
 */
export function slotsPerRank(
  where: string,
  rows: number,
  capacity: number,
  { dpGlobalNumTokens, attnTpSize = 1 }: DispatchOptions,
): number {
  checkInteger(where, "attnTpSize", attnTpSize, 1);
  // The local row count (SGLang's choice here) is only safe where it is equal on every rank; the capacity always is.
  const counted = dpGlobalNumTokens !== undefined;
  const slots = counted ? slotsFromCounts(where, dpGlobalNumTokens, attnTpSize) : capacity;
  const origin = counted
    ? `= ceil(max(dpGlobalNumTokens [${dpGlobalNumTokens.join(", ")}]) / attnTpSize ${attnTpSize})`
    : "= config.maxTokensPerRank, as no dpGlobalNumTokens were given";
  if (slots > capacity) {
    throw capacityError(
      slots,
      capacity,
      `${where}: this step needs ${slots} slots per rank (${origin}), and the capacity is ${capacity}; ${LARGER}`,
    );
  }
  if (rows > slots) {
    const remedy = counted ? "give every rank the same, complete token counts" : LARGER;
    throw capacityError(
      rows,
      slots,
      `${where}: hiddenStates has ${rows} rows, and this step has ${slots} slots per rank (${origin}); ${remedy}`,
    );
  }
  return slots;
}

function capacityError(value: number, limit: number, message: string): MoeA2AError<"ERR_MOE_A2A_CAPACITY"> {
  return new MoeA2AError("ERR_MOE_A2A_CAPACITY", message, { value, limit });
}
