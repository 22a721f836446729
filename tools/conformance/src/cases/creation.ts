import { type MoeAllToAllConfig, planWorkspace } from "@moe-a2a/core";
import type { Context, RankCase } from "../case.js";
import { check, rejects, same } from "../check.js";
import { each, setUp } from "./common.js";

const ranks = 3;
const { config, round } = setUp({ ranks, tokens: 4, timeoutMs: 20_000 });

const plan: RankCase = {
  name: "creation: the instance says who it is and what it takes",
  ranks,
  config,
  async run(context) {
    const a2a = await context.create();
    same("epRank", a2a.epRank, context.rank);
    const sharedMemory = context.kind !== "processes" || context.target.device === "cuda";
    same("plan", a2a.plan, planWorkspace(config, { sharedMemory }));
    same("activeRanks", [...a2a.activeRanks], [0, 1, 2]);
    for (const [field, value] of Object.entries(config)) {
      same(`config.${field}`, a2a.config[field as keyof MoeAllToAllConfig], value);
    }
    await context.play(a2a, context.round(0, round([4, 0, 1])));
  },
};

/** What rank 1 asks for, and the field that has to be named. */
const differing: readonly Partial<MoeAllToAllConfig>[] = [
  { numExperts: 7 },
  { topK: 3 },
  { maxTokensPerRank: 5 },
  { maxDispatchBytesPerToken: 999 },
  { maxCombineBytesPerToken: 999 },
  { maxExpertStats: 1 },
  { invalidExpert: "drop" },
  { timeoutMs: 19_000 },
  { roundsInFlight: 2 },
];

const different: RankCase[] = differing.map((over) => {
  const [field, value] = Object.entries(over)[0] as [keyof MoeAllToAllConfig, unknown];
  const usual =
    config[field] ?? { maxExpertStats: 0, invalidExpert: "error", roundsInFlight: 1 }[field as string];
  return {
    name: `creation: ranks that were given another ${field} are told which, and by whom`,
    ranks,
    config,
    async run(context: Context) {
      const own = context.rank === 1 ? over : {};
      await rejects("create()", context.create(own), "ERR_MOE_A2A_CONFIG", {
        fields: { field },
        says: [field, `rank 0: ${show(usual)}`, `rank 1: ${show(value)}`, `rank 2: ${show(usual)}`],
      });
      const a2a = await context.create();
      await context.play(a2a, context.round(0, round([4, 0, 1])));
    },
  };
});

const show = (value: unknown): string => JSON.stringify(value);

/** Values out of range: the config, the field, and what the message has to say. */
const wrong: readonly [over: Record<string, unknown>, field: string, says: readonly (string | number)[]][] = [
  [{ epSize: 0 }, "epSize", [0, 64]],
  [{ epSize: 65, numExperts: 100 }, "epSize", [65, 64]],
  [{ epSize: 2 }, "epSize", [2, 3]],
  [{ epSize: 2.5 }, "epSize", ["2.5"]],
  [{ numExperts: 2, topK: 1 }, "numExperts", [2, 3, "epSize"]],
  [{ numExperts: "6" }, "numExperts", ['"6"']],
  [{ topK: 0 }, "topK", [0, 32]],
  [{ topK: 33, numExperts: 64 }, "topK", [33, 32]],
  [{ topK: 7 }, "topK", [7, 6, "numExperts"]],
  [{ maxTokensPerRank: 0 }, "maxTokensPerRank", [0, 1]],
  [{ maxTokensPerRank: undefined }, "maxTokensPerRank", ["undefined"]],
  [{ maxTokensPerRank: Number.NaN }, "maxTokensPerRank", ["NaN"]],
  [{ maxDispatchBytesPerToken: 0 }, "maxDispatchBytesPerToken", [0, 1]],
  [{ maxCombineBytesPerToken: 0 }, "maxCombineBytesPerToken", [0, 1]],
  [{ maxCombineBytesPerToken: -8 }, "maxCombineBytesPerToken", [-8]],
  [{ maxExpertStats: -1 }, "maxExpertStats", [-1, 0]],
  [{ invalidExpert: "ignore" }, "invalidExpert", ["ignore", "error", "drop"]],
  [{ timeoutMs: 0 }, "timeoutMs", [0, 1, 2 ** 31 - 1]],
  [{ timeoutMs: 2 ** 31 }, "timeoutMs", [2 ** 31]],
  [{ timeoutMs: 0.5 }, "timeoutMs", ["0.5"]],
  [{ roundsInFlight: 3 }, "roundsInFlight", [3, 1, 2]],
];

const outOfRange: RankCase = {
  name: "creation: config values out of range are refused before any rank is waited for",
  ranks,
  config,
  async run(context) {
    for (const [over, field, says] of wrong) {
      context.at(`create with ${JSON.stringify(over)}`);
      const given = { ...config, ...over } as MoeAllToAllConfig;
      // Each rank on its own: a create() that met the others would wait for them.
      if (context.rank === 0) {
        const create = context.target.backend.create(given, context.group);
        await rejects(`create with ${JSON.stringify(over)}`, create, "ERR_MOE_A2A_CONFIG", {
          fields: { field, value: over[field] },
          says: [`config.${field}`, ...says],
        });
      }
    }
    const a2a = await context.create();
    await context.play(a2a, context.round(0, round([4, 0, 1])));
  },
};

const tooLarge: RankCase = {
  name: "creation: a workspace beyond what can be addressed is refused, naming the largest capacity",
  ranks,
  config,
  async run(context) {
    const huge = { maxTokensPerRank: 2 ** 31 - 1, maxDispatchBytesPerToken: 2 ** 31 - 1 };
    if (context.rank === 0) {
      const create = context.target.backend.create({ ...config, ...huge }, context.group);
      const error = await rejects("create()", create, "ERR_MOE_A2A_CONFIG", {
        fields: { field: "maxTokensPerRank", value: 2 ** 31 - 1 },
        says: ["maxTokensPerRank", /largest/],
      });
      check(
        /\d/.test(error.message.split("largest")[1] ?? ""),
        `no largest value is named: ${error.message}`,
      );
    }
    const a2a = await context.create();
    await context.play(a2a, context.round(0, round([4, 0, 1])));
  },
};

const padding: RankCase = {
  name: "creation: fillPadding shows padding rows as 0xFF, on the ranks that ask for it",
  ranks,
  config,
  async run(context) {
    const fillPadding = context.rank !== 2;
    const a2a = await context.create({}, { fillPadding });
    const counts = [[4, 4, 4], [1, 0, 3], each(ranks, 0), [0, 2, 0]];
    for (const [turn, tokens] of counts.entries()) {
      const made = context.round(turn, round(tokens, { invalidTokenExpertId: -5 }));
      const flight = await context.launch(a2a, made);
      await flight.arrive();
      const arrived = (await a2a.read(flight.dispatch.recvCounts)) as Int32Array;
      for (const p of fillPadding ? [0, 2] : []) {
        const data = await a2a.read(flight.dispatch.recv[p]!);
        const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
        const row = bytes.length / ranks / 4;
        arrived.forEach((count, source) => {
          const slots = bytes.subarray((source * 4 + count) * row, (source + 1) * 4 * row);
          check(
            slots.every((byte) => byte === 0xff),
            `recv[${p}]: padding rows from rank ${source} are not all 0xFF`,
          );
        });
      }
      await flight.offer();
      await flight.finish();
    }
  },
};

export const creation: readonly RankCase[] = [plan, ...different, outOfRange, tooLarge, padding];
