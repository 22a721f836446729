import { type CpuTensor, type MoeAllToAll, tensor } from "@moe-a2a/core";
import { beforeEach, expect, test } from "vitest";
import { type HookHandle, MoeA2ADispatcher } from "../src/index.js";
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

beforeEach(async () => {
  a2a = (await createRanks(config))[0]!;
  dispatcher = new MoeA2ADispatcher({ a2a, hiddenSize, dtype: "float32" });
  tokens = makeTokens(randomFrom(5), 3, config);
  return () => a2a.close();
});

async function round(): Promise<CpuTensor> {
  const received = await dispatcher.dispatch(tokens.hiddenStates, tokens.topkOutput);
  return await dispatcher.combine(runExperts(a2a, received));
}

test("run in registration order, in the phase they belong to, with the dispatcher and the values", async () => {
  const seen: string[] = [];
  const note = (name: string) => (d: unknown, value: { shape?: readonly number[]; format?: string }) => {
    expect(d).toBe(dispatcher);
    seen.push(`${name} ${value.shape ? `[${value.shape}]` : value.format} at ${dispatcher.stage}`);
    return undefined;
  };
  dispatcher.registerPostCombineHook(note("postCombine"));
  dispatcher.registerPreCombineHook(note("preCombine 1"));
  dispatcher.registerPreCombineHook(note("preCombine 2"));
  dispatcher.registerPostDispatchHook(note("postDispatch"));
  dispatcher.registerPreDispatchHook((d, hiddenStates, topkOutput) => {
    expect(topkOutput).toBe(tokens.topkOutput);
    return note("preDispatch")(d, hiddenStates);
  });
  dispatcher.dispatchA(tokens.hiddenStates, tokens.topkOutput);
  seen.push("-");
  const received = await dispatcher.dispatchB();
  seen.push("-");
  dispatcher.combineA(runExperts(a2a, received));
  seen.push("-");
  await dispatcher.combineB();
  expect(seen).toMatchInlineSnapshot(`
    [
      "preDispatch [3,8] at INITIAL",
      "-",
      "postDispatch flashinfer at AFTER_DISPATCH_A",
      "-",
      "preCombine 1 flashinfer at AFTER_DISPATCH_B",
      "preCombine 2 flashinfer at AFTER_DISPATCH_B",
      "-",
      "postCombine [3,8] at AFTER_COMBINE_A",
    ]
  `);
});

test("replace what they are given, each seeing what the one before it made", async () => {
  const doubled = (t: CpuTensor): CpuTensor =>
    tensor("float32", t.shape, new Float32Array([...t.data].map((x) => 2 * Number(x))));
  const other = makeTokens(randomFrom(6), 2, config);
  dispatcher.registerPreDispatchHook(() => [other.hiddenStates, other.topkOutput]);
  dispatcher.registerPreDispatchHook((_, hidden, topk) => {
    expect(hidden).toBe(other.hiddenStates);
    return [doubled(hidden), topk];
  });
  dispatcher.registerPostDispatchHook((_, output) => ({
    ...output,
    hiddenStates: doubled(output.hiddenStates),
  }));
  dispatcher.registerPreCombineHook((_, input) => ({ ...input, hiddenStates: doubled(input.hiddenStates) }));
  dispatcher.registerPostCombineHook((_, hidden) => doubled(hidden));
  expect([...(await round()).data]).toEqual(dense(other).map((x) => 16 * x));
});

test("are removed by their own handle, any number of times", async () => {
  const seen: string[] = [];
  const hook = () => {
    seen.push("hook");
    return undefined;
  };
  const first = dispatcher.registerPostCombineHook(hook);
  dispatcher.registerPostCombineHook(hook);
  await round();
  expect(seen).toHaveLength(2);
  first.remove();
  first.remove();
  await round();
  expect(seen).toHaveLength(3);
});

test("may be added and removed during a run: added ones wait, removed ones are skipped", async () => {
  const seen: string[] = [];
  let second: HookHandle | undefined;
  const first = dispatcher.registerPreCombineHook(() => {
    seen.push("first");
    first.remove();
    second!.remove();
    dispatcher.registerPreCombineHook(() => {
      seen.push("added");
      return undefined;
    });
  });
  second = dispatcher.registerPreCombineHook(() => {
    seen.push("second");
  });
  dispatcher.registerPreCombineHook(() => {
    seen.push("third");
  });
  await round();
  expect(seen).toEqual(["first", "third"]);
  await round();
  expect(seen).toEqual(["first", "third", "third", "added"]);
});

