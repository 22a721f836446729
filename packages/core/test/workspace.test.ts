import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  alignUp,
  checkConfig,
  formatWorkspacePlan,
  LIMITS,
  largestCapacity,
  layoutWorkspace,
  type MoeAllToAllConfig,
  planWorkspace,
  REGION_ALIGNMENT,
} from "../src/index.js";

const base: MoeAllToAllConfig = {
  epSize: 4,
  numExperts: 256,
  topK: 8,
  maxTokensPerRank: 128,
  maxDispatchBytesPerToken: 14_400,
  maxCombineBytesPerToken: 14_336,
  maxExpertStats: 32,
  roundsInFlight: 2,
};

const configs: fc.Arbitrary<MoeAllToAllConfig> = fc
  .record({
    epSize: fc.integer({ min: 1, max: 64 }),
    extraExperts: fc.integer({ min: 0, max: 300 }),
    topK: fc.integer({ min: 1, max: 32 }),
    maxTokensPerRank: fc.integer({ min: 1, max: 5000 }),
    maxDispatchBytesPerToken: fc.integer({ min: 1, max: 20_000 }),
    maxCombineBytesPerToken: fc.integer({ min: 1, max: 20_000 }),
    maxExpertStats: fc.integer({ min: 0, max: 100 }),
    roundsInFlight: fc.constantFrom(1 as const, 2 as const),
  })
  .map(({ extraExperts, ...rest }) => ({
    ...rest,
    numExperts: Math.max(rest.epSize, rest.topK) + extraExperts,
  }));

describe("planWorkspace", () => {
  it("lists regions that follow one another without overlap, aligned, and sums them up", () => {
    fc.assert(
      fc.property(configs, (config) => {
        const plan = planWorkspace(config);
        for (const memory of ["window", "private"] as const) {
          let end = 0;
          for (const region of plan.regions.filter((r) => r.memory === memory)) {
            expect(region.offset).toBe(end);
            expect(region.offset % REGION_ALIGNMENT).toBe(0);
            end += region.bytes;
          }
          expect(end).toBe(memory === "window" ? plan.windowBytes : plan.privateBytes);
        }
        expect(plan.totalBytes).toBe(plan.windowBytes + plan.privateBytes);
      }),
    );
  });

  it("has room in a receive buffer for every split of the bytes over payloads, at every m", () => {
    const rounds = configs.chain((config) =>
      fc.record({
        config: fc.constant(config),
        maxTokens: fc.integer({ min: 0, max: config.maxTokensPerRank }),
        cuts: fc.array(fc.integer({ min: 0, max: config.maxDispatchBytesPerToken }), {
          maxLength: LIMITS.payloads - 1,
        }),
      }),
    );
    fc.assert(
      fc.property(rounds, ({ config, maxTokens, cuts }) => {
        const { recvBufferBytes } = layoutWorkspace(checkConfig(config));
        const ends = [...cuts.sort((a, b) => a - b), config.maxDispatchBytesPerToken];
        let at = 0;
        for (const [p, end] of ends.entries()) {
          const rowBytes = end - (ends[p - 1] ?? 0);
          const rows = at + config.epSize * maxTokens * rowBytes;
          expect(rows).toBeLessThanOrEqual(recvBufferBytes);
          at = alignUp(rows);
        }
      }),
    );
  });

  it("prints as a table", () => {
    const table = formatWorkspacePlan(planWorkspace({ ...base, roundsInFlight: 1 }));
    expect(table.split("\n")[0]).toMatch(/^region +lane +memory +bytes +what$/);
    expect(table).toContain("recv");
    const { totalBytes } = planWorkspace({ ...base, roundsInFlight: 1 });
    expect(table.split("\n").at(-1)?.replace(/ +/g, " ")).toBe(
      `total ${totalBytes.toLocaleString("en-US")} per rank`,
    );
  });
});

describe("largestCapacity", () => {
  it("finds the largest capacity that fits, and no larger one fits", () => {
    const budget = 2 ** 30;
    const { maxTokensPerRank: _, ...rest } = base;
    const largest = largestCapacity(rest, budget);
    const bytes = (m: number) => planWorkspace({ ...rest, maxTokensPerRank: m }).totalBytes;
    expect(bytes(largest)).toBeLessThanOrEqual(budget);
    expect(bytes(largest + 1)).toBeGreaterThan(budget);
  });

  it("is 0 where not even one token fits, and checks the rest of the config", () => {
    const { maxTokensPerRank: _, ...rest } = base;
    expect(largestCapacity(rest, 1000)).toBe(0);
    expect(() => largestCapacity({ ...rest, topK: 0 }, 1e9)).toThrowError(/config\.topK is 0/);
    expect(() => largestCapacity(rest, Number.NaN)).toThrowError(/budgetBytes is NaN/);
  });
});
