import { createLocalGroup, type MoeAllToAll, tensor } from "@moe-a2a/core";
import { jsBackend } from "@moe-a2a/js";
import { type Spread, spread } from "../stats.js";
import { type Plan, timeAsync } from "./plan.js";

const HIDDEN = 8;
const TOP_K = 2;

export const idleConfig = (epSize: number) => ({
  epSize,
  numExperts: 2 * epSize,
  topK: TOP_K,
  maxTokensPerRank: 16,
  maxDispatchBytesPerToken: 1024,
  maxCombineBytesPerToken: 1024,
});

/** Arguments of a round in which nobody has a token. */
export const idleInput = {
  numLocalTokens: 0,
  tokenSelectedExperts: tensor("int32", [0, TOP_K]),
  payloads: [tensor("uint8", [0, 16])],
  runtimeMaxTokensPerRank: 0,
};

export const idleOutput = (epSize: number) => tensor("bfloat16", [epSize, 0, HIDDEN]);

/** One round of all ranks on this thread. */
export async function idleRound(ranks: readonly MoeAllToAll[]): Promise<void> {
  const dispatches = ranks.map((a2a) => a2a.dispatch(idleInput));
  for (const dispatch of dispatches) await dispatch.ready();
  const output = idleOutput(ranks.length);
  const combines = dispatches.map((dispatch) => dispatch.combine(output));
  for (const combine of combines) await combine.ready();
}

/** Microseconds of a round in which no rank of a local group has a token. */
export async function measureIdle(plan: Plan, epSize: number): Promise<Spread> {
  const groups = createLocalGroup(epSize);
  const ranks = (await Promise.all(
    groups.map((group) => jsBackend.create(idleConfig(epSize), group)),
  )) as unknown as MoeAllToAll[];
  const round = () => idleRound(ranks);
  await timeAsync(plan, round);
  const samples: number[] = [];
  for (let s = 0; s < plan.samples; s++) samples.push(await timeAsync(plan, round));
  await Promise.all(ranks.map((a2a) => a2a.close()));
  return spread(samples);
}
