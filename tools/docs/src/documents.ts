import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, posix, sep } from "node:path";
import { fileURLToPath } from "node:url";
import type { Root } from "mdast";
import remarkGfm from "remark-gfm";
import remarkParse from "remark-parse";
import { unified } from "unified";

/** The repository. */
export const ROOT: string = fileURLToPath(new URL("../../..", import.meta.url));

/** A Markdown file. */
export interface Document {
  /** From the repository's root, with forward slashes. */
  readonly path: string;
  readonly tree: Root;
}

const parser = unified().use(remarkParse).use(remarkGfm);

export function parseDocument(path: string, markdown: string): Document {
  return { path, tree: parser.parse(markdown) };
}

export function readDocument(path: string): Document {
  return parseDocument(path, readFileSync(join(ROOT, path), "utf8"));
}

/** The folders below `packages/`. */
export function packageFolders(): string[] {
  return readdirSync(join(ROOT, "packages"), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => `packages/${entry.name}`);
}

/** The files that readers of the repository and of the packages see. */
export function documents(): Document[] {
  const decisions = readdirSync(join(ROOT, "docs"), { recursive: true, encoding: "utf8" })
    .map((path) => posix.join("docs", path.split(sep).join("/")))
    // The API reference is generated, and its links are typedoc's affair.
    .filter((path) => path.endsWith(".md") && !path.startsWith("docs/api/"));
  const readmes = packageFolders().map((folder) => `${folder}/README.md`);
  return ["README.md", "CONTRIBUTING.md", "kernels/README.md", "examples/README.md", ...decisions, ...readmes]
    .filter((path) => existsSync(join(ROOT, path)))
    .sort()
    .map(readDocument);
}
