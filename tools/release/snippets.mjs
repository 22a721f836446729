// The programs of a README, as a user's project would hold them: as ES modules and as CommonJS.
import { readFileSync } from "node:fs";
import ts from "typescript";

/** The whole programs of a Markdown file: `{ line, ranks, code }`, stripped of types. */
export function programsOf(file) {
  const text = readFileSync(file, "utf8");
  const programs = [];
  for (const match of text.matchAll(/^```(js|ts)\b(.*)\n([\s\S]*?)^```$/gm)) {
    const [, language, words, source] = match;
    if (/\bno-run\b/.test(words)) continue;
    const line = text.slice(0, match.index).split("\n").length;
    const ranks = /\branks=(\d+)/.exec(words)?.[1];
    programs.push({ line, ranks, code: language === "ts" ? stripTypes(source) : source });
  }
  return programs;
}

function stripTypes(source) {
  const { ESNext } = ts.ModuleKind;
  const compilerOptions = { target: ts.ScriptTarget.ES2022, module: ESNext, verbatimModuleSyntax: true };
  return ts.transpileModule(source, { compilerOptions }).outputText;
}

/** The same program with require() instead of import, in an async function as it may await. */
export function toCommonJs(code) {
  const body = code
    .replace(/^import (\w+) from ("[^"]+");/gm, "const $1 = require($2);")
    .replace(/^import \* as (\w+) from ("[^"]+");/gm, "const $1 = require($2);")
    .replace(/^import \{([^}]*)\} from ("[^"]+");/gm, (_, names, from) => {
      return `const {${names.replaceAll(" as ", ": ")}} = require(${from});`;
    })
    .replaceAll("import.meta.url", 'require("node:url").pathToFileURL(__filename)');
  if (/^import\b/m.test(body)) throw new Error(`an import is left in:\n${body}`);
  return `"use strict";\n(async () => {\n${body}\n})();\n`;
}
