import type { Group } from "@moe-a2a/core";
import type { BackendUnderTest } from "../backends.js";
import { setUp } from "../cases/common.js";
import { Flight } from "../flight.js";
import { makeRound } from "../round.js";

const TOKENS = 3;

/** Makes an instance, plays an exact round with it, and closes it, over and over. */
export async function cycles(
  group: Group,
  target: BackendUnderTest,
  count: number,
  seed: number,
): Promise<void> {
  const { rank, size: ranks } = group;
  const { config, round } = setUp({ ranks, tokens: TOKENS, timeoutMs: 20_000 });
  for (let n = 0; n < count; n++) {
    const a2a = await target.backend.create(config, group, target.placement(rank));
    const counts = Array.from({ length: ranks }, (_, r) => (r + n) % (TOKENS + 1));
    const flight = await Flight.launch(a2a, makeRound(config, round(counts), `cycle/${seed}/${n}`), target);
    await flight.complete();
    // Nobody waits for the others: some close while others are still in the round.
    await a2a.close();
  }
}
