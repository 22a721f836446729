import { readFileSync } from "node:fs";
import { join } from "node:path";
import { toString as textOf } from "mdast-util-to-string";
import { visit } from "unist-util-visit";
import { describe, expect, it } from "vitest";
import { ROOT, readDocument } from "../src/documents.js";
import { errorDetails } from "../src/error-details.js";
import { tableWith } from "../src/tables.js";

const document = readDocument("docs/troubleshooting.md");

/** Sources that make up a backend's status. */
const STATUS_SOURCES = [
  "packages/cuda/src/loader.ts",
  "packages/cuda/src/status.ts",
  "packages/sglang/src/create.ts",
  "packages/sglang/src/cuda.ts",
];

describe("troubleshooting", () => {
  it("has an entry for every error code, and no other", () => {
    const headings: string[] = [];
    visit(document.tree, "heading", (node) => {
      const text = textOf(node);
      if (text.startsWith("ERR_")) headings.push(text);
    });
    expect(headings).toEqual([...errorDetails().keys()]);
  });

  it.each([...errorDetails()])("speaks of what %s carries", (code, fields) => {
    const text = readFileSync(join(ROOT, document.path), "utf8");
    const [, entry = ""] = text.split(`### ${code}\n`);
    const [own = ""] = entry.split(/^##/m);
    expect(fields.filter((field) => !own.includes(`\`${field}\``))).toEqual([]);
  });

  it("has a row for every code of a backend's status, and no other", () => {
    const codes = STATUS_SOURCES.flatMap((path) => {
      const source = readFileSync(join(ROOT, path), "utf8");
      return [...source.matchAll(/"(CUDA_[A-Z_]+)"/g)].map(([, code]) => code as string);
    });
    const { rows } = tableWith(document, "code", "what is the matter", "what to do");
    expect(rows.map(([code]) => code?.code[0]).sort()).toEqual([...new Set(codes)].sort());
  });
});
