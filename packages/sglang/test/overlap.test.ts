import { expect, test } from "vitest";
import { MoeA2ADispatcher } from "../src/index.js";
import { configOf, createRanks, dense, hiddenSize, makeTokens, randomFrom, runExperts } from "./world.js";

test("two-batch overlap: two dispatchers over one instance with two lanes, in step", async () => {
  const config = configOf({ epSize: 3, numExperts: 5, roundsInFlight: 2 });
  const random = randomFrom(8);
  const ranks = await createRanks(config);
  await Promise.all(
    ranks.map(async (a2a) => {
      const [first, second] = [0, 1].map(() => new MoeA2ADispatcher({ a2a, hiddenSize, dtype: "float32" }));
      for (const counts of [
        [4, 0, 2],
        [0, 0, 0],
        [0, 7, 1],
      ]) {
        const one = makeTokens(random, counts[a2a.epRank]!, config);
        const two = makeTokens(random, counts[(a2a.epRank + 1) % 3]!, config);
        first!.dispatchA(one.hiddenStates, one.topkOutput);
        second!.dispatchA(two.hiddenStates, two.topkOutput);
        first!.combineA(runExperts(a2a, await first!.dispatchB()));
        second!.combineA(runExperts(a2a, await second!.dispatchB()));
        expect([...(await first!.combineB()).data]).toEqual(dense(one));
        expect([...(await second!.combineB()).data]).toEqual(dense(two));
      }
      await a2a.close();
    }),
  );
});

test("out of turn, each dispatcher keeps to its own lane", async () => {
  const config = configOf({ epSize: 2, roundsInFlight: 2 });
  const random = randomFrom(9);
  const ranks = await createRanks(config);
  await Promise.all(
    ranks.map(async (a2a) => {
      const [slow, fast] = ([0, 1] as const).map(
        (lane) => new MoeA2ADispatcher({ a2a, hiddenSize, dtype: "float32", lane }),
      );
      const held = makeTokens(random, 3 * a2a.epRank, config);
      slow!.dispatchA(held.hiddenStates, held.topkOutput);
      for (let layer = 0; layer < 3; layer++) {
        const tokens = makeTokens(random, 2, config);
        const received = await fast!.dispatch(tokens.hiddenStates, tokens.topkOutput);
        expect((await received.ready()).lane).toBe(1);
        expect([...(await fast!.combine(runExperts(a2a, received))).data]).toEqual(dense(tokens));
      }
      const received = await slow!.dispatchB();
      expect((await received.ready()).lane).toBe(0);
      expect([...(await slow!.combine(runExperts(a2a, received))).data]).toEqual(dense(held));
      await a2a.close();
    }),
  );
});

test("a third batch is refused loudly, and the two in flight go on", async () => {
  const config = configOf({ epSize: 1, roundsInFlight: 2 });
  const [a2a] = await createRanks(config);
  const tokens = makeTokens(randomFrom(2), 3, config);
  const dispatchers = [0, 1, 2].map(() => new MoeA2ADispatcher({ a2a: a2a!, hiddenSize, dtype: "float32" }));
  for (const dispatcher of dispatchers.slice(0, 2))
    dispatcher.dispatchA(tokens.hiddenStates, tokens.topkOutput);
  expect(() => dispatchers[2]!.dispatchA(tokens.hiddenStates, tokens.topkOutput)).toThrow(
    expect.objectContaining({ code: "ERR_MOE_A2A_STATE" }),
  );
  for (const dispatcher of dispatchers.slice(0, 2)) {
    const out = await dispatcher.combine(runExperts(a2a!, await dispatcher.dispatchB()));
    expect([...out.data]).toEqual(dense(tokens));
  }
});

test("a wait that reset() has overtaken is given up, and leaves the next round alone", async () => {
  const config = configOf({ roundsInFlight: 2 });
  const ranks = await createRanks(config);
  const [zero, one] = ranks.map((a2a) => new MoeA2ADispatcher({ a2a, hiddenSize, dtype: "float32" }));
  const other = new MoeA2ADispatcher({ a2a: ranks[1]!, hiddenSize, dtype: "float32" });
  const tokens = makeTokens(randomFrom(7), 2, config);
  const givenUp = zero!.dispatch(tokens.hiddenStates, tokens.topkOutput);
  zero!.reset();
  zero!.dispatchA(tokens.hiddenStates, tokens.topkOutput);
  one!.dispatchA(tokens.hiddenStates, tokens.topkOutput);
  other.dispatchA(tokens.hiddenStates, tokens.topkOutput);
  await expect(givenUp).rejects.toThrow("dispatch() was given up: reset() was called while it ran");
  expect(zero!.stage).toBe("AFTER_DISPATCH_A");
  await one!.dispatchB();
  const [first, second] = await Promise.all([zero!.dispatchB(), other.dispatchB()]);
  const results = await Promise.all([
    zero!.combine(runExperts(ranks[0]!, first)),
    other.combine(runExperts(ranks[1]!, second)),
  ]);
  for (const out of results) expect([...out.data]).toEqual(dense(tokens));
  await Promise.all(ranks.map((a2a) => a2a.close()));
});

test("a failure that reset() has overtaken is told, and leaves the next round to find out by itself", async () => {
  const config = configOf({ roundsInFlight: 2, timeoutMs: 60 });
  const ranks = await createRanks(config);
  const dispatcher = new MoeA2ADispatcher({ a2a: ranks[0]!, hiddenSize, dtype: "float32" });
  const tokens = makeTokens(randomFrom(7), 2, config);
  const first = dispatcher.dispatch(tokens.hiddenStates, tokens.topkOutput);
  dispatcher.reset();
  dispatcher.dispatchA(tokens.hiddenStates, tokens.topkOutput);
  await expect(first).rejects.toMatchObject({ code: "ERR_MOE_A2A_PEER_TIMEOUT", missingRanks: [1] });
  expect(dispatcher.stage).toBe("AFTER_DISPATCH_A");
  await expect(dispatcher.dispatchB()).rejects.toMatchObject({ code: "ERR_MOE_A2A_PEER_TIMEOUT" });
  expect(dispatcher.stage).toBe("INITIAL");
  await Promise.all(ranks.map((a2a) => a2a.close()));
});
