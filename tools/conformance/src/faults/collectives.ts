import type { MoeAllToAll, MoeAllToAllConfig } from "@moe-a2a/core";
import type { Context } from "../case.js";
import { sleep } from "../cases/common.js";
import { CheckFailure, check, expectError, rejects } from "../check.js";
import { expectedVerdict, expectVerdict } from "./expected.js";
import { LONG_MS, SHORT_MS } from "./limits.js";
import type { Scenario } from "./scenario.js";

/** A killed process that has to leave its GPU first keeps its sockets for so long, at most. */
const DYING_MS = 15_000;

// Faults where ranks meet without a round: in create(), in reset(), and at the group's door.

/** Configs that differ from a scenario's in one field. */
const OTHER_CONFIGS: readonly ((config: MoeAllToAllConfig) => Partial<MoeAllToAllConfig>)[] = [
  ({ numExperts }) => ({ numExperts: numExperts + 1 }),
  ({ topK }) => ({ topK: topK - 1 }),
  ({ maxTokensPerRank }) => ({ maxTokensPerRank: maxTokensPerRank + 1 }),
  ({ maxDispatchBytesPerToken }) => ({ maxDispatchBytesPerToken: maxDispatchBytesPerToken + 1 }),
  ({ maxCombineBytesPerToken }) => ({ maxCombineBytesPerToken: maxCombineBytesPerToken + 1 }),
  ({ maxExpertStats }) => ({ maxExpertStats: maxExpertStats! + 1 }),
  () => ({ invalidExpert: "drop" }),
  ({ timeoutMs }) => ({ timeoutMs: timeoutMs! - 1 }),
  ({ roundsInFlight }) => ({ roundsInFlight: roundsInFlight === 1 ? 2 : 1 }),
];

/** One rank creates an instance of another config: all are told, and can create one together after that. */
export async function createDifferently(context: Context, { victim, seed }: Scenario): Promise<void> {
  const over = OTHER_CONFIGS[seed % OTHER_CONFIGS.length]!(context.config);
  const [field] = Object.keys(over);
  context.at("create with another config");
  const start = performance.now();
  await rejects("create()", context.create(context.rank === victim ? over : {}), "ERR_MOE_A2A_CONFIG", {
    fields: { field: field! },
    says: [field!, `rank ${victim}`],
  });
  if (context.rank !== victim) context.measure("msToVerdict", performance.now() - start);
}

/** One rank names others than all ranks do. */
export async function resetDifferently(
  context: Context,
  scenario: Scenario,
  a2a: MoeAllToAll,
): Promise<void> {
  const { victim, ranks, seed } = scenario;
  const all = Array.from({ length: ranks }, (_, rank) => rank);
  // All but one, which is not the rank itself.
  const named = all.filter((rank) => rank !== (victim + 1 + (seed % (ranks - 1))) % ranks);
  const activeRanks = context.rank === victim ? named : all;
  context.at("reset with other ranks");
  const start = performance.now();
  const error = await a2a.reset({ activeRanks, timeoutMs: LONG_MS }).then(
    () => undefined,
    (e: unknown) => e,
  );
  if (error === undefined) throw new CheckFailure("ranks disagreed on the membership, and reset() succeeded");
  const verdict = expectedVerdict(scenario, context.target.traits.callsSeeMemory)!;
  expectVerdict("reset()", error, verdict, victim);
  if (context.rank !== victim) context.measure("msToVerdict", performance.now() - start);
}

/** A rank that was lost comes again: it is refused, with the reason. Played by one of the others, in its place. */
export async function startAgain(context: Context, { victim, ranks }: Scenario): Promise<void> {
  context.at("start the lost rank again");
  const come = () =>
    context.rejoin(victim, SHORT_MS).then(
      () => undefined,
      (e: unknown) => e,
    );
  const end = performance.now() + DYING_MS;
  let error = await come();
  while (String(error).includes("EADDRINUSE") && performance.now() < end) {
    await sleep(50);
    error = await come();
  }
  check(error !== undefined, `rank ${victim} was lost, and joined again`);
  if (context.kind === "processes" && victim === 0) {
    // Nobody is left at the address who could say more.
    const missingRanks = Array.from({ length: ranks - 1 }, (_, rank) => rank + 1);
    expectError("joining again", error, "ERR_MOE_A2A_PEER_TIMEOUT", {
      fields: { phase: "create", kind: "timeout", missingRanks },
    });
    return;
  }
  expectError("joining again", error, "ERR_MOE_A2A_STATE", {
    fields: { state: "lost" },
    says: [`rank ${victim}`, "lost", /new (group|one)/],
  });
}
