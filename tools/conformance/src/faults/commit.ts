import type { MoeAllToAll } from "@moe-a2a/core";
import type { Context } from "../case.js";
import { sleep } from "../cases/common.js";
import { CheckFailure, throws } from "../check.js";
import { Flight } from "../flight.js";
import type { RoundSpec } from "../round.js";
import { DELAY_MS } from "./limits.js";
import type { Scenario } from "./scenario.js";

/** Slots of the rounds of a scenario; the config has room for one more. */
export const TOKENS = 4;

/** Where a rank of a scenario is. */
export interface Place {
  readonly context: Context;
  readonly scenario: Scenario;
  readonly a2a: MoeAllToAll;
  /** The round of a key. */
  readonly round: (key: string, over?: Partial<RoundSpec>) => RoundSpec;
}

/**
 * Commits the scenario's fault.
 *
 * @returns whether the rank does nothing more
 */
export async function commit(place: Place, flights: readonly Flight[]): Promise<"left" | "goes on"> {
  const { context, a2a, scenario } = place;
  switch (scenario.fault) {
    case "never comes":
      // Until the others have failed, and, for half of them, have gone on without this rank.
      await context.barrier();
      return "left";
    case "comes too late":
      await context.barrier();
      return "goes on";
    case "comes at the limit":
      await sleep(scenario.shortMs + scenario.offLimit);
      return "goes on";
    case "comes late, but in time":
      await sleep(DELAY_MS);
      return "goes on";
    case "is stopped and wakes":
      context.pause();
      return "goes on";
    case "is killed":
    case "is killed and starts again":
      return context.die("is terminated");
    case "exits":
      return context.die("exits");
    case "closes its instance":
      await a2a.close();
      return "left";
    case "closes its group":
      await context.group.close();
      return "left";
    case "aborts":
      a2a.abort("out of memory");
      return "goes on";
    case "sends a bad id":
      return sendBadId(place);
    case "disagrees":
      return scenario.point === 0 ? dispatchDifferently(place) : combineDifferently(place, flights);
    case "is created with another config":
    case "resets with other ranks":
      throw new Error(`"${scenario.fault}" is no fault of a round`);
  }
}

/** An id that is no expert's: thrown at once where the call can see it, and then nothing has happened. */
async function sendBadId({ context, scenario, a2a, round }: Place): Promise<"goes on"> {
  const { target, rank, config } = context;
  const counts = Array.from({ length: scenario.ranks }, () => TOKENS);
  const bad = context.round("bad", { ...round("bad"), counts });
  const ids = Int32Array.from(bad.inputs[rank]!.tokenSelectedExperts.data as Int32Array);
  ids[config.topK] = config.numExperts;
  const input = await Flight.input(a2a, bad, target);
  await a2a.write(input.tokenSelectedExperts, ids);
  if (!target.traits.callsSeeMemory) {
    await a2a.dispatch(input).ready();
    return "goes on";
  }
  throws("dispatch", () => a2a.dispatch(input), "ERR_MOE_A2A_EXPERT_ID", {
    fields: { rank, token: 1, k: 0, id: config.numExperts },
  });
  return "goes on";
}

async function dispatchDifferently({ context, scenario, a2a, round }: Place): Promise<never> {
  const { field } = scenario;
  const usual = round("fault/0/0");
  const strange: Partial<RoundSpec> =
    field === "runtimeMaxTokensPerRank"
      ? { slots: TOKENS + 1 }
      : field === "expertStatsLength"
        ? { stats: 1 }
        : field === "payloadCount"
          ? { payloads: usual.payloads.slice(0, 1) }
          : { payloads: usual.payloads.map((p, i) => (i === 0 ? { ...p, n: p.n + 1 } : p)) };
  const made = context.round("strange", { ...usual, ...strange });
  const flight = await context.launch(a2a, made, { out: true });
  await flight.dispatch.ready();
  throw new CheckFailure(`ranks disagreed on ${field}, and the dispatch succeeded`);
}

async function combineDifferently({ scenario, a2a }: Place, flights: readonly Flight[]): Promise<never> {
  const { field, ranks } = scenario;
  const [hidden, dtype] = field === "dtype" ? ([8, "float16"] as const) : ([9, "bfloat16"] as const);
  const rows = a2a.empty(dtype, [ranks, TOKENS, hidden]);
  const combine = flights[0]!.dispatch.combine(rows);
  await combine.ready();
  throw new CheckFailure(`ranks disagreed on ${field}, and the combine succeeded`);
}
