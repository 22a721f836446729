import type { ErrorCode, MoeAllToAll } from "@moe-a2a/core";
import type { Context } from "../case.js";
import { throws } from "../check.js";
import { Flight } from "../flight.js";
import type { RoundSpec } from "../round.js";

/** On an instance that has failed nothing goes on, and the first failure is the cause. */
export async function sticky(
  context: Context,
  a2a: MoeAllToAll,
  spec: RoundSpec,
  code: ErrorCode,
): Promise<void> {
  const input = await Flight.input(a2a, context.round("on a failed instance", spec), context.target);
  throws("dispatch on a failed instance", () => a2a.dispatch(input), "ERR_MOE_A2A_STATE", {
    fields: { state: "failed" },
    says: [`rank ${context.rank}`, "reset()"],
    cause: code,
  });
}
