import { type CpuTensor, type DispatchInput, isMoeA2AError, type MoeAllToAll, tensor } from "@moe-a2a/core";
import { beforeEach, describe, expect, test } from "vitest";
import { MoeA2ADispatcher, type MoeA2ADispatcherOptions, type TopKOutput } from "../src/index.js";
import { configOf, createRanks, hiddenSize, makeTokens, randomFrom, type Tokens } from "./world.js";

const config = configOf({ epSize: 1, maxTokensPerRank: 4, roundsInFlight: 2 });
let a2a: MoeAllToAll<CpuTensor>;
let dispatcher: MoeA2ADispatcher<CpuTensor>;
let tokens: Tokens;

beforeEach(async () => {
  a2a = (await createRanks(config))[0]!;
  dispatcher = new MoeA2ADispatcher({ a2a, hiddenSize, dtype: "float32" });
  tokens = makeTokens(randomFrom(1), 3, config);
  return () => a2a.close();
});

/** "CODE argument: message" of what a call throws. */
function refusal(call: () => unknown): string {
  try {
    call();
  } catch (e) {
    if (!isMoeA2AError(e)) throw e;
    const details = e.code === "ERR_MOE_A2A_CAPACITY" ? `value ${e.value} limit ${e.limit}` : e.argument;
    return `${e.code.replace("ERR_MOE_A2A_", "")} ${details}: ${e.message}`;
  }
  return "no error";
}

describe("the constructor", () => {
  const make = (over: Partial<Record<keyof MoeA2ADispatcherOptions, unknown>>): string =>
    refusal(() => new MoeA2ADispatcher({ a2a, hiddenSize, dtype: "float32", ...over } as never));

  test("refuses what cannot work, and says what would", () => {
    expect(make({ a2a: {} })).toMatchInlineSnapshot(
      `"ARGUMENT a2a: new MoeA2ADispatcher(): a2a is an object; it must come from createMoeAllToAll()"`,
    );
    expect(make({ hiddenSize: 0 })).toMatchInlineSnapshot(
      `"ARGUMENT hiddenSize: new MoeA2ADispatcher(): hiddenSize is 0; it must be an integer >= 1"`,
    );
    expect(make({ hiddenSize: 9 })).toMatchInlineSnapshot(
      `"ARGUMENT hiddenSize: new MoeA2ADispatcher(): a row of 9 float32 has 36 bytes, more than maxCombineBytesPerToken (32); create the all-to-all with maxCombineBytesPerToken: combineBytesPerToken({ hiddenSize, dtype })"`,
    );
    expect(make({ dtype: "int32" })).toMatchInlineSnapshot(
      `"ARGUMENT dtype: new MoeA2ADispatcher(): dtype is "int32"; it must be one of "float32", "float16", "bfloat16""`,
    );
    expect(make({ invalidTokenExpertId: 2 ** 31 })).toMatchInlineSnapshot(
      `"ARGUMENT invalidTokenExpertId: new MoeA2ADispatcher(): invalidTokenExpertId is 2147483648; it must be an integer from -2147483648 to 2147483647"`,
    );
    expect(make({ combineInPlace: "yes" })).toMatchInlineSnapshot(
      `"ARGUMENT combineInPlace: new MoeA2ADispatcher(): combineInPlace is "yes"; it must be true or false"`,
    );
    expect(make({ lane: 2 })).toMatchInlineSnapshot(
      `"ARGUMENT lane: new MoeA2ADispatcher(): lane is 2; it must be an integer from 0 to 1"`,
    );
    expect(refusal(() => new MoeA2ADispatcher(undefined as never))).toMatchInlineSnapshot(
      `"ARGUMENT options: new MoeA2ADispatcher(): options is undefined, not an object"`,
    );
  });

  test("fills in the defaults", () => {
    expect(dispatcher.hiddenSize).toBe(hiddenSize);
    expect(dispatcher.dtype).toBe("float32");
    expect(dispatcher.quantConfig).toEqual({ format: "none" });
  });
});

