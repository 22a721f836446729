import { describe, expect, it } from "vitest";
import {
  type CheckContext,
  type CpuTensor,
  type CudaTensor,
  checkCombine,
  checkConfig,
  checkDispatch,
  type DispatchInput,
  type DType,
  tensor,
} from "../src/index.js";

const config = checkConfig({
  epSize: 2,
  numExperts: 4,
  topK: 2,
  maxTokensPerRank: 8,
  maxDispatchBytesPerToken: 64,
  maxCombineBytesPerToken: 64,
});
const cuda: CheckContext = { config, rank: 1, device: "cuda", deviceId: 3 };
const onGpu = (dtype: DType, shape: readonly number[], data = 0x1000n, id = 3): CudaTensor => ({
  dtype,
  shape,
  device: { type: "cuda", id },
  data,
});
const input = (rows: number, change: Partial<DispatchInput<CudaTensor>> = {}): DispatchInput<CudaTensor> => ({
  numLocalTokens: rows,
  tokenSelectedExperts: onGpu("int32", [rows, 2]),
  payloads: [onGpu("float32", [rows, 4])],
  ...change,
});
const check = (given: DispatchInput<CudaTensor>) => checkDispatch<CudaTensor>(cuda, given);

describe("a dispatch whose count stands in device memory", () => {
  const numLocalTokens = onGpu("int32", [1]);

  it("takes the rows of its inputs, at most runtimeMaxTokensPerRank", () => {
    const checked = check(input(5, { numLocalTokens, runtimeMaxTokensPerRank: 6 }));
    expect(checked).toMatchObject({ numLocalTokens: 5, maxTokens: 6, tokenCount: { data: 0x1000n } });
    expect(check(input(5)).tokenCount).toBeUndefined();
    expect(() => check(input(5, { numLocalTokens, runtimeMaxTokensPerRank: 4 }))).toThrow(
      expect.objectContaining({ code: "ERR_MOE_A2A_CAPACITY", value: 5, limit: 4 }),
    );
  });

  it("takes an int32 [1] of this device, and inputs of equally many rows", () => {
    const refused = (change: Partial<DispatchInput<CudaTensor>>, message: RegExp) =>
      expect(() => check(input(5, change))).toThrow(message);
    refused({ numLocalTokens: onGpu("int64", [1]) }, /rank 1: numLocalTokens has dtype int64/);
    refused({ numLocalTokens: onGpu("int32", [2]) }, /numLocalTokens has shape \[2\]; it must be \[1\]/);
    refused({ numLocalTokens: onGpu("int32", [1], 0n) }, /null address/);
    refused({ numLocalTokens, payloads: [onGpu("float32", [4, 4])] }, /payloads\[0\] has shape \[4, 4\]/);
    refused({ numLocalTokens: tensor("int32", [1]) as never }, /numLocalTokens is on device "cpu"/);
  });

  it("is for GPUs alone", () => {
    const onCpu = {
      numLocalTokens: tensor("int32", [1]),
      tokenSelectedExperts: tensor("int32", [1, 2]),
      payloads: [tensor("uint8", [1, 1])],
    };
    expect(() => checkDispatch<CpuTensor>({ config, rank: 0, device: "cpu" }, onCpu)).toThrow(
      /numLocalTokens is an object; it must be an integer >= 0$/,
    );
  });
});

describe("device memory", () => {
  it("has to be on this rank's GPU", () => {
    const elsewhere = onGpu("float32", [2, 4], 0x1000n, 0);
    expect(() => check(input(2, { payloads: [elsewhere] }))).toThrow(
      "rank 1: payloads[0] is on cuda device 0; this rank is on device 3",
    );
    const round = { maxTokens: 2, numLocalTokens: 2 };
    const rows = onGpu("float32", [2, 2, 4]);
    expect(checkCombine<CudaTensor>(cuda, round, rows, onGpu("float32", [2, 4])).hiddenSize).toBe(4);
    expect(() => checkCombine<CudaTensor>(cuda, round, rows, onGpu("float32", [2, 4], 1n, 0))).toThrow(
      "rank 1: out is on cuda device 0",
    );
  });

  it("may be missing for zero rows only", () => {
    const zero = {
      payloads: [onGpu("float32", [0, 4], 0n)],
      tokenSelectedExperts: onGpu("int32", [0, 2], 0n),
    };
    expect(check(input(0, zero)).numLocalTokens).toBe(0);
    expect(() => check(input(1, { payloads: [onGpu("float32", [1, 4], 0n)] }))).toThrow(/null address/);
  });
});

