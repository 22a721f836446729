import { type CpuTensor, type MoeAllToAllConfig, tensor } from "@moe-a2a/core";
import { describe, expect, test } from "vitest";
import { MoeA2ADispatcher, type MoeA2ADispatcherOptions } from "../src/index.js";
import { configOf, createRanks, dense, hiddenSize, makeTokens, randomFrom, runExperts } from "./world.js";

type Options = Partial<MoeA2ADispatcherOptions<CpuTensor>>;

async function createDispatchers(config: MoeAllToAllConfig, options: Options = {}) {
  const ranks = await createRanks(config);
  return ranks.map((a2a) => ({
    a2a,
    dispatcher: new MoeA2ADispatcher({ a2a, hiddenSize, dtype: "float32", ...options }),
  }));
}

describe("dispatch, experts, combine", () => {
  const patterns: [string, number[]][] = [
    ["all busy", [3, 8, 1, 5]],
    ["one empty", [3, 0, 1, 5]],
    ["one busy", [0, 0, 6, 0]],
    ["none busy", [0, 0, 0, 0]],
    ["alternating", [4, 0, 3, 0]],
  ];
  const cases = patterns.flatMap(([name, counts]) =>
    [true, false].flatMap((dp) => [true, false].map((inPlace) => ({ name, counts, dp, inPlace }))),
  );

  test.each(cases)("is the dense layer: $name, DP counts $dp, in place $inPlace", async (c) => {
    const config = configOf({ epSize: 4, numExperts: 10, topK: 3 });
    const random = randomFrom(c.counts.length + c.counts[0]!);
    const world = await createDispatchers(config, { combineInPlace: c.inPlace });
    await Promise.all(
      world.map(async ({ a2a, dispatcher }) => {
        const tokens = makeTokens(random, c.counts[a2a.epRank]!, config);
        const received = await dispatcher.dispatch(
          tokens.hiddenStates,
          tokens.topkOutput,
          c.dp ? { dpGlobalNumTokens: c.counts } : {},
        );
        const slots = c.dp ? Math.max(...c.counts) : config.maxTokensPerRank;
        expect(received.hiddenStates.shape).toEqual([4 * slots, hiddenSize]);
        expect(received.topkOutput.topkIds.shape).toEqual([4 * slots, 3]);
        expect(received.moeOutput?.shape).toEqual(c.inPlace ? [4 * slots, hiddenSize] : undefined);
        expect(received.outputDtype).toBe("float32");
        const out = await dispatcher.combine(runExperts(a2a, received));
        expect(out.shape).toEqual([c.counts[a2a.epRank]!, hiddenSize]);
        expect([...out.data]).toEqual(dense(tokens));
        expect(dispatcher.stage).toBe("INITIAL");
        await a2a.close();
      }),
    );
  });

  test("a rank that runs dry and fills again, over several layers that share one instance", async () => {
    const config = configOf({ epSize: 3, numExperts: 7 });
    const random = randomFrom(3);
    const ranks = await createRanks(config);
    const steps = [
      [2, 0, 8],
      [0, 3, 0],
      [0, 0, 0],
      [8, 8, 8],
      [0, 0, 1],
    ];
    await Promise.all(
      ranks.map(async (a2a) => {
        const layers = [0, 1, 2].map(() => new MoeA2ADispatcher({ a2a, hiddenSize, dtype: "float32" }));
        for (const counts of steps) {
          const kept: { out: CpuTensor; expected: number[] }[] = [];
          for (const dispatcher of layers) {
            const tokens = makeTokens(random, counts[a2a.epRank]!, config);
            const received = await dispatcher.dispatch(tokens.hiddenStates, tokens.topkOutput, {
              dpGlobalNumTokens: counts,
            });
            const out = await dispatcher.combine(runExperts(a2a, received));
            kept.push({ out, expected: dense(tokens) });
          }
          // Each layer's result still stands after the layers behind it: none is memory of the plan.
          for (const { out, expected } of kept) expect([...out.data]).toEqual(expected);
        }
        await a2a.close();
      }),
    );
  });

  test("an idle rank sends and receives no row that nobody routed: there is no dummy token", async () => {
    const config = configOf({ epSize: 3, numExperts: 6, topK: 2, maxTokensPerRank: 4 });
    const counts = [3, 0, 2];
    const invalidTokenExpertId = 6;
    const world = await createDispatchers(config, { invalidTokenExpertId });
    await Promise.all(
      world.map(async ({ a2a, dispatcher }) => {
        const rows = counts[a2a.epRank]!;
        // Ranks 0 and 2 choose experts of ranks 0 and 2 only: 0, 1, 4 and 5.
        const ids = [0, 4, 5, 1, 1, 0].slice(0, rows * 2);
        const received = await dispatcher.dispatch(
          tensor("float32", [rows, hiddenSize]),
          {
            format: "standard",
            topkIds: tensor("int32", [rows, 2], ids),
            topkWeights: tensor("float32", [rows, 2]),
          },
          { dpGlobalNumTokens: counts },
        );
        const recvCounts = [...received.recvCounts.data].map(Number);
        const report = await received.ready();
        expect(recvCounts[1]).toBe(0);
        if (a2a.epRank === 1) {
          expect(recvCounts).toEqual([0, 0, 0]);
          expect(report.tokensSent).toBe(0);
          expect(report.tokensReceived).toBe(0);
          expect(received.topkOutput.topkIds.shape).toEqual([9, 2]);
          expect([...received.topkOutput.topkIds.data]).toEqual(new Array(18).fill(invalidTokenExpertId));
        } else {
          const real = recvCounts.reduce((sum, n) => sum + n, 0);
          expect(report.tokensReceived).toBe(real);
          const { data } = received.topkOutput.topkIds;
          const filled = Array.from({ length: 9 }, (_, row) => data[row * 2] !== invalidTokenExpertId);
          expect(filled.filter(Boolean)).toHaveLength(real);
          // Rows 3 to 5 are the idle rank's slots.
          expect(filled.slice(3, 6)).toEqual([false, false, false]);
        }
        const out = await dispatcher.combine(runExperts(a2a, received));
        expect(out.shape).toEqual([rows, hiddenSize]);
        await a2a.close();
      }),
    );
  });

  test("m is 0 where every DP rank is empty", async () => {
    const config = configOf();
    const world = await createDispatchers(config, { combineInPlace: true });
    await Promise.all(
      world.map(async ({ a2a, dispatcher }) => {
        const tokens = makeTokens(randomFrom(1), 0, config);
        const received = await dispatcher.dispatch(tokens.hiddenStates, tokens.topkOutput, {
          dpGlobalNumTokens: [0, 0],
          attnTpSize: 2,
        });
        expect(received.hiddenStates.shape).toEqual([0, hiddenSize]);
        expect(received.moeOutput?.shape).toEqual([0, hiddenSize]);
        const out = await dispatcher.combine({ format: "flashinfer", hiddenStates: received.moeOutput! });
        expect(out.shape).toEqual([0, hiddenSize]);
        await a2a.close();
      }),
    );
  });

  test("attention TP shares out each DP rank's tokens", async () => {
    const config = configOf({ epSize: 4 });
    const dpGlobalNumTokens = [5, 2];
    const shares = [3, 2, 1, 1];
    const world = await createDispatchers(config);
    await Promise.all(
      world.map(async ({ a2a, dispatcher }) => {
        const tokens = makeTokens(randomFrom(a2a.epRank), shares[a2a.epRank]!, config);
        const received = await dispatcher.dispatch(tokens.hiddenStates, tokens.topkOutput, {
          dpGlobalNumTokens,
          attnTpSize: 2,
        });
        expect(received.hiddenStates.shape).toEqual([4 * 3, hiddenSize]);
        expect([...(await dispatcher.combine(runExperts(a2a, received))).data]).toEqual(dense(tokens));
        await a2a.close();
      }),
    );
  });
});

