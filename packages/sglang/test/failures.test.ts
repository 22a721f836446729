import { type CpuTensor, isMoeA2AError, type MoeAllToAll, tensor } from "@moe-a2a/core";
import { afterEach, describe, expect, test } from "vitest";
import { MoeA2ADispatcher } from "../src/index.js";
import { configOf, createRanks, dense, hiddenSize, makeTokens, randomFrom, runExperts } from "./world.js";

let ranks: MoeAllToAll<CpuTensor>[] = [];
let dispatchers: MoeA2ADispatcher<CpuTensor>[] = [];

async function createWorld(timeoutMs = 5000) {
  const config = configOf({ timeoutMs, maxTokensPerRank: 6 });
  ranks = await createRanks(config);
  dispatchers = ranks.map((a2a) => new MoeA2ADispatcher({ a2a, hiddenSize, dtype: "float32" }));
  return config;
}

afterEach(() => Promise.all(ranks.map((a2a) => a2a.close())));

const stages = () => dispatchers.map(({ stage }) => stage);
const resetAll = () => Promise.all(ranks.map((a2a) => a2a.reset({ timeoutMs: 2000 })));
const codeOf = async (call: () => unknown): Promise<unknown> => {
  try {
    await call();
  } catch (e) {
    if (isMoeA2AError(e)) return e.code;
    throw e;
  }
  return "no error";
};

/** One whole round on every rank, against the dense layer. */
async function expectRoundToWork(): Promise<void> {
  await Promise.all(
    dispatchers.map(async (dispatcher, rank) => {
      const tokens = makeTokens(randomFrom(rank), 2 - rank, ranks[rank]!.config);
      const received = await dispatcher.dispatch(tokens.hiddenStates, tokens.topkOutput);
      const out = await dispatcher.combine(runExperts(ranks[rank]!, received));
      expect([...out.data]).toEqual(dense(tokens));
    }),
  );
  expect(stages()).toEqual(["INITIAL", "INITIAL"]);
}

describe("a failed round ends at INITIAL, and works again after a2a.reset()", () => {
  test("in dispatch: a rank that does not come", async () => {
    const config = await createWorld(60);
    const { hiddenStates, topkOutput } = makeTokens(randomFrom(1), 2, config);
    const lonely = dispatchers[0]!.dispatch(hiddenStates, topkOutput);
    await expect(lonely).rejects.toMatchObject({
      code: "ERR_MOE_A2A_PEER_TIMEOUT",
      phase: "dispatch",
      missingRanks: [1],
    });
    expect(stages()).toEqual(["INITIAL", "INITIAL"]);
    // The failure is sticky: the next dispatch says so and leaves the stage alone.
    expect(await codeOf(() => dispatchers[0]!.dispatch(hiddenStates, topkOutput))).toBe("ERR_MOE_A2A_STATE");
    expect(stages()).toEqual(["INITIAL", "INITIAL"]);
    await resetAll();
    await expectRoundToWork();
  });

  test("in combine: a rank that runs its experts for too long", async () => {
    const config = await createWorld(60);
    const received = await Promise.all(
      dispatchers.map((dispatcher) => {
        const { hiddenStates, topkOutput } = makeTokens(randomFrom(1), 2, config);
        return dispatcher.dispatch(hiddenStates, topkOutput);
      }),
    );
    await expect(dispatchers[0]!.combine(runExperts(ranks[0]!, received[0]!))).rejects.toMatchObject({
      code: "ERR_MOE_A2A_PEER_TIMEOUT",
      phase: "combine",
      missingRanks: [1],
    });
    expect(stages()).toEqual(["INITIAL", "AFTER_DISPATCH_B"]);
    expect(await codeOf(() => dispatchers[1]!.combine(runExperts(ranks[1]!, received[1]!)))).not.toBe(
      "no error",
    );
    expect(stages()).toEqual(["INITIAL", "INITIAL"]);
    await resetAll();
    await expectRoundToWork();
  });

  test("where ranks disagree about the token counts", async () => {
    const config = await createWorld();
    const counts = [
      [2, 4],
      [2, 5],
    ];
    const results = await Promise.allSettled(
      dispatchers.map((dispatcher, rank) => {
        const { hiddenStates, topkOutput } = makeTokens(randomFrom(1), 2, config);
        return dispatcher.dispatch(hiddenStates, topkOutput, { dpGlobalNumTokens: counts[rank]! });
      }),
    );
    for (const result of results) {
      expect(result).toMatchObject({
        status: "rejected",
        reason: { code: "ERR_MOE_A2A_MISMATCH", values: [4, 5] },
      });
    }
    await resetAll();
    await expectRoundToWork();
  });
});

describe("a round that was left half-way", () => {
  test("is given up by a2a.reset() on every rank and reset() of the dispatcher", async () => {
    const config = await createWorld();
    const { hiddenStates, topkOutput } = makeTokens(randomFrom(1), 2, config);
    dispatchers[0]!.dispatchA(hiddenStates, topkOutput);
    dispatchers[1]!.dispatchA(hiddenStates, topkOutput);
    await dispatchers[1]!.dispatchB();
    expect(stages()).toEqual(["AFTER_DISPATCH_A", "AFTER_DISPATCH_B"]);
    await resetAll();
    for (const dispatcher of dispatchers) dispatcher.reset();
    expect(stages()).toEqual(["INITIAL", "INITIAL"]);
    await expectRoundToWork();
  });

  test("without reset() of the dispatcher, the next step of the round finds out and ends at INITIAL", async () => {
    const config = await createWorld();
    const { hiddenStates, topkOutput } = makeTokens(randomFrom(1), 2, config);
    dispatchers[0]!.dispatchA(hiddenStates, topkOutput);
    dispatchers[1]!.dispatchA(hiddenStates, topkOutput);
    await dispatchers[1]!.dispatchB();
    await resetAll();
    const experts = tensor("float32", [12, hiddenSize]);
    expect(
      await codeOf(() => dispatchers[1]!.combine({ format: "flashinfer", hiddenStates: experts })),
    ).not.toBe("no error");
    expect(await codeOf(() => dispatchers[0]!.dispatchB())).not.toBe("no error");
    expect(stages()).toEqual(["INITIAL", "INITIAL"]);
    await expectRoundToWork();
  });

  test("a wait that a reset overtakes tells of it, and does not touch the next round", async () => {
    const config = await createWorld();
    const { hiddenStates, topkOutput } = makeTokens(randomFrom(1), 2, config);
    const waiting = codeOf(() => dispatchers[0]!.dispatch(hiddenStates, topkOutput));
    expect(stages()[0]).toBe("AFTER_DISPATCH_A");
    const reset = resetAll();
    for (const dispatcher of dispatchers) dispatcher.reset();
    await reset;
    const round = expectRoundToWork();
    expect(await waiting).not.toBe("no error");
    await round;
  });

  test("an abort reaches the dispatchers of all ranks", async () => {
    const config = await createWorld();
    const { hiddenStates, topkOutput } = makeTokens(randomFrom(1), 2, config);
    const waiting = dispatchers[0]!.dispatch(hiddenStates, topkOutput);
    ranks[1]!.abort(new Error("out of memory"));
    await expect(waiting).rejects.toMatchObject({ code: "ERR_MOE_A2A_ABORTED", rank: 1 });
    expect(stages()).toEqual(["INITIAL", "INITIAL"]);
    await resetAll();
    await expectRoundToWork();
  });
});
