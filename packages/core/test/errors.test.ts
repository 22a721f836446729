import { copyFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, expectTypeOf, it } from "vitest";
import { isMoeA2AError, MoeA2AError, type MoeA2AErrorOf } from "../src/index.js";

describe("MoeA2AError", () => {
  const error = new MoeA2AError("ERR_MOE_A2A_CAPACITY", "too many", { value: 9, limit: 8 }, { cause: "why" });

  it("is an Error with a name, a code, its details and a cause", () => {
    expect(error).toBeInstanceOf(Error);
    expect(error).toMatchObject({
      name: "MoeA2AError",
      code: "ERR_MOE_A2A_CAPACITY",
      message: "too many",
      value: 9,
      limit: 8,
      cause: "why",
    });
    expect(error.stack).toMatch(/^MoeA2AError: too many/);
    expect(Object.keys(error)).toEqual(["code", "value", "limit"]);
  });

  it("is told apart by its guard, with or without a code", () => {
    expect(isMoeA2AError(error)).toBe(true);
    expect(isMoeA2AError(error, "ERR_MOE_A2A_CAPACITY")).toBe(true);
    expect(isMoeA2AError(error, "ERR_MOE_A2A_STATE")).toBe(false);
    for (const other of [new Error("x"), null, undefined, "ERR", {}, { code: "ERR_MOE_A2A_STATE" }]) {
      expect(isMoeA2AError(other)).toBe(false);
    }
  });

  it("is known to the guard of another copy of the package", async () => {
    const folder = await mkdtemp(fileURLToPath(new URL("./copy-", import.meta.url)));
    try {
      const copy = join(folder, "core.mjs");
      copyFileSync(new URL("../dist/index.js", import.meta.url), copy);
      // require() loads the ES module itself, outside the test runner's own module graph.
      const other = createRequire(import.meta.url)(copy) as typeof import("../src/index.js");
      expect(other.MoeA2AError).not.toBe(MoeA2AError);
      expect(other.isMoeA2AError(error, "ERR_MOE_A2A_CAPACITY")).toBe(true);
      const theirs = new other.MoeA2AError("ERR_MOE_A2A_STATE", "no", { state: "closed" });
      expect(isMoeA2AError(theirs, "ERR_MOE_A2A_STATE")).toBe(true);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it("narrows to the fields of the code", () => {
    const caught: unknown = error;
    if (isMoeA2AError(caught, "ERR_MOE_A2A_PEER_TIMEOUT")) {
      expectTypeOf(caught.missingRanks).toEqualTypeOf<readonly number[]>();
      expectTypeOf(caught).toExtend<MoeA2AErrorOf<"ERR_MOE_A2A_PEER_TIMEOUT">>();
    }
    if (isMoeA2AError(caught)) expectTypeOf(caught.value).toEqualTypeOf<unknown>();
  });
});
