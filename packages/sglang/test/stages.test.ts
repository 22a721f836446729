import { type CpuTensor, isMoeA2AError, type MoeAllToAll, tensor } from "@moe-a2a/core";
import { beforeEach, describe, expect, test } from "vitest";
import { isDispatcherStageError, MoeA2ADispatcher } from "../src/index.js";
import {
  configOf,
  createRanks,
  dense,
  hiddenSize,
  makeTokens,
  randomFrom,
  runExperts,
  type Tokens,
} from "./world.js";

const config = configOf({ epSize: 1, maxTokensPerRank: 4 });
let a2a: MoeAllToAll<CpuTensor>;
let dispatcher: MoeA2ADispatcher<CpuTensor>;
let tokens: Tokens;
const experts = tensor("float32", [4, hiddenSize]);
const combineInput = { format: "flashinfer", hiddenStates: experts } as const;

beforeEach(async () => {
  a2a = (await createRanks(config))[0]!;
  dispatcher = new MoeA2ADispatcher({ a2a, hiddenSize, dtype: "float32" });
  tokens = makeTokens(randomFrom(1), 3, config);
  return () => a2a.close();
});

const dispatchA = (d = dispatcher): void => d.dispatchA(tokens.hiddenStates, tokens.topkOutput);
const refusal = async (call: () => unknown): Promise<string> => {
  // What else runs may go on meanwhile.
  const { stage } = dispatcher;
  try {
    await call();
  } catch (e) {
    if (!isDispatcherStageError(e)) throw e;
    expect(e.state).toBe(stage);
    return e.message;
  }
  return "no error";
};