describe("dispatch", () => {
  const send = (hidden: unknown, topk: unknown): string =>
    refusal(() => dispatcher.dispatchA(hidden as CpuTensor, topk as TopKOutput<CpuTensor>));
  const withTopK = (over: object): string => send(tokens.hiddenStates, { ...tokens.topkOutput, ...over });

  test("refuses hidden states of another dtype, shape or kind", () => {
    expect(send(tensor("float16", [3, hiddenSize]), tokens.topkOutput)).toMatchInlineSnapshot(
      `"ARGUMENT hiddenStates: dispatchA() on rank 0: hiddenStates is float16 [3, 8]; it must be float32 [L, 8]"`,
    );
    expect(send(tensor("float32", [3, 4]), tokens.topkOutput)).toMatchInlineSnapshot(
      `"ARGUMENT hiddenStates: dispatchA() on rank 0: hiddenStates is float32 [3, 4]; it must be float32 [L, 8]"`,
    );
    expect(send(tensor("float32", [hiddenSize]), tokens.topkOutput)).toMatchInlineSnapshot(
      `"ARGUMENT hiddenStates: dispatchA() on rank 0: hiddenStates is float32 [8]; it must be float32 [L, 8]"`,
    );
    expect(send([1, 2, 3], tokens.topkOutput)).toMatchInlineSnapshot(
      `"ARGUMENT hiddenStates: dispatchA() on rank 0: hiddenStates is an array of 3, not a tensor; it must be float32 [L, 8]"`,
    );
    expect(send(undefined, tokens.topkOutput)).toMatchInlineSnapshot(
      `"ARGUMENT hiddenStates: dispatchA() on rank 0: hiddenStates is undefined, not a tensor; it must be float32 [L, 8]"`,
    );
  });

  test("refuses int64 ids instead of reading half of each", () => {
    expect(withTopK({ topkIds: tensor("int64", [3, 2]) })).toMatchInlineSnapshot(
      `"ARGUMENT topkOutput.topkIds: dispatchA() on rank 0: topkOutput.topkIds is int64 [3, 2]; it must be int32 [3, 2] (int64 ids have to be converted first)"`,
    );
  });

  test("refuses ids and weights that do not fit the tokens", () => {
    expect(withTopK({ topkIds: tensor("int32", [2, 2]) })).toMatchInlineSnapshot(
      `"ARGUMENT topkOutput.topkIds: dispatchA() on rank 0: topkOutput.topkIds is int32 [2, 2]; it must be int32 [3, 2]"`,
    );
    expect(withTopK({ topkIds: tensor("int32", [3, 3]) })).toMatchInlineSnapshot(
      `"ARGUMENT topkOutput.topkIds: dispatchA() on rank 0: topkOutput.topkIds is int32 [3, 3]; it must be int32 [3, 2]"`,
    );
    expect(withTopK({ topkWeights: tensor("bfloat16", [3, 2]) })).toMatchInlineSnapshot(
      `"ARGUMENT topkOutput.topkWeights: dispatchA() on rank 0: topkOutput.topkWeights is bfloat16 [3, 2]; it must be float32 [3, 2]"`,
    );
  });

  test("refuses routing of an unknown form", () => {
    expect(withTopK({ format: "triton" })).toMatchInlineSnapshot(
      `"ARGUMENT topkOutput: dispatchA() on rank 0: topkOutput has the format "triton"; it must be "standard", or "bypassed" with a toStandard() that makes it so"`,
    );
    expect(send(tokens.hiddenStates, undefined)).toMatchInlineSnapshot(
      `"ARGUMENT topkOutput: dispatchA() on rank 0: topkOutput is undefined; it must be "standard", or "bypassed" with a toStandard() that makes it so"`,
    );
    expect(
      send(tokens.hiddenStates, { format: "bypassed", toStandard: () => ({ format: "bypassed" }) }),
    ).toMatchInlineSnapshot(
      `"ARGUMENT topkOutput: dispatchA() on rank 0: topkOutput has the format "bypassed"; it must be "standard", or "bypassed" with a toStandard() that makes it so"`,
    );
  });

  test("passes on what the all-to-all finds: ids that are no expert's", () => {
    const topkIds = tensor("int32", [3, 2], [0, 1, 0, 4, 0, 1]);
    expect(withTopK({ topkIds })).toMatch(/^EXPERT_ID .*tokenSelectedExperts\[1, 1\] is 4/);
  });
});

