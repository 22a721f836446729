import { checkConfig, layoutWorkspace } from "@moe-a2a/core";

export const SIZE = 3;

/** What recorded and attacked ranks were created with. */
export const CONFIG = checkConfig({
  epSize: SIZE,
  numExperts: 6,
  topK: 2,
  maxTokensPerRank: 3,
  maxDispatchBytesPerToken: 40,
  maxCombineBytesPerToken: 16,
  maxExpertStats: 3,
  roundsInFlight: 2,
  timeoutMs: 5_000,
});

export const LAYOUT = layoutWorkspace(CONFIG, { sharedMemory: false });
