import { type CudaTensor, type Tensor, tensor } from "@moe-a2a/core";
import { describe, expect, test } from "vitest";
import * as adapter from "../src/index.js";

const guards = {
  DispatchOutput: ["Standard", "DeepEPNormal", "DeepEPLL", "Flashinfer"],
  CombineInput: ["Standard", "DeepEPNormal", "DeepEPLL", "Flashinfer"],
  TopKOutput: ["Standard", "Bypassed"],
};
const formatOf: Record<string, string> = {
  Standard: "standard",
  DeepEPNormal: "deepepNormal",
  DeepEPLL: "deepepLl",
  Flashinfer: "flashinfer",
  Bypassed: "bypassed",
};

describe.each(Object.entries(guards))("guards of %s", (union, names) => {
  test.each(names)("is%s takes its own format alone", (name) => {
    const guard = (adapter as unknown as Record<string, (x: unknown) => boolean>)[`is${name}${union}`]!;
    const accepted = names.filter((other) => guard({ format: formatOf[other] }));
    expect(accepted).toEqual([name]);
  });
});

describe("reshape", () => {
  test("shows the same memory under another shape, on either device", () => {
    const cpu = tensor("int32", [2, 6], [...Array(12).keys()]);
    const view = adapter.reshape(cpu, [3, 4]);
    expect(view).toEqual({ dtype: "int32", shape: [3, 4], device: { type: "cpu", id: 0 }, data: cpu.data });
    expect(view.data).toBe(cpu.data);
    const cuda: CudaTensor = {
      dtype: "bfloat16",
      shape: [4, 0, 8],
      device: { type: "cuda", id: 3 },
      data: 0x7f00n,
    };
    expect(adapter.reshape(cuda, [0, 8])).toEqual({ ...cuda, shape: [0, 8] });
  });

  test("refuses a shape with more or fewer elements", () => {
    const t: Tensor = tensor("float32", [2, 3]);
    expect(() => adapter.reshape(t, Object.assign([], { length: 2 ** 32 - 1 }))).toThrow(
      /more than 64 dimensions/,
    );
    const endless = { ...t, shape: Object.assign([], { length: 2 ** 32 - 1 }) };
    expect(() => adapter.reshape(endless, [12])).toThrow(/the tensor's shape has more than 64 dimensions/);
    expect(() => adapter.reshape(t, [-1, -12])).toThrow(/has the dimension -1/);
    expect(() => adapter.reshape(t, [7])).toThrow(
      "reshape(): float32 [2, 3] does not have the elements of [7]",
    );
  });
});
