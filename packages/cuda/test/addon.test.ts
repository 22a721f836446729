import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { checkConfig, type LaneLayout, layoutWorkspace } from "@moe-a2a/core";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { configWords } from "../src/backend.js";
import { addon, native, skipped } from "./native.js";

const LANE_FIELDS: readonly (keyof LaneLayout)[] = [
  "dispatchFlags",
  "combineFlags",
  "dispatchHeaders",
  "combineHeaders",
  "expertStats",
  "recv",
  "combine",
  "dispatchPackets",
  "combinePackets",
  "recvCounts",
  "gatheredStats",
  "entryRanks",
  "entrySlots",
  "entryCounts",
  "sendCounts",
  "lastTokens",
  "runs",
  "tileCounts",
  "pieceMarks",
  "output",
];

describe.skipIf(!native)(`the addon${skipped}`, () => {
  it("lays out the workspace as the plan says, field by field", () => {
    const configs = fc
      .record({
        epSize: fc.integer({ min: 1, max: 64 }),
        experts: fc.integer({ min: 0, max: 300 }),
        topK: fc.integer({ min: 1, max: 32 }),
        maxTokensPerRank: fc.integer({ min: 1, max: 100_000 }),
        maxDispatchBytesPerToken: fc.integer({ min: 1, max: 40_000 }),
        maxCombineBytesPerToken: fc.integer({ min: 1, max: 40_000 }),
        maxExpertStats: fc.integer({ min: 0, max: 5_000 }),
        roundsInFlight: fc.constantFrom(1 as const, 2 as const),
      })
      .map(({ experts, ...config }) => {
        const numExperts = config.epSize + experts;
        return { ...config, numExperts, topK: Math.min(config.topK, numExperts) };
      });
    fc.assert(
      fc.property(configs, (given) => {
        const config = checkConfig(given);
        const expected = layoutWorkspace(config);
        const { control, abortRecords, state, accumulator, recvBufferBytes, statsRowBytes } = expected;
        const { maxTargets, windowBytes, privateBytes } = expected;
        const head = [control, abortRecords, state, accumulator, recvBufferBytes, statsRowBytes];
        const lanes = expected.lanes.flatMap((lane) => {
          // What only ranks without shared memory need is undefined.
          const there = Object.entries(lane).filter(([, offset]) => offset !== undefined);
          expect(there.map(([field]) => field)).toEqual(LANE_FIELDS);
          return there.map(([, offset]) => offset);
        });
        expect([...addon().plan(configWords(config))]).toEqual([
          ...head,
          maxTargets,
          windowBytes,
          privateBytes,
          ...lanes,
        ]);
      }),
      { numRuns: 300 },
    );
  });

  it("refuses to plan what no config may ask for", () => {
    expect(() => addon().plan(new Int32Array(10))).toThrow();
    expect(() => addon().plan(new Int32Array(3))).toThrow(TypeError);
  });

  it("does not crash, whatever it is called with", () => {
    const values = [
      undefined,
      null,
      -1,
      0.5,
      Number.NaN,
      2 ** 40,
      7n,
      -1n,
      "text",
      {},
      [],
      Symbol("s"),
      () => {},
    ];
    const arrays = [
      new Int32Array(10),
      new Uint32Array(8),
      new BigUint64Array(2),
      new ArrayBuffer(0),
      new Uint8Array(3),
    ];
    const anything = [...values, ...arrays];
    // Handles of streams and events are the driver's: it is asked without one only.
    const names = Object.getOwnPropertyNames(addon()).filter((name) => name !== "listen");
    const functions = addon() as unknown as Record<string, unknown>;
    for (const name of names) {
      const call = functions[name];
      if (typeof call !== "function") continue;
      for (const first of anything) {
        for (const second of anything) {
          try {
            call.call(undefined, first, second, 0, 1);
          } catch (error) {
            expect(error).toBeInstanceOf(Error);
          }
        }
      }
    }
  });

  it("loads in worker threads that come and go, and that end by force", async () => {
    const file = fileURLToPath(new URL("./workers/load-addon.mjs", import.meta.url));
    for (let round = 0; round < 3; round++) {
      const workers = Array.from(
        { length: 4 },
        (_, i) => new Worker(file, { workerData: { waits: i % 2 === 0 } }),
      );
      const ends = workers.map(async (worker) => (await once(worker, "exit"))[0] as number);
      const told = await Promise.all(
        workers.map(async (worker) => (await once(worker, "message"))[0] as unknown),
      );
      expect(new Set(told.map((status) => JSON.stringify(status))).size).toBe(1);
      for (let i = 0; i < workers.length; i += 2) void workers[i]!.terminate();
      const codes = await Promise.all(ends);
      expect(codes).toEqual([1, 0, 1, 0]);
    }
  });
});
