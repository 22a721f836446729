import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { packageFolders, ROOT, readDocument } from "../src/documents.js";
import { readManifest } from "../src/manifests.js";
import { snippetsOf } from "../src/snippets.js";
import { tableWith } from "../src/tables.js";

describe("README", () => {
  const { rows } = tableWith(readDocument("README.md"), "package", "folder");
  const listed = rows.map(([name, folder]) => ({ name: name?.code[0], folder: folder?.code[0] }));

  it("lists every package with its folder, and no other", () => {
    const real = packageFolders().map((folder) => ({ name: readManifest(folder).name, folder }));
    expect([...listed].sort((a, b) => (a.name ?? "").localeCompare(b.name ?? ""))).toEqual(
      real.sort((a, b) => a.name.localeCompare(b.name)),
    );
  });
});

describe("CONTRIBUTING", () => {
  const trees = snippetsOf(readDocument("CONTRIBUTING.md")).filter(({ words }) => words.includes("tree"));

  it("has a tree whose folders and files exist", () => {
    const paths = trees.flatMap(({ text }) => text.split("\n")).map((line) => line.split(/\s/, 1)[0] ?? "");
    expect(paths.length).toBeGreaterThan(10);
    expect(paths.filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
  });
});
