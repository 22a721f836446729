import { describe, expect, it } from "vitest";
import {
  type CheckContext,
  type CudaTensor,
  checkCombine,
  checkConfig,
  checkDispatch,
  type DispatchInput,
  type DType,
} from "../src/index.js";

const config = checkConfig({
  epSize: 2,
  numExperts: 4,
  topK: 2,
  maxTokensPerRank: 8,
  maxDispatchBytesPerToken: 64,
  maxCombineBytesPerToken: 16,
});
const cuda: CheckContext = { config, rank: 1, device: "cuda", deviceId: 3 };
const onGpu = (dtype: unknown, shape: unknown, data: unknown = 0x1000n, id = 3): CudaTensor => ({
  dtype: dtype as DType,
  shape: shape as number[],
  device: { type: "cuda", id },
  data: data as bigint,
});

/** What a call comes to: its result, or its error's text. */
function outcome<R>(call: () => R): R | string {
  try {
    return call();
  } catch (error) {
    return (error as Error).message;
  }
}

/** A result without what only speeds later checks up. */
const said = (result: unknown): unknown =>
  JSON.parse(
    JSON.stringify(result, (key, value: unknown) =>
      key === "frozenShape" ? undefined : typeof value === "bigint" ? String(value) : value,
    ),
  );

/** Ids and rows of a few sorts, right and wrong. */
const ids = [
  onGpu("int32", [2, 2]),
  onGpu("int32", [2, 2], 0x2000n),
  onGpu("int32", [3, 2]),
  onGpu("int64", [2, 2]),
  onGpu("int32", [2, 2], 0n),
  onGpu("int32", [2, 2], 0x1000n, 0),
];
const rows = [
  onGpu("float32", [2, 4]),
  onGpu("float32", [2, 4], 0x3000n),
  onGpu("bfloat16", [2, 4]),
  onGpu("float32", [2, 40]),
  onGpu(undefined, [2, 4]),
  onGpu("float3", [2, 4]),
  onGpu("float32", [2, 4], 4096),
  onGpu("float32", [2, -4]),
  onGpu("float32", [2, 4, 1]),
  onGpu("float32", "2, 4"),
];

describe("what an earlier check came to", () => {
  it("changes nothing for a dispatch", () => {
    const inputs: DispatchInput<CudaTensor>[] = ids.flatMap((tokenSelectedExperts) =>
      rows.flatMap((row) =>
        [[row], [tokenSelectedExperts, row], [row, row, row]].map((payloads) => ({
          numLocalTokens: 2,
          tokenSelectedExperts,
          payloads,
          runtimeMaxTokensPerRank: 4,
        })),
      ),
    );
    for (const former of inputs) {
      const kept = outcome(() => checkDispatch(cuda, former));
      if (typeof kept === "string") continue;
      for (const input of inputs) {
        const expected = outcome(() => checkDispatch(cuda, input));
        expect(said(outcome(() => checkDispatch(cuda, input, kept)))).toEqual(said(expected));
      }
    }
  });

  it("changes nothing where the device counts tokens, or statistics are gathered", () => {
    const context: CheckContext = { ...cuda, config: { ...config, maxExpertStats: 4 } };
    const forms = [
      onGpu("int32", [1]),
      onGpu("int32", [1], 0x2000n),
      onGpu("int32", [4]),
      onGpu("int32", [5]),
      onGpu("float32", [1]),
      onGpu("int32", [1, 1]),
      onGpu("int32", [1], 0n),
    ];
    const fixed = { tokenSelectedExperts: ids[0]!, payloads: [rows[0]!], runtimeMaxTokensPerRank: 4 };
    const inputs: DispatchInput<CudaTensor>[] = [2, ...forms].flatMap((numLocalTokens) =>
      [undefined, ...forms].map((expertStats) => ({
        ...fixed,
        numLocalTokens,
        ...(expertStats === undefined ? {} : { expertStats }),
      })),
    );
    for (const former of inputs) {
      const kept = outcome(() => checkDispatch(context, former));
      if (typeof kept === "string") continue;
      expect(checkDispatch(context, former, kept)).toBe(kept);
      for (const input of inputs) {
        const expected = outcome(() => checkDispatch(context, input));
        expect(said(outcome(() => checkDispatch(context, input, kept)))).toEqual(said(expected));
      }
    }
  });

  it("changes nothing for a combine", () => {
    const round = { maxTokens: 2, numLocalTokens: 2 };
    const results = [
      onGpu("float32", [2, 2, 4]),
      onGpu("float32", [2, 2, 4], 0x2000n),
      onGpu("bfloat16", [2, 2, 4]),
      onGpu("bfloat16", [2, 2, 8]),
      onGpu("bfloat16", [2, 3, 4]),
      onGpu("int32", [2, 2, 4]),
      onGpu("float32", [2, 2, 8]),
      onGpu(undefined, [2, 2, 4]),
    ];
    const outs = [undefined, ...rows];
    const calls = results.flatMap((result) => outs.map((out) => [result, out] as const));
    for (const former of calls) {
      const kept = outcome(() => checkCombine(cuda, round, ...former));
      if (typeof kept === "string") continue;
      expect(checkCombine(cuda, round, ...former, kept)).toBe(kept);
      for (const call of calls) {
        const expected = outcome(() => checkCombine(cuda, round, ...call));
        expect(said(outcome(() => checkCombine(cuda, round, ...call, kept)))).toEqual(said(expected));
      }
    }
  });

  it("is handed back where the arguments say the same", () => {
    const input = {
      numLocalTokens: 2,
      tokenSelectedExperts: ids[0]!,
      payloads: [rows[0]!, ids[0]!, rows[2]!],
    };
    const kept = checkDispatch<CudaTensor>(cuda, input);
    const again = checkDispatch<CudaTensor>(
      cuda,
      { ...input, payloads: input.payloads.map((t) => ({ ...t })) },
      kept,
    );
    expect(again.payloads).toBe(kept.payloads);
    expect(again.tokenSelectedExperts).toBe(kept.tokenSelectedExperts);
  });
});
