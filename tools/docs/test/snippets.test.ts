import { existsSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import { documents, packageFolders, parseDocument, ROOT } from "../src/documents.js";
import { emptyFolder, runProblem, syntaxProblems, typeProblems, writeSnippet } from "../src/run.js";
import { isFragment, isProgram, placeOf, ranksOf, type Snippet, snippetsOf } from "../src/snippets.js";

const RUN_LIMIT_MS = 20_000;
/** A run's limit, and as much again for a busy machine. */
const TEST_LIMIT_MS = 2 * RUN_LIMIT_MS;

const all = documents().flatMap(snippetsOf);
const programs = all.filter(isProgram);
const whole = programs.filter((snippet) => !isFragment(snippet));
const fragments = programs.filter(isFragment);

const byPlace = (snippets: readonly Snippet[]) => snippets.map((s) => [placeOf(s), s] as const);

describe("documentation", () => {
  it("has a README for the repository and for every package", () => {
    const missing = [".", ...packageFolders()].filter((folder) => !existsSync(`${ROOT}/${folder}/README.md`));
    expect(missing).toEqual([]);
  });

  it("names the language of every fenced block in a way that these tests know", () => {
    const unknown = all.filter(({ language }) => !["js", "ts", "sh", "json", "text"].includes(language));
    expect(unknown.map(placeOf)).toEqual([]);
  });

  it("runs nearly all of its programs", () => {
    expect(whole.length).toBeGreaterThan(5 * fragments.length);
  });
});

describe("snippets", () => {
  const files = new Map<Snippet, string>();
  let types: Map<string, string[]>;

  beforeAll(() => {
    const folder = emptyFolder("snippets");
    for (const snippet of programs) files.set(snippet, writeSnippet(folder, snippet));
    const typed = whole.filter(({ language }) => language === "ts");
    types = typeProblems(typed.map((snippet) => files.get(snippet) as string));
  }, 60_000);

  it.each(byPlace(whole))("%s runs by itself", { timeout: TEST_LIMIT_MS }, async (_, snippet) => {
    const file = files.get(snippet) as string;
    expect(types.get(file)).toBeUndefined();
    const problem = await runProblem(file, { timeoutMs: RUN_LIMIT_MS, ranks: ranksOf(snippet) });
    expect(problem).toBeUndefined();
  });

  it.runIf(fragments.length > 0).each(byPlace(fragments))("%s parses", (_, snippet) => {
    expect(syntaxProblems(files.get(snippet) as string)).toEqual([]);
  });
});

describe("a snippet that does not work is reported", () => {
  const folder = emptyFolder("self-test");
  let number = 0;
  const write = (language: string, text: string): string => {
    const document = parseDocument(`bad-${number++}.md`, `# Title\n\n\`\`\`${language}\n${text}\n\`\`\`\n`);
    const [snippet] = snippetsOf(document);
    return writeSnippet(folder, snippet as Snippet);
  };

  it("that fails an assertion, with the line of the document", async () => {
    const file = write("js", 'import assert from "node:assert/strict";\nassert.equal(1 + 1, 3);');
    expect(await runProblem(file)).toMatch(/exit code 1:[\s\S]*2 !== 3[\s\S]*bad-\d+\.md-3\.js:5/);
  });

  it("that fails after it was stripped of its types, too", async () => {
    const file = write(
      "ts",
      'interface A { n: number }\nconst a = { n: 1 } as A;\nthrow new Error("no " + a.n);',
    );
    expect(typeProblems([file]).size).toBe(0);
    expect(await runProblem(file)).toMatch(/bad-\d+\.md-3\.ts:6[\s\S]*Error: no 1/);
  });

  it("that imports what its package does not depend on", async () => {
    expect(await runProblem(write("js", 'import "@moe-a2a/nothing";'))).toMatch(/ERR_MODULE_NOT_FOUND/);
  });

  it("that does not end", async () => {
    const file = write("js", "setInterval(() => {}, 1000);");
    expect(await runProblem(file, { timeoutMs: 500 })).toBe("did not end within 500 ms");
  });

  it("that fails on one of its ranks", async () => {
    const file = write("js ranks=2", 'if (process.env.RANK === "1") throw new Error("on the second");');
    expect(await runProblem(file, { ranks: 2 })).toMatch(/exit code 1:[\s\S]*\[1\] Error: on the second/);
  });

  it("that leaves a promise unsettled", async () => {
    expect(await runProblem(write("js", "await new Promise(() => {});"))).toMatch(/exit code 13/);
  });

  it("that warns", async () => {
    const file = write("js", 'process.emitWarning("careful");');
    expect(await runProblem(file)).toMatch(/standard error:[\s\S]*careful/);
  });

  it("that has a type error, or reads an index without a check", () => {
    const wrong = write("ts", 'import { tensor } from "@moe-a2a/core";\ntensor("float33", [1]);');
    const loose = write(
      "ts",
      "const list: number[] = [];\nconst first: number = list[0];\nconsole.log(first);",
    );
    const problems = typeProblems([wrong, loose]);
    expect(problems.get(wrong)?.[0]).toMatch(/^line 5: TS2345: .*"float33"/);
    expect(problems.get(loose)?.[0]).toMatch(/^line 5: TS2322/);
  });

  it.each(["js", "ts"])("that is a %s fragment and does not parse", (language) => {
    const file = write(`${language} no-run`, "await a2a.dispatch({ payloads: [ };");
    expect(syntaxProblems(file)[0]).toMatch(/^line 4: TS1/);
    expect(syntaxProblems(write(`${language} no-run`, "await a2a.dispatch(input).ready();"))).toEqual([]);
  });
});
