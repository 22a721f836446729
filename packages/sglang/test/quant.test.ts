import { type CpuTensor, isMoeA2AError, tensor } from "@moe-a2a/core";
import { describe, expect, test } from "vitest";
import {
  combineBytesPerToken,
  dispatchBytesPerToken,
  MoeA2ADispatcher,
  QUANT_FORMATS,
  type QuantConfig,
} from "../src/index.js";
import { QUANTISERS } from "./quantisers.js";
import { configOf, createRanks, dense, makeTokens, randomFrom, runExperts } from "./world.js";

const refusal = (call: () => unknown): string => {
  try {
    call();
  } catch (e) {
    if (isMoeA2AError(e, "ERR_MOE_A2A_ARGUMENT")) return `${e.argument}: ${e.message}`;
    throw e;
  }
  return "no error";
};

const FORMATS = [
  { format: "fp8", hiddenSize: 130, dtype: "float8_e4m3fn", width: 130, scaleDtype: "float32", scales: 2 },
  { format: "mxfp8", hiddenSize: 64, dtype: "float8_e4m3fn", width: 64, scaleDtype: "uint8", scales: 2 },
  { format: "nvfp4", hiddenSize: 32, dtype: "uint8", width: 16, scaleDtype: "float8_e4m3fn", scales: 2 },
] as const;

const configFor = (format: (typeof QUANT_FORMATS)[number], hiddenSize: number, over: object = {}) =>
  configOf({
    maxDispatchBytesPerToken: dispatchBytesPerToken({ hiddenSize, dtype: "float32", topK: 2, format }),
    maxCombineBytesPerToken: combineBytesPerToken({ hiddenSize, dtype: "float32" }),
    ...over,
  });

