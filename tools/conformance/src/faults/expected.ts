import { type ErrorCode, isMoeA2AError, type MoeA2AError } from "@moe-a2a/core";
import { check, expectError } from "../check.js";
import type { Scenario } from "./scenario.js";

/** What every rank but the victim must be told. */
export interface Verdict {
  readonly code: ErrorCode;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** The verdict of a scenario, where there is one; undefined where nothing is to fail. */
export function expectedVerdict(scenario: Scenario, callsSeeMemory: boolean): Verdict | undefined {
  const { fault, victim, field } = scenario;
  const missing = (kind: string): Verdict => ({
    code: "ERR_MOE_A2A_PEER_TIMEOUT",
    fields: { kind, missingRanks: [victim] },
  });
  switch (fault) {
    case "comes late, but in time":
      return undefined;
    case "sends a bad id":
      // Where the call cannot see ids, the device tells all ranks.
      return callsSeeMemory ? undefined : { code: "ERR_MOE_A2A_EXPERT_ID", fields: { rank: victim } };
    case "never comes":
    case "comes at the limit":
    case "comes too late":
    case "is stopped and wakes":
      return missing("timeout");
    case "is killed":
    case "is killed and starts again":
    case "exits":
      return missing("lost");
    case "closes its instance":
    case "closes its group":
      return missing("closed");
    case "aborts":
      return { code: "ERR_MOE_A2A_ABORTED", fields: { rank: victim, reason: "out of memory" } };
    case "disagrees":
      return { code: "ERR_MOE_A2A_MISMATCH", fields: { field } };
    case "is created with another config":
      // Over before the first round.
      return undefined;
    case "resets with other ranks":
      return { code: "ERR_MOE_A2A_MISMATCH", fields: { field: "activeRanks" } };
  }
}

/** The verdict behind an error: calls on an instance that has failed have it as their cause. */
function verdictBehind(error: unknown): unknown {
  return isMoeA2AError(error, "ERR_MOE_A2A_STATE") && error.cause !== undefined ? error.cause : error;
}

/** Checks that an error is the verdict, and says which rank is meant. */
export function expectVerdict(what: string, error: unknown, { code, fields }: Verdict, victim: number): void {
  const found = expectError(what, verdictBehind(error), code, { fields }) as MoeA2AError;
  if (code !== "ERR_MOE_A2A_MISMATCH") {
    check(found.message.includes(`rank ${victim}`), `${what}: the message names nobody: ${found.message}`);
    return;
  }
  const values = found.values ?? [];
  // Of a reset, only what two ranks said is known.
  const others = values
    .filter((value, rank) => rank !== victim && value !== undefined)
    .map((value) => JSON.stringify(value));
  check(
    others.length > 0 && others.every((v) => v === others[0] && v !== JSON.stringify(values[victim])),
    `${what}: the values by rank do not single out rank ${victim}: ${JSON.stringify(values)}`,
  );
}

/** Checks that a rank that was given up is told so: by the others' verdict, or because they went on without it. */
export function expectGivenUp(what: string, error: unknown, verdict: Verdict, victim: number): void {
  if (isMoeA2AError(error, "ERR_MOE_A2A_STATE") && error.state === "leftOut") return;
  expectVerdict(what, error, verdict, victim);
}
