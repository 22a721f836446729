import { describe, expect, it } from "vitest";
import { DTYPES, typedArrayOf } from "../src/dtype.js";
import { isMoeA2AError } from "../src/errors.js";
import { byteLengthOf, describe as describeValue, numElements, shapeProblem, tensor } from "../src/tensor.js";

/** The message and argument of the ARGUMENT error that `f` throws. */
function refusal(f: () => unknown): string {
  try {
    f();
  } catch (e) {
    if (isMoeA2AError(e, "ERR_MOE_A2A_ARGUMENT")) return `${e.argument}: ${e.message}`;
    throw e;
  }
  throw new Error("it did not throw");
}

describe("tensor", () => {
  it.each(DTYPES)("makes %s tensors of zeros", (dtype) => {
    const t = tensor(dtype, [2, 3]);
    expect(t.dtype).toBe(dtype);
    expect(t.shape).toEqual([2, 3]);
    expect(t.device).toEqual({ type: "cpu", id: 0 });
    expect(t.data).toBeInstanceOf(typedArrayOf(dtype));
    expect([...t.data].map(Number)).toEqual([0, 0, 0, 0, 0, 0]);
  });

  it("borrows typed arrays and copies lists", () => {
    const data = Int32Array.of(1, 2, 3, 4);
    expect(tensor("int32", [2, 2], data).data).toBe(data);
    expect(tensor("int32", [2, 2], [1, 2, 3, 4]).data).toEqual(data);
    expect(tensor("int64", [2], [1n, -1n]).data).toEqual(BigInt64Array.of(1n, -1n));
    const view = new Uint8Array(new SharedArrayBuffer(16), 3, 5);
    expect(tensor("uint8", [5, 1], view).data).toBe(view);
  });

  it("takes any rank of shape, and zero rows without memory", () => {
    expect(tensor("float32", []).data.length).toBe(1);
    expect(tensor("float32", [0, 7168]).data.length).toBe(0);
    expect(tensor("uint8", [2, 0, 3], new Uint8Array()).shape).toEqual([2, 0, 3]);
  });

  it("keeps its shape from later changes", () => {
    const shape = [2, 1];
    const t = tensor("uint8", shape);
    shape[0] = 9;
    expect(t.shape).toEqual([2, 1]);
    expect(Object.isFrozen(t.shape)).toBe(true);
  });

  it("says what does not fit", () => {
    const wrong = [
      () => tensor("float64" as "float32", [1]),
      () => tensor("int32", 3 as unknown as number[]),
      () => tensor("int32", [2, -1]),
      () => tensor("int32", [1.5]),
      () => tensor("int32", [2 ** 30, 2 ** 30]),
      () => tensor("bfloat16", [2], new Float32Array(2) as unknown as Uint16Array),
      () => tensor("int32", [2, 2], new Int32Array(3)),
      () => tensor("int32", [2], [1, 2, 3]),
      () => tensor("int64", [1], [1] as unknown as bigint[]),
    ];
    expect(wrong.map(refusal)).toMatchInlineSnapshot(`
      [
        "dtype: tensor(): "float64" is not a dtype",
        "shape: tensor(): shape is 3, not an array of dimensions",
        "shape: tensor(): shape has the dimension -1; dimensions are integers >= 0",
        "shape: tensor(): shape has the dimension 1.5; dimensions are integers >= 0",
        "shape: tensor(): shape [1073741824,1073741824] has too many elements",
        "data: tensor(): a bfloat16 tensor of shape [2] takes 2 elements in a Uint16Array; data is a Float32Array",
        "data: tensor(): a int32 tensor of shape [2,2] takes 4 elements in a Int32Array; data has 3",
        "data: tensor(): a int32 tensor of shape [2] takes 2 elements in a Int32Array; the array has 3",
        "data: tensor(): a int64 tensor of shape [1] takes 1 elements in a BigInt64Array; element 0 is 1, not a bigint",
      ]
    `);
  });
});

describe("shapes", () => {
  it("count elements and bytes", () => {
    expect(numElements([])).toBe(1);
    expect(numElements([3, 0, 5])).toBe(0);
    expect(byteLengthOf("bfloat16", [3, 5])).toBe(30);
    expect(byteLengthOf("int64", [2])).toBe(16);
  });

  it("are lists of non-negative integers", () => {
    expect(shapeProblem([1, 0, 3])).toBeUndefined();
    expect(shapeProblem("3")).toContain("not an array");
    expect(shapeProblem([Number.NaN])).toContain("NaN");
  });
});

describe("describe", () => {
  it("shows any value in a few words", () => {
    const cyclic: { self?: unknown } = {};
    cyclic.self = cyclic;
    const shown = [1.5, -0, 7n, "text", "x".repeat(99), null, undefined, Symbol("s"), cyclic].map(
      describeValue,
    );
    expect(shown).toMatchInlineSnapshot(`
      [
        "1.5",
        "-0",
        "7n",
        ""text"",
        ""xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…"",
        "null",
        "undefined",
        "Symbol(s)",
        "an object",
      ]
    `);
    expect([[1, 2], new Map(), () => 1, new Uint8Array(2)].map(describeValue)).toMatchInlineSnapshot(`
      [
        "an array of 2",
        "a Map",
        "a function",
        "a Uint8Array",
      ]
    `);
  });
});
