import { describe, expect, it } from "vitest";
import { bytesPerElement, DTYPES, type DType, isDType, typedArrayOf } from "../src/dtype.js";

describe("dtypes", () => {
  it("have the sizes and arrays that the API promises", () => {
    const table = DTYPES.map((d) => `${d} ${bytesPerElement(d)} ${typedArrayOf(d).name}`);
    expect(table).toMatchInlineSnapshot(`
      [
        "float32 4 Float32Array",
        "float16 2 Uint16Array",
        "bfloat16 2 Uint16Array",
        "float8_e4m3fn 1 Uint8Array",
        "float8_e5m2 1 Uint8Array",
        "int64 8 BigInt64Array",
        "int32 4 Int32Array",
        "uint8 1 Uint8Array",
      ]
    `);
  });

  it("make arrays over shared memory at an offset", () => {
    const shared = new SharedArrayBuffer(64);
    const ints = new (typedArrayOf("int32"))(shared, 8, 3);
    ints[2] = -5;
    expect(new Int32Array(shared)[4]).toBe(-5);
    expect(new (typedArrayOf("int64"))(2)).toEqual(new BigInt64Array(2));
  });

  it("are told from anything else", () => {
    for (const dtype of DTYPES) expect(isDType(dtype)).toBe(true);
    for (const other of ["float64", "toString", "__proto__", "", 3, null, undefined, {}]) {
      expect(isDType(other)).toBe(false);
    }
    const narrowed: unknown = "uint8";
    if (isDType(narrowed)) narrowed satisfies DType;
  });
});
