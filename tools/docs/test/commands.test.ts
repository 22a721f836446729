import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { commandProblem, commandsOf } from "../src/commands.js";
import { documents, parseDocument, ROOT } from "../src/documents.js";
import { readManifest } from "../src/manifests.js";

describe("commands", () => {
  it.each(documents().map((document) => [document.path, document] as const))("of %s exist", (_, document) => {
    const problems = commandsOf(document).flatMap((command) => {
      const problem = commandProblem(command);
      return problem === undefined ? [] : [`line ${command.line}: ${command.text}: ${problem}`];
    });
    expect(problems).toEqual([]);
  });

  it("of the workflows exist", () => {
    const folder = join(ROOT, ".github/workflows");
    const scripts = readdirSync(folder).flatMap((file) => {
      const text = readFileSync(join(folder, file), "utf8");
      return [...text.matchAll(/\bnpm (?:run )?([a-z][a-z:-]*)/g)].map(([, script]) => script as string);
    });
    expect(scripts.length).toBeGreaterThan(5);
    const known = Object.keys(readManifest(".").scripts ?? {});
    expect(scripts.filter((script) => !known.includes(script))).toEqual([]);
  });

  it("reports those that do not", () => {
    const markdown = `Run \`npm run lint\`, or \`npm run no-such-script\`.

\`\`\`sh
npm start              # a comment
npm run no-such-script
npm install @moe-a2a/core @moe-a2a/gone
npx no-such-program
npx @moe-a2a/sglang run --ranks 2 script.mjs --its-own
npx @moe-a2a/sglang run --rank=2 script.mjs
npx @moe-a2a/sglang walk
npx @moe-a2a/core
rm -rf dist
\`\`\`
`;
    const commands = commandsOf(parseDocument("self-test.md", markdown));
    expect(
      commands.map((command) => `${command.line}: ${commandProblem(command) ?? "ok"}`),
    ).toMatchInlineSnapshot(`
      [
        "4: ok",
        "5: no script "no-such-script"",
        "6: @moe-a2a/gone is no package of this repository",
        "7: the root installs no program "no-such-program"",
        "8: ok",
        "9: the help of run has no --rank=2",
        "10: moe-a2a: there is no command "walk"",
        "11: the root installs no program "@moe-a2a/core"",
        "12: "rm" is not npm or npx, so nobody checks it",
        "1: ok",
        "1: no script "no-such-script"",
      ]
    `);
  });
});