describe("a stream", () => {
  it("is a handle of 64 bits", () => {
    expect(check(input(1, { stream: 0x7fffn })).stream).toBe(0x7fffn);
    expect(check(input(1)).stream).toBeUndefined();
    for (const stream of [7, -1n, 1n << 64n, null]) {
      expect(() => check(input(1, { stream: stream as never }))).toThrow(
        expect.objectContaining({ code: "ERR_MOE_A2A_ARGUMENT", argument: "stream" }),
      );
    }
  });

  it("is no affair of the CPU", () => {
    const checked = checkDispatch<CpuTensor>(
      { config, rank: 0, device: "cpu" },
      {
        numLocalTokens: 0,
        tokenSelectedExperts: tensor("int32", [0, 2]),
        payloads: [tensor("uint8", [0, 1])],
        stream: 7n,
      },
    );
    expect(checked.stream).toBeUndefined();
  });
});

describe("arguments that say what they said last time", () => {
  const context: CheckContext = { config, rank: 0, device: "cpu" };
  const given = () => ({
    numLocalTokens: 2,
    tokenSelectedExperts: tensor("int32", [2, 2]) as CpuTensor,
    payloads: [tensor("float32", [2, 4]) as CpuTensor, tensor("uint8", [2, 3]) as CpuTensor],
  });
  const again = (input: DispatchInput<CpuTensor>, last: ReturnType<typeof given>) =>
    checkDispatch<CpuTensor>(context, input, checkDispatch<CpuTensor>(context, last));

  it("come to the same, in the same objects", () => {
    const input = given();
    const first = checkDispatch<CpuTensor>(context, input);
    const second = checkDispatch<CpuTensor>(context, { ...input, payloads: [...input.payloads] }, first);
    expect(second).toEqual(first);
    expect(second.payloads).toBe(first.payloads);
    expect(second.rowBytes).toBe(first.rowBytes);
    expect(second.tokenSelectedExperts).toBe(first.tokenSelectedExperts);
    const output = tensor("bfloat16", [2, 8, 4]);
    const combine = checkCombine<CpuTensor>(context, first, output, undefined);
    expect(combine.rowBytes).toBe(8);
    expect(checkCombine<CpuTensor>(context, first, output, undefined, combine)).toBe(combine);
  });

  it("are looked at all the same", () => {
    const last = given();
    const change = { ...last, payloads: [tensor("float32", [2, 4]), tensor("uint8", [2, 5])] };
    const checked = again(change, last);
    expect(checked.rowBytes).toEqual([16, 5]);
    expect(checked.payloads.map(({ data }) => data)).toEqual(change.payloads.map(({ data }) => data));
    // One payload less or more.
    expect(again({ ...last, payloads: last.payloads.slice(0, 1) }, last).rowBytes).toEqual([16]);
    // As much memory in another shape, of another dtype, or in an array that has changed its shape meanwhile.
    const refused = (payload: object, message: RegExp) =>
      expect(() => again({ ...last, payloads: [payload as CpuTensor] }, last)).toThrow(message);
    refused({ ...last.payloads[0], shape: [4, 2] }, /shape \[4, 2\]; it must be \[2, n\]/);
    refused({ ...last.payloads[0], shape: [2, 5] }, /8 elements in data, but shape \[2, 5\] has 10/);
    refused({ ...last.payloads[0], dtype: "int32" }, /a int32 tensor holds a Int32Array/);
    refused({ ...last.payloads[0], device: { type: "cuda", id: 0 } }, /is on device "cuda"/);
    const shape = [2, 4];
    const mutable = { ...last, payloads: [{ ...last.payloads[0], shape } as CpuTensor] };
    const first = checkDispatch<CpuTensor>(context, mutable);
    shape[1] = 3;
    expect(first.payloads[0]?.shape).toEqual([2, 4]);
    expect(() => checkDispatch<CpuTensor>(context, mutable, first)).toThrow(/shape \[2, 3\] has 6/);
  });

  it("are refused once their arrays have gone", () => {
    const last = given();
    const first = checkDispatch<CpuTensor>(context, last);
    structuredClone(last.payloads[1]?.data, { transfer: [last.payloads[1]?.data.buffer as ArrayBuffer] });
    expect(() => checkDispatch<CpuTensor>(context, last, first)).toThrow(
      /payloads\[1\] has 0 elements in data/,
    );
    const output = tensor("bfloat16", [2, 8, 4]);
    const combine = checkCombine<CpuTensor>(context, first, output, undefined);
    structuredClone(output.data, { transfer: [output.data.buffer as ArrayBuffer] });
    expect(() => checkCombine<CpuTensor>(context, first, output, undefined, combine)).toThrow(
      /expertOutput has 0 elements in data/,
    );
    const other = tensor("bfloat16", [2, 8, 5]);
    expect(checkCombine<CpuTensor>(context, first, other, undefined, combine).hiddenSize).toBe(5);
  });
});
