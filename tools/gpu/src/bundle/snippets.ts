import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import ts from "typescript";

/** Pages whose programs need a GPU to do their work. */
const PAGES = ["docs/recipes.md", "packages/cuda/README.md"];

/** Packages that a bundle holds, and modules of Node. */
const BUNDLED = /^(node:|@moe-a2a\/)/;

/** The programs of a page that use CUDA and need nothing else, as JavaScript, by file name: that of the page, and the line where they begin. */
export function cudaSnippets(page: string, markdown: string): Map<string, string> {
  const programs = new Map<string, string>();
  const name = page.replace(/(\/README)?\.md$/, "").replaceAll("/", "-");
  for (const match of markdown.matchAll(/^```ts\n([\s\S]*?)^```$/gm)) {
    const source = match[1]!;
    const imports = [...source.matchAll(/from "([^"]+)"/g)].map(([, from]) => from!);
    if (!imports.includes("@moe-a2a/cuda") || !imports.every((from) => BUNDLED.test(from))) continue;
    const line = markdown.slice(0, match.index).split("\n").length;
    const { outputText } = ts.transpileModule(source, {
      compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext },
    });
    programs.set(`${name}-${line}.mjs`, outputText);
  }
  return programs;
}

/** Writes them to a folder of scripts. */
export function addSnippets(root: string, folder: string): void {
  mkdirSync(folder, { recursive: true });
  for (const page of PAGES) {
    for (const [name, code] of cudaSnippets(page, readFileSync(join(root, page), "utf8")))
      writeFileSync(join(folder, name), code);
  }
}