describe.each(FORMATS)("$format", ({ format, hiddenSize, dtype, width, scaleDtype, scales }) => {
  test("travels as payload and scales; zero rows never see quantize()", async () => {
    const counts = [3, 0, 2];
    const config = configFor(format, hiddenSize, { epSize: 3, numExperts: 5 });
    const ranks = await createRanks(config);
    const { block, quantize, dequantize } = QUANTISERS[format];
    const calls = [0, 0, 0];
    await Promise.all(
      ranks.map(async (a2a) => {
        const { epRank } = a2a;
        const dispatcher = new MoeA2ADispatcher({ a2a, hiddenSize, dtype: "float32" });
        const quantConfig: QuantConfig<CpuTensor> = {
          format,
          quantize: (hiddenStates) => {
            calls[epRank]!++;
            return quantize(hiddenStates);
          },
        };
        dispatcher.setQuantConfig(quantConfig);
        expect(dispatcher.quantConfig).toBe(quantConfig);
        for (const rows of [counts[epRank]!, 0]) {
          const tokens = makeTokens(randomFrom(epRank), rows, config, hiddenSize);
          const exact = blockwise(tokens.hiddenStates, block);
          const received = await dispatcher.dispatch(exact, tokens.topkOutput);
          const slots = 3 * config.maxTokensPerRank;
          expect(received.hiddenStates).toMatchObject({ dtype, shape: [slots, width] });
          expect(received.hiddenStatesScale).toMatchObject({ dtype: scaleDtype, shape: [slots, scales] });
          const widened = dequantize(
            { hiddenStates: received.hiddenStates, hiddenStatesScale: received.hiddenStatesScale! },
            hiddenSize,
          );
          const out = await dispatcher.combine(runExperts(a2a, received, widened));
          expect([...out.data]).toEqual(dense({ ...tokens, hiddenStates: exact }));
        }
        await a2a.close();
      }),
    );
    expect(calls).toEqual([1, 0, 1]);
  });

  test("fits the bytes that dispatchBytesPerToken() works out, and not one less", async () => {
    const config = configFor(format, hiddenSize, { epSize: 1 });
    const less = { ...config, maxDispatchBytesPerToken: config.maxDispatchBytesPerToken - 1 };
    for (const [limits, fits] of [
      [config, true],
      [less, false],
    ] as const) {
      const [a2a] = await createRanks(limits);
      const dispatcher = new MoeA2ADispatcher({ a2a: a2a!, hiddenSize, dtype: "float32" });
      dispatcher.setQuantConfig({ format, quantize: QUANTISERS[format].quantize });
      const { hiddenStates, topkOutput } = makeTokens(randomFrom(1), 2, limits, hiddenSize);
      const message = refusal(() => dispatcher.dispatchA(hiddenStates, topkOutput));
      if (fits) expect(message).toBe("no error");
      else expect(message).toMatch(/^payloads: .*maxDispatchBytesPerToken/);
    }
  });

  test("refuses what is not the format, so that ranks cannot disagree", async () => {
    const config = configFor(format, hiddenSize, { epSize: 1 });
    const [a2a] = await createRanks(config);
    const dispatcher = new MoeA2ADispatcher({ a2a: a2a!, hiddenSize, dtype: "float32" });
    const { hiddenStates, topkOutput } = makeTokens(randomFrom(1), 2, config, hiddenSize);
    const good = QUANTISERS[format].quantize(hiddenStates);
    const wrong: [object | undefined, RegExp][] = [
      [undefined, /quantize\(\) returned undefined/],
      [Promise.resolve(good), /quantize\(\) returned a Promise.*at once/],
      [
        { hiddenStates: good.hiddenStates },
        /quantize\(\)\.hiddenStatesScale \(\w+\) is undefined, not a tensor/,
      ],
      [{ ...good, hiddenStates }, /quantize\(\)\.hiddenStates \(\w+\) is float32 \[2, \d+\]; it must be/],
      [
        { ...good, hiddenStatesScale: tensor(scaleDtype, [2, scales + 1]) },
        new RegExp(
          `hiddenStatesScale \\(${format}\\) is ${scaleDtype} \\[2, 3\\]; it must be ${scaleDtype} \\[2, 2\\]`,
        ),
      ],
      [
        { ...good, hiddenStatesScale: tensor("int32", [2, scales]) },
        new RegExp(`is int32 \\[2, 2\\]; it must be ${scaleDtype} \\[2, 2\\]`),
      ],
    ];
    for (const [result, message] of wrong) {
      dispatcher.setQuantConfig({ format, quantize: () => result as typeof good });
      expect(refusal(() => dispatcher.dispatchA(hiddenStates, topkOutput))).toMatch(message);
      expect(dispatcher.stage).toBe("INITIAL");
    }
    dispatcher.setQuantConfig({ format, quantize: () => good });
    dispatcher.dispatchA(hiddenStates, topkOutput);
  });
});

/** Numbers that all formats hold exactly: those of a block are small multiples of one power of two. */
function blockwise(t: CpuTensor<"float32">, block: number): CpuTensor<"float32"> {
  const width = t.shape[1]!;
  const factor = (i: number): number => 2 ** (Math.floor((i % width) / block) % 3);
  return tensor(
    "float32",
    t.shape,
    t.data.map((x, i) => (Math.round(x) % 5) * factor(i)),
  );
}

test("ranks that disagree about the format find out in the same round", async () => {
  const hiddenSize = 64;
  const ranks = await createRanks(configFor("none", hiddenSize));
  const results = await Promise.allSettled(
    ranks.map((a2a) => {
      const dispatcher = new MoeA2ADispatcher({ a2a, hiddenSize, dtype: "float32" });
      if (a2a.epRank === 1)
        dispatcher.setQuantConfig({ format: "mxfp8", quantize: QUANTISERS.mxfp8.quantize });
      const { hiddenStates, topkOutput } = makeTokens(randomFrom(1), 0, a2a.config, hiddenSize);
      return dispatcher.dispatch(hiddenStates, topkOutput);
    }),
  );
  for (const result of results) {
    expect(result).toMatchObject({ status: "rejected", reason: { code: "ERR_MOE_A2A_MISMATCH" } });
  }
});