test("that throw leave the stage as it was, so that the phase can be made again", async () => {
  let broken = true;
  const failing = (name: string) => () => {
    if (broken) throw new Error(name);
    return undefined;
  };
  dispatcher.registerPreDispatchHook(failing("preDispatch"));
  dispatcher.registerPostDispatchHook(failing("postDispatch"));
  dispatcher.registerPreCombineHook(failing("preCombine"));
  dispatcher.registerPostCombineHook(failing("postCombine"));
  const mended = async <V>(stage: string, message: string, call: () => V | Promise<V>): Promise<V> => {
    broken = true;
    await expect((async () => await call())()).rejects.toThrow(message);
    expect(dispatcher.stage).toBe(stage);
    broken = false;
    return await call();
  };
  await mended("INITIAL", "preDispatch", () => dispatcher.dispatchA(tokens.hiddenStates, tokens.topkOutput));
  const received = await mended("AFTER_DISPATCH_A", "postDispatch", () => dispatcher.dispatchB());
  const input = runExperts(a2a, received);
  await mended("AFTER_DISPATCH_B", "preCombine", () => dispatcher.combineA(input));
  const out = await mended("AFTER_COMBINE_A", "postCombine", () => dispatcher.combineB());
  expect(dispatcher.stage).toBe("INITIAL");
  expect([...out.data]).toEqual(dense(tokens));
});

test("cannot start a phase of their own dispatcher, nor reset it unnoticed", async () => {
  const nested = dispatcher.registerPreDispatchHook((d, hidden, topk) => {
    d.dispatchA(hidden, topk);
  });
  expect(() =>
    dispatcher.dispatchA(tokens.hiddenStates, tokens.topkOutput),
  ).toThrowErrorMatchingInlineSnapshot(
    `[MoeA2AError: dispatchA() is not allowed at stage INITIAL while dispatchA() still runs; await that first]`,
  );
  nested.remove();
  const resetting = dispatcher.registerPreDispatchHook((d) => {
    d.reset();
  });
  await expect(
    dispatcher.dispatch(tokens.hiddenStates, tokens.topkOutput),
  ).rejects.toThrowErrorMatchingInlineSnapshot(
    `[MoeA2AError: dispatch() was given up: reset() was called while it ran]`,
  );
  resetting.remove();
  const resettingLate = dispatcher.registerPostDispatchHook((d) => d.reset());
  await expect(dispatcher.dispatch(tokens.hiddenStates, tokens.topkOutput)).rejects.toThrow("was given up");
  expect(dispatcher.stage).toBe("INITIAL");
  resettingLate.remove();
  await a2a.reset();
  expect([...(await round()).data]).toEqual(dense(tokens));
});

test("are synchronous: promises and results of the wrong form are refused", async () => {
  const asyncHook = dispatcher.registerPreDispatchHook((async () => {
    throw new Error("never seen");
  }) as never);
  await expect(round()).rejects.toThrowErrorMatchingInlineSnapshot(
    `[MoeA2AError: a hook of registerPreDispatchHook() returned a promise; hooks are synchronous, as the round would go on without its result]`,
  );
  asyncHook.remove();
  const wrong = dispatcher.registerPreDispatchHook(() => tokens.hiddenStates as never);
  await expect(round()).rejects.toThrowErrorMatchingInlineSnapshot(
    `[MoeA2AError: a hook of registerPreDispatchHook() returned an object; it must return [hiddenStates, topkOutput] or undefined]`,
  );
  wrong.remove();
  expect(() => dispatcher.registerPostDispatchHook(5 as never)).toThrowErrorMatchingInlineSnapshot(
    `[MoeA2AError: registerPostDispatchHook(): hook is 5, not a function]`,
  );
  expect(dispatcher.stage).toBe("INITIAL");
  expect([...(await round()).data]).toEqual(dense(tokens));
});