describe("capacity", () => {
  const send = (rows: number, options: object): string => {
    const { hiddenStates, topkOutput } = makeTokens(randomFrom(1), rows, config);
    return refusal(() => dispatcher.dispatchA(hiddenStates, topkOutput, options));
  };

  test("more local rows than the step has slots", () => {
    expect(send(3, { dpGlobalNumTokens: [2, 2] })).toMatchInlineSnapshot(
      `"CAPACITY value 3 limit 2: dispatchA() on rank 0: hiddenStates has 3 rows, and this step has 2 slots per rank (= ceil(max(dpGlobalNumTokens [2, 2]) / attnTpSize 1)); give every rank the same, complete token counts"`,
    );
    expect(send(3, { dpGlobalNumTokens: [4, 3], attnTpSize: 2 })).toMatchInlineSnapshot(
      `"CAPACITY value 3 limit 2: dispatchA() on rank 0: hiddenStates has 3 rows, and this step has 2 slots per rank (= ceil(max(dpGlobalNumTokens [4, 3]) / attnTpSize 2)); give every rank the same, complete token counts"`,
    );
    expect(send(1, { dpGlobalNumTokens: [0, 0] })).toMatchInlineSnapshot(
      `"CAPACITY value 1 limit 0: dispatchA() on rank 0: hiddenStates has 1 rows, and this step has 0 slots per rank (= ceil(max(dpGlobalNumTokens [0, 0]) / attnTpSize 1)); give every rank the same, complete token counts"`,
    );
  });

  test("more slots, or local rows, than there is capacity", () => {
    expect(send(2, { dpGlobalNumTokens: [2, 10], attnTpSize: 2 })).toMatchInlineSnapshot(
      `"CAPACITY value 5 limit 4: dispatchA() on rank 0: this step needs 5 slots per rank (= ceil(max(dpGlobalNumTokens [2, 10]) / attnTpSize 2)), and the capacity is 4; create the all-to-all with a larger config.maxTokensPerRank on every rank, or split the batch"`,
    );
    expect(send(5, {})).toMatchInlineSnapshot(
      `"CAPACITY value 5 limit 4: dispatchA() on rank 0: hiddenStates has 5 rows, and this step has 4 slots per rank (= config.maxTokensPerRank, as no dpGlobalNumTokens were given); create the all-to-all with a larger config.maxTokensPerRank on every rank, or split the batch"`,
    );
  });

  test("token counts and attention-TP sizes that make no sense", () => {
    expect(send(2, { dpGlobalNumTokens: [] })).toMatchInlineSnapshot(
      `"ARGUMENT dpGlobalNumTokens: dispatchA() on rank 0: dpGlobalNumTokens is an array of 0; it must list the token count of every DP rank"`,
    );
    expect(send(2, { dpGlobalNumTokens: [2, -2] })).toMatchInlineSnapshot(
      `"ARGUMENT dpGlobalNumTokens[1]: dispatchA() on rank 0: dpGlobalNumTokens[1] is -2; it must be an integer >= 0"`,
    );
    expect(send(2, { attnTpSize: 0 })).toMatchInlineSnapshot(
      `"ARGUMENT attnTpSize: dispatchA() on rank 0: attnTpSize is 0; it must be an integer >= 1"`,
    );
  });

  test("reads nothing of its arguments once the round is sent", async () => {
    let sent = false;
    const spied = Object.create(a2a, {
      config: { value: a2a.config },
      epRank: { value: a2a.epRank },
      dispatch: {
        value: (input: DispatchInput<CpuTensor>) => {
          const dispatch = a2a.dispatch(input);
          sent = true;
          return dispatch;
        },
      },
    }) as MoeAllToAll<CpuTensor>;
    const hiddenStates = Object.defineProperty({ ...tokens.hiddenStates }, "device", {
      get: () => {
        if (sent) throw new Error("read too late");
        return tokens.hiddenStates.device;
      },
    });
    const careful = new MoeA2ADispatcher({ a2a: spied, hiddenSize, dtype: "float32" });
    careful.dispatchA(hiddenStates, tokens.topkOutput);
    await careful.dispatchB();
  });

  test("leaves the dispatcher usable", async () => {
    send(5, {});
    expect(dispatcher.stage).toBe("INITIAL");
    const received = await dispatcher.dispatch(tokens.hiddenStates, tokens.topkOutput);
    expect(received.hiddenStates.shape).toEqual([4, hiddenSize]);
  });
});

describe("combine", () => {
  test("refuses input of another format or shape", async () => {
    await dispatcher.dispatch(tokens.hiddenStates, tokens.topkOutput);
    const combine = (input: unknown): string => refusal(() => dispatcher.combineA(input as never));
    const hiddenStates = tensor("float32", [4, hiddenSize]);
    expect(combine({ format: "standard", hiddenStates })).toMatchInlineSnapshot(
      `"ARGUMENT combineInput: combineA() on rank 0: combineInput has the format "standard"; it must be { format: "flashinfer", hiddenStates }, its rows in the slots they were received in"`,
    );
    expect(combine(undefined)).toMatchInlineSnapshot(
      `"ARGUMENT combineInput: combineA() on rank 0: combineInput is undefined; it must be { format: "flashinfer", hiddenStates }, its rows in the slots they were received in"`,
    );
    expect(combine({ format: "flashinfer" })).toMatchInlineSnapshot(
      `"ARGUMENT combineInput.hiddenStates: combineA() on rank 0: combineInput.hiddenStates is undefined, not a tensor; it must be float32 [4, 8]"`,
    );
    expect(
      combine({ format: "flashinfer", hiddenStates: tensor("float32", [3, hiddenSize]) }),
    ).toMatchInlineSnapshot(
      `"ARGUMENT combineInput.hiddenStates: combineA() on rank 0: combineInput.hiddenStates is float32 [3, 8]; it must be float32 [4, 8]"`,
    );
    expect(combine({ format: "flashinfer", hiddenStates: tensor("int32", [4, hiddenSize]) })).toMatch(
      /^ARGUMENT expertOutput: .*int32/,
    );
    expect(dispatcher.stage).toBe("AFTER_DISPATCH_B");
  });
});

test("overlap arguments are kept as they are, until they are cleared", () => {
  const combineArgs = { overlap: true };
  const metaArgs = { streams: 2 };
  dispatcher.setOverlapArgs(combineArgs, metaArgs);
  expect(dispatcher.overlapArgs).toBe(combineArgs);
  expect(dispatcher.metaOverlapArgs).toBe(metaArgs);
  dispatcher.clearOverlapArgs();
  expect(dispatcher.overlapArgs).toBeUndefined();
  expect(dispatcher.metaOverlapArgs).toBeUndefined();
});
