import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { PackageTree } from "../src/bundle/packages.js";

let root: string;
const put = (path: string, text = "") => {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), text);
};
const pack = (folder: string, name: string, version: string, rest: object = {}) =>
  put(`${folder}/package.json`, JSON.stringify({ name, version, ...rest }));
const versionAt = (path: string) =>
  JSON.parse(readFileSync(join(root, "out", path, "package.json"), "utf8")).version;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "packages-"));
});
afterEach(() => rmSync(root, { recursive: true }));

describe("the tree of packages", () => {
  it("holds a program's packages once each, without links, sources and maps", () => {
    pack("tools/demo", "@moe-a2a-tools/demo", "0.0.0", { dependencies: { a: "1", b: "1" } });
    put("tools/demo/dist/main.js", "main");
    put("tools/demo/dist/main.js.map");
    put("tools/demo/src/main.ts");
    pack("store/a", "a", "1.0.0", { dependencies: { b: "2" } });
    put("store/a/src/index.js", "a");
    pack("store/a/node_modules/b", "b", "2.0.0");
    pack("store/b", "b", "1.0.0", { optionalDependencies: { absent: "1" } });
    mkdirSync(join(root, "tools/demo/node_modules"));
    symlinkSync(join(root, "store/a"), join(root, "tools/demo/node_modules/a"));
    symlinkSync(join(root, "store/b"), join(root, "tools/demo/node_modules/b"));

    const tree = new PackageTree(join(root, "out"));
    tree.addProgram(join(root, "tools/demo"), "tools/demo");

    expect(readFileSync(join(root, "out/tools/demo/dist/main.js"), "utf8")).toBe("main");
    expect(existsSync(join(root, "out/tools/demo/dist/main.js.map"))).toBe(false);
    expect(existsSync(join(root, "out/tools/demo/src"))).toBe(false);
    expect(readFileSync(join(root, "out/node_modules/a/src/index.js"), "utf8")).toBe("a");
  });

  it("holds programs that are not built, as files", () => {
    pack("examples", "@moe-a2a-tools/examples", "0.0.0", { dependencies: { a: "1" } });
    put("examples/loop.mjs", "loop");
    put("examples/README.md");
    pack("examples/node_modules/a", "a", "1.0.0");
    new PackageTree(join(root, "out")).addScripts(join(root, "examples"), "examples");
    expect(readFileSync(join(root, "out/examples/loop.mjs"), "utf8")).toBe("loop");
    expect(existsSync(join(root, "out/examples/README.md"))).toBe(false);
    expect(versionAt("node_modules/a")).toBe("1.0.0");
  });

  it("keeps two versions apart: each asks for its own", () => {
    pack("tools/demo", "@moe-a2a-tools/demo", "0.0.0", { dependencies: { b: "1", a: "1" } });
    pack("tools/demo/node_modules/b", "b", "1.0.0");
    pack("tools/demo/node_modules/a", "a", "1.0.0", { dependencies: { b: "2" } });
    pack("tools/demo/node_modules/a/node_modules/b", "b", "2.0.0");
    new PackageTree(join(root, "out")).addProgram(join(root, "tools/demo"), "tools/demo");
    expect(versionAt("node_modules/b")).toBe("1.0.0");
    expect(versionAt("node_modules/a/node_modules/b")).toBe("2.0.0");
  });

  it("says what is missing", () => {
    pack("tools/demo", "@moe-a2a-tools/demo", "0.0.0", { dependencies: { absent: "1" } });
    const tree = new PackageTree(join(root, "out"));
    expect(() => tree.addProgram(join(root, "tools/demo"), "tools/demo")).toThrow("needs absent");
  });
});