describe("tensors", () => {
  test("a bypassed router is asked once, when its tokens are dispatched", async () => {
    const config = configOf({ epSize: 1 });
    const [{ a2a, dispatcher }] = (await createDispatchers(config)) as [never];
    const { hiddenStates, topkOutput } = makeTokens(randomFrom(9), 4, config);
    let asked = 0;
    const received = await (dispatcher as MoeA2ADispatcher<CpuTensor>).dispatch(hiddenStates, {
      format: "bypassed",
      hiddenStates,
      routerLogits: tensor("float32", [4, config.numExperts]),
      topkConfig: { topK: 2 },
      toStandard: () => {
        asked++;
        return topkOutput;
      },
    });
    const out = await (dispatcher as MoeA2ADispatcher<CpuTensor>).combine(runExperts(a2a, received));
    expect([...out.data]).toEqual(dense({ hiddenStates, topkOutput }));
    expect(asked).toBe(1);
  });

  test("combine writes into `out`, of a wider or narrower dtype too, and takes expert output of another one", async () => {
    const config = configOf({ epSize: 1, maxCombineBytesPerToken: 4 * hiddenSize });
    const [a2a] = await createRanks(config);
    const dispatcher = new MoeA2ADispatcher({ a2a: a2a!, hiddenSize, dtype: "float32" });
    const tokens = makeTokens(randomFrom(4), 3, config);
    const out = a2a!.empty("bfloat16", [3, hiddenSize]);
    const received = await dispatcher.dispatch(tokens.hiddenStates, tokens.topkOutput);
    expect(await dispatcher.combine(runExperts(a2a!, received), { out })).toBe(out);
    const bfloat16 = new Uint16Array(new Float32Array(dense(tokens)).buffer).filter((_, i) => i % 2 === 1);
    expect([...out.data]).toEqual([...bfloat16]);

    await dispatcher.dispatch(tokens.hiddenStates, tokens.topkOutput);
    const rows = config.maxTokensPerRank;
    const half = await dispatcher.combine({
      format: "flashinfer",
      hiddenStates: tensor("float16", [rows, hiddenSize], new Uint16Array(rows * hiddenSize).fill(0x3c00)),
    });
    expect(half.dtype).toBe("float32");
    const routed = Array.from({ length: 3 }, (_, t) =>
      [0, 1].some((k) => tokens.topkOutput.topkIds.data[t * 2 + k] !== -1) ? 1 : 0,
    );
    expect([...half.data]).toEqual(routed.flatMap((x) => new Array(hiddenSize).fill(x)));
  });

  test("with combineInPlace nothing is copied: moeOutput is the memory that peers read", async () => {
    const config = configOf({ epSize: 2 });
    const world = await createDispatchers(config, { combineInPlace: true });
    await Promise.all(
      world.map(async ({ a2a, dispatcher }) => {
        const tokens = makeTokens(randomFrom(a2a.epRank), 2, config);
        const received = await dispatcher.dispatch(tokens.hiddenStates, tokens.topkOutput);
        const { moeOutput } = received;
        expect(moeOutput!.data.buffer).toBe(received.hiddenStates.data.buffer);
        const out = await dispatcher.combine(runExperts(a2a, received));
        expect([...out.data]).toEqual(dense(tokens));
        expect(out.data.buffer).not.toBe(moeOutput!.data.buffer);
        await a2a.close();
      }),
    );
  });
});
