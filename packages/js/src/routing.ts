import { expertIdError, expertOwner, type ResolvedConfig } from "@moe-a2a/core";
import type { Lane } from "./lane.js";

/** Entries that went nowhere, by reason. */
export interface DroppedEntries {
  padding: number;
  invalidExpert: number;
  inactiveRank: number;
}

const NOBODY = -1;

/**
 * Finds where each token goes: once to each distinct active rank that owns one of its experts, into the slot that
 * counts the earlier tokens with the same target. Fills the lane's `entry*` arrays, `sendCounts` and `tokensSent`.
 *
 * @param ids int32 `[numLocalTokens, topK]`
 * @throws ERR_MOE_A2A_EXPERT_ID for an id that is no expert's, unless the config says to drop such entries
 */
export function route(
  lane: Lane,
  context: {
    readonly config: ResolvedConfig;
    readonly rank: number;
    readonly isActive: Uint8Array;
    readonly maxTargets: number;
  },
  ids: Int32Array,
  numLocalTokens: number,
): DroppedEntries {
  const { config, rank, isActive, maxTargets } = context;
  const { numExperts, topK } = config;
  const { entryRanks, entrySlots, entryCounts, sendCounts, lastTokens } = lane;
  const dropped: DroppedEntries = { padding: 0, invalidExpert: 0, inactiveRank: 0 };
  // Who had no token before either has sent nothing to anybody.
  if (numLocalTokens === 0 && lane.tokensSent === 0) return dropped;
  // Not known until the end: an id that is no expert's leaves counts behind.
  lane.tokensSent = -1;
  // A loop: fill() of a few elements takes longer.
  for (let target = 0; target < sendCounts.length; target++) {
    sendCounts[target] = 0;
    lastTokens[target] = NOBODY;
  }
  let sent = 0;
  for (let token = 0; token < numLocalTokens; token++) {
    const first = token * maxTargets;
    let targets = 0;
    for (let k = 0; k < topK; k++) {
      const id = ids[token * topK + k]!;
      if (id < 0 || id >= numExperts) {
        if (id === -1) dropped.padding++;
        else if (config.invalidExpert === "drop") dropped.invalidExpert++;
        else throw expertIdError(config, { rank, token, k, id });
        continue;
      }
      const target = expertOwner(config, id);
      if (isActive[target] === 0) {
        dropped.inactiveRank++;
        continue;
      }
      if (lastTokens[target] === token) continue;
      lastTokens[target] = token;
      entryRanks[first + targets] = target;
      entrySlots[first + targets] = sendCounts[target]!++;
      targets++;
    }
    entryCounts[token] = targets;
    sent += targets;
  }
  lane.tokensSent = sent;
  return dropped;
}
