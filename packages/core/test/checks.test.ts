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