test("setQuantConfig refuses what cannot work, and keeps what was set", async () => {
  const [a2a] = await createRanks(configFor("none", 40, { epSize: 1 }));
  const dispatcher = new MoeA2ADispatcher({ a2a: a2a!, hiddenSize: 40, dtype: "float32" });
  const set = (config: unknown): string =>
    refusal(() => dispatcher.setQuantConfig(config as QuantConfig<CpuTensor>));
  const { quantize } = QUANTISERS.fp8;
  expect(set({ format: "fp8", quantize })).toBe("no error");
  expect(set({ format: "int4", quantize })).toMatchInlineSnapshot(
    `"format: setQuantConfig(): format is "int4"; it must be one of "none", "fp8", "mxfp8", "nvfp4""`,
  );
  expect(set({ format: "fp8" })).toMatchInlineSnapshot(
    `"quantize: setQuantConfig(): quantize is undefined; fp8 needs a function that makes it"`,
  );
  expect(set({ format: "mxfp8", quantize })).toMatchInlineSnapshot(
    `"format: setQuantConfig(): mxfp8 has one scale per 32 elements, and hiddenSize 40 is no multiple of 32"`,
  );
  expect(set({ format: "nvfp4", quantize })).toMatchInlineSnapshot(
    `"format: setQuantConfig(): nvfp4 has one scale per 16 elements, and hiddenSize 40 is no multiple of 16"`,
  );
  expect(set(undefined)).toMatchInlineSnapshot(
    `"quantConfig: setQuantConfig(): quantConfig is undefined, not an object"`,
  );
  expect(dispatcher.quantConfig).toEqual({ format: "fp8", quantize });
  dispatcher.setQuantConfig({ format: "none" });
  const { hiddenStates, topkOutput } = makeTokens(randomFrom(1), 2, a2a!.config, 40);
  const received = await dispatcher.dispatch(hiddenStates, topkOutput);
  expect(received.hiddenStatesScale).toBeUndefined();
});

describe("byte limits", () => {
  test("are those of the formats", () => {
    const of = { hiddenSize: 7168, dtype: "bfloat16", topK: 8 } as const;
    const bytes = QUANT_FORMATS.map((format) => [format, dispatchBytesPerToken({ ...of, format })]);
    expect(Object.fromEntries(bytes)).toEqual({
      none: 7168 * 2 + 64,
      fp8: 7168 + 56 * 4 + 64,
      mxfp8: 7168 + 224 + 64,
      nvfp4: 3584 + 448 + 64,
    });
    expect(dispatchBytesPerToken(of)).toBe(7168 * 2 + 64);
    expect(combineBytesPerToken(of)).toBe(7168 * 2);
    expect(combineBytesPerToken({ hiddenSize: 3, dtype: "float32" })).toBe(12);
  });

  test("are refused for what cannot be", () => {
    const of = { hiddenSize: 24, dtype: "bfloat16", topK: 8 } as const;
    expect(refusal(() => dispatchBytesPerToken({ ...of, format: "nvfp4" }))).toMatchInlineSnapshot(
      `"format: dispatchBytesPerToken(): nvfp4 has one scale per 16 elements, and hiddenSize 24 is no multiple of 16"`,
    );
    expect(refusal(() => dispatchBytesPerToken({ ...of, topK: 0 }))).toMatchInlineSnapshot(
      `"topK: dispatchBytesPerToken(): topK is 0; it must be an integer >= 1"`,
    );
    expect(refusal(() => dispatchBytesPerToken({ ...of, dtype: "uint8" as never }))).toMatchInlineSnapshot(
      `"dtype: dispatchBytesPerToken(): dtype is "uint8"; it must be one of "float32", "float16", "bfloat16""`,
    );
    expect(refusal(() => combineBytesPerToken({ ...of, hiddenSize: -1 }))).toMatchInlineSnapshot(
      `"hiddenSize: combineBytesPerToken(): hiddenSize is -1; it must be an integer >= 1"`,
    );
  });
});
