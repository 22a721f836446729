import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { hashSources } from "../src/hash.js";

let root: string;
const put = (path: string, text: string) => {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), text);
};

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "hash-"));
  put("kernels/src/dispatch.cu", "dispatch");
  put("kernels/include/moe_a2a.h", "header");
  put("packages/cuda/package.json", '{"name": "@moe-a2a/cuda", "version": "1.0.0"}');
});
afterEach(() => rmSync(root, { recursive: true }));

describe("the hash of the sources", () => {
  it("is the same for the same sources", () => {
    expect(hashSources(root)).toEqual(hashSources(root));
    expect(hashSources(root).files).toBe(3);
  });

  it.each([
    ["a changed source", "kernels/src/dispatch.cu", "dispatch 2"],
    ["a new source", "packages/cuda/native/addon.cpp", ""],
    [
      "a dependency",
      "packages/cuda/package.json",
      '{"name": "@moe-a2a/cuda", "version": "1.0.0", "dependencies": {}}',
    ],
  ])("changes with %s", (_, path, text) => {
    const before = hashSources(root).hash;
    put(path, text);
    expect(hashSources(root).hash).not.toBe(before);
  });

  it("changes when bytes move from one file to another", () => {
    put("kernels/a", "12");
    put("kernels/b", "3");
    const before = hashSources(root).hash;
    put("kernels/a", "1");
    put("kernels/b", "23");
    expect(hashSources(root).hash).not.toBe(before);
  });

  it.each([
    ["documentation", "kernels/README.md", "text"],
    ["what was built", "packages/cuda/dist/index.js", "code"],
    ["a build folder", "kernels/build/lib.a", "code"],
    ["dependencies that are installed", "packages/cuda/node_modules/x/index.js", "code"],
    ["the addon", "packages/cuda-linux-x64/moe_a2a.node", "code"],
    ["a released version", "packages/cuda/package.json", '{"name": "@moe-a2a/cuda", "version": "1.1.0"}'],
    ["other packages", "packages/js/src/index.ts", "code"],
  ])("stays with %s", (_, path, text) => {
    const before = hashSources(root);
    put(path, text);
    expect(hashSources(root)).toEqual(before);
  });
});