describe("stages", () => {
  test("go round, and the split phases make the same as the whole ones", async () => {
    expect(dispatcher.stage).toBe("INITIAL");
    dispatchA();
    expect(dispatcher.stage).toBe("AFTER_DISPATCH_A");
    const received = await dispatcher.dispatchB();
    expect(dispatcher.stage).toBe("AFTER_DISPATCH_B");
    dispatcher.combineA(runExperts(a2a, received));
    expect(dispatcher.stage).toBe("AFTER_COMBINE_A");
    const out = await dispatcher.combineB();
    expect(dispatcher.stage).toBe("INITIAL");
    expect([...out.data]).toEqual(dense(tokens));
  });

  test("every call out of turn is refused with the stage and what is allowed", async () => {
    const calls = {
      dispatchA: () => dispatchA(),
      dispatchB: () => dispatcher.dispatchB(),
      combineA: () => dispatcher.combineA(combineInput),
      combineB: () => dispatcher.combineB(),
      dispatch: () => dispatcher.dispatch(tokens.hiddenStates, tokens.topkOutput),
      combine: () => dispatcher.combine(combineInput),
    };
    const order = ["dispatchA", "dispatchB", "combineA", "combineB"] as const;
    const messages: string[] = [];
    for (const next of order) {
      const allowed = [next, next.endsWith("A") ? next.slice(0, -1) : next];
      for (const [name, call] of Object.entries(calls)) {
        if (!allowed.includes(name)) messages.push(await refusal(call));
      }
      await calls[next]();
    }
    expect(messages).toHaveLength(18);
    expect(messages).toMatchInlineSnapshot(`
      [
        "dispatchB() is not allowed at stage INITIAL; allowed now: dispatch() or dispatchA()",
        "combineA() is not allowed at stage INITIAL; allowed now: dispatch() or dispatchA()",
        "combineB() is not allowed at stage INITIAL; allowed now: dispatch() or dispatchA()",
        "combine() is not allowed at stage INITIAL; allowed now: dispatch() or dispatchA()",
        "dispatchA() is not allowed at stage AFTER_DISPATCH_A; allowed now: dispatchB(), or, once a2a.reset() has given the round up, reset()",
        "combineA() is not allowed at stage AFTER_DISPATCH_A; allowed now: dispatchB(), or, once a2a.reset() has given the round up, reset()",
        "combineB() is not allowed at stage AFTER_DISPATCH_A; allowed now: dispatchB(), or, once a2a.reset() has given the round up, reset()",
        "dispatch() is not allowed at stage AFTER_DISPATCH_A; allowed now: dispatchB(), or, once a2a.reset() has given the round up, reset()",
        "combine() is not allowed at stage AFTER_DISPATCH_A; allowed now: dispatchB(), or, once a2a.reset() has given the round up, reset()",
        "dispatchA() is not allowed at stage AFTER_DISPATCH_B; allowed now: combine() or combineA(), or, once a2a.reset() has given the round up, reset()",
        "dispatchB() is not allowed at stage AFTER_DISPATCH_B; allowed now: combine() or combineA(), or, once a2a.reset() has given the round up, reset()",
        "combineB() is not allowed at stage AFTER_DISPATCH_B; allowed now: combine() or combineA(), or, once a2a.reset() has given the round up, reset()",
        "dispatch() is not allowed at stage AFTER_DISPATCH_B; allowed now: combine() or combineA(), or, once a2a.reset() has given the round up, reset()",
        "dispatchA() is not allowed at stage AFTER_COMBINE_A; allowed now: combineB(), or, once a2a.reset() has given the round up, reset()",
        "dispatchB() is not allowed at stage AFTER_COMBINE_A; allowed now: combineB(), or, once a2a.reset() has given the round up, reset()",
        "combineA() is not allowed at stage AFTER_COMBINE_A; allowed now: combineB(), or, once a2a.reset() has given the round up, reset()",
        "dispatch() is not allowed at stage AFTER_COMBINE_A; allowed now: combineB(), or, once a2a.reset() has given the round up, reset()",
        "combine() is not allowed at stage AFTER_COMBINE_A; allowed now: combineB(), or, once a2a.reset() has given the round up, reset()",
      ]
    `);
  });

  test("a call while another one waits is refused, in words that name both", async () => {
    dispatchA();
    const first = dispatcher.dispatchB();
    expect(await refusal(() => dispatcher.dispatchB())).toMatchInlineSnapshot(
      `"dispatchB() is not allowed at stage AFTER_DISPATCH_A while dispatchB() still runs; await that first"`,
    );
    await first;
    const combining = dispatcher.combine(combineInput);
    expect(await refusal(() => dispatcher.combine(combineInput))).toMatchInlineSnapshot(
      `"combine() is not allowed at stage AFTER_COMBINE_A while combine() still runs; await that first"`,
    );
    await combining;
    expect(dispatcher.stage).toBe("INITIAL");
    const dispatching = dispatcher.dispatch(tokens.hiddenStates, tokens.topkOutput);
    expect(await refusal(() => dispatcher.dispatchB())).toContain("while dispatch() still runs");
    await dispatching;
  });

  test("the guard tells stage errors from states of the all-to-all", async () => {
    await a2a.close();
    let error: unknown;
    try {
      dispatchA();
    } catch (e) {
      error = e;
    }
    expect(isMoeA2AError(error, "ERR_MOE_A2A_STATE")).toBe(true);
    expect(isDispatcherStageError(error)).toBe(false);
    expect(isDispatcherStageError(new Error("INITIAL"))).toBe(false);
    expect(dispatcher.stage).toBe("INITIAL");
  });

  test("argument errors leave the stage as it was, and the call may be made again", async () => {
    const bad = tensor("float32", [3, hiddenSize + 1]);
    expect(() => dispatcher.dispatchA(bad, tokens.topkOutput)).toThrow(/hiddenStates is float32 \[3, 9\]/);
    expect(dispatcher.stage).toBe("INITIAL");
    await expect(dispatcher.dispatch(bad, tokens.topkOutput)).rejects.toThrow(/hiddenStates/);
    expect(dispatcher.stage).toBe("INITIAL");
    const received = await dispatcher.dispatch(tokens.hiddenStates, tokens.topkOutput);
    expect(() => dispatcher.combineA({ format: "flashinfer", hiddenStates: bad })).toThrow(
      "combineA() on rank 0: combineInput.hiddenStates is float32 [3, 9]; it must be float32 [4, 8]",
    );
    expect(() => dispatcher.combineA(runExperts(a2a, received), { out: bad })).toThrow(/out/);
    expect(dispatcher.stage).toBe("AFTER_DISPATCH_B");
    expect([...(await dispatcher.combine(runExperts(a2a, received))).data]).toEqual(dense(tokens));
  });

  test("two dispatchers on one lane: the second is refused loudly while the first is in its round", async () => {
    const other = new MoeA2ADispatcher({ a2a, hiddenSize, dtype: "float32" });
    dispatchA();
    let error: unknown;
    try {
      dispatchA(other);
    } catch (e) {
      error = e;
    }
    expect(isMoeA2AError(error, "ERR_MOE_A2A_STATE")).toBe(true);
    expect(other.stage).toBe("INITIAL");
    const received = await dispatcher.dispatchB();
    await dispatcher.combine(runExperts(a2a, received));
    dispatchA(other);
    expect(other.stage).toBe("AFTER_DISPATCH_A");
  });
});
