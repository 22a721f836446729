import { createLocalGroup, type Group } from "@moe-a2a/core";
import { describe, expect, it } from "vitest";
import { jsBackend } from "../src/index.js";
import { expectNoUnhandledRejections } from "./unhandled.js";
import { exactRound, smallConfig } from "./world.js";

expectNoUnhandledRejections();

describe("create", () => {
  const config = smallConfig(2, { timeoutMs: 100 });

  it("names who does not come, and pairs with their next attempt", async () => {
    const groups = createLocalGroup(2) as [Group, Group];
    await expect(jsBackend.create(config, groups[0])).rejects.toMatchObject({
      code: "ERR_MOE_A2A_PEER_TIMEOUT",
      phase: "create",
      missingRanks: [1],
    });
    const a2as = await Promise.all(groups.map((group) => jsBackend.create(config, group)));
    await exactRound(a2as);
  });

  it("names the field in which configs differ, with every rank's value", async () => {
    const groups = createLocalGroup(2);
    const results = await Promise.allSettled(
      groups.map((group, r) => jsBackend.create({ ...config, maxTokensPerRank: 4 + r }, group)),
    );
    for (const [r, result] of results.entries()) {
      expect(result).toMatchObject({
        status: "rejected",
        reason: {
          code: "ERR_MOE_A2A_CONFIG",
          field: "maxTokensPerRank",
          value: 4 + r,
          message: expect.stringContaining("config.maxTokensPerRank differs (rank 0: 4, rank 1: 5)"),
        },
      });
    }
  });

  it("checks before anything is allocated or sent", async () => {
    const [group] = createLocalGroup(2) as [Group];
    await expect(jsBackend.create({ ...config, topK: 0 }, group)).rejects.toMatchObject({ field: "topK" });
    await expect(jsBackend.create(smallConfig(3), group)).rejects.toMatchObject({ field: "epSize" });
    await expect(jsBackend.create(config, {} as Group)).rejects.toMatchObject({ argument: "group" });
    const huge = { ...config, maxTokensPerRank: 2 ** 31 - 1 };
    await expect(jsBackend.create(huge, group)).rejects.toThrowError(/the largest value that fits is \d+/);
  });

  it("pairs instances by their order", async () => {
    const groups = createLocalGroup(2);
    const both = await Promise.all(
      groups.map((group) => Promise.all([jsBackend.create(config, group), jsBackend.create(config, group)])),
    );
    await exactRound(both.map((instances) => instances[1]!));
    await exactRound(both.map((instances) => instances[0]!));
  });
});
