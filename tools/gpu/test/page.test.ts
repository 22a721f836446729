import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { rowsSentTo } from "../src/page/model.js";
import { readPage, renderPage } from "../src/page/page.js";
import { report } from "./samples.js";

const root = new URL("../../../", import.meta.url);

describe("the GPU section of docs/performance.md", () => {
  it("is what the kept report gives", () => {
    const { markdown, made } = readPage(root);
    expect(markdown).toBe(made.markdown);
    for (const [name, plot] of made.plots) {
      expect(readFileSync(new URL(`docs/figures/${name}`, root), "utf8")).toBe(plot);
    }
  });

  it("says so where there is no benchmark, and where it has no place", () => {
    const { markdown } = readPage(root);
    const reference = { ranks: 4, storeGBs: 349, rows: [] } as never;
    expect(renderPage(markdown, report(), reference).markdown).toContain("measured nothing");
    expect(() => renderPage("# Performance", report(), reference)).toThrow("no place between");
  });
});

describe("the model", () => {
  it("counts the rows that a token sends to other ranks", () => {
    expect(rowsSentTo(1, 8, 256)).toBe(0);
    expect(rowsSentTo(4, 8, 256)).toBeCloseTo(2.71, 2);
    expect(rowsSentTo(4, 8, 128)).toBeCloseTo(2.72, 2);
    expect(rowsSentTo(4, 4, 128)).toBeCloseTo(2.07, 2);
  });
});
