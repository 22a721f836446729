import { describe, expect, it } from "vitest";
import { documents, parseDocument } from "../src/documents.js";
import { linkProblem, linksOf } from "../src/links.js";

describe("links", () => {
  it.each(documents().map((document) => [document.path, document] as const))(
    "of %s lead somewhere",
    (_, document) => {
      const problems = linksOf(document).flatMap((link) => {
        const problem = linkProblem(link);
        return problem === undefined ? [] : [`line ${link.line}: ${problem}`];
      });
      expect(problems).toEqual([]);
    },
  );

  it("reports those that lead nowhere", () => {
    const markdown = `# One heading

[here](#one-heading) [nowhere](#two-headings) [a folder](../packages/core) [a file](../README.md)
[gone](../packages/gone/README.md) [no such heading](../CONTRIBUTING.md#nothing-at-all) [outside](../../x)
[built](../packages/core/dist/index.js) [elsewhere](https://example.com) [broken](https://)

![image](gone.png) [code](../package.json#L3) [by name]

[by name]: ./gone.md
`;
    const document = parseDocument("docs/self-test.md", markdown);
    expect(
      linksOf(document).map((link) => `${link.line}: ${linkProblem(link) ?? "ok"}`),
    ).toMatchInlineSnapshot(`
      [
        "3: ok",
        "3: #two-headings: docs/self-test.md has no heading #two-headings",
        "3: ok",
        "3: ok",
        "4: ../packages/gone/README.md: there is no packages/gone/README.md",
        "4: ../CONTRIBUTING.md#nothing-at-all: CONTRIBUTING.md has no heading #nothing-at-all",
        "4: ../../x leads out of the repository",
        "5: ../packages/core/dist/index.js leads to a generated file",
        "5: ok",
        "5: https:// is no URL",
        "7: gone.png: there is no docs/gone.png",
        "7: ../package.json#L3: only Markdown files have anchors",
        "9: ./gone.md: there is no docs/gone.md",
      ]
    `);
  });
});
