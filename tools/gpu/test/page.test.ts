import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { rowsSentTo } from "../src/page/model.js";
import { readPage, renderPage, writePage } from "../src/page/page.js";
import { report } from "./samples.js";

const root = new URL("../../../", import.meta.url);

describe("the GPU section of docs/performance.md", () => {
  it("is what the kept figures give, and says of which commit they are", () => {
    const { markdown, made } = readPage(root);
    expect(markdown).toBe(made.markdown);
    expect(markdown).toMatch(/^Measured with the kernels of commit [0-9a-f]{12}/m);
    for (const [name, plot] of made.plots) {
      expect(readFileSync(new URL(`docs/figures/${name}`, root), "utf8")).toBe(plot);
    }
  });

  it("keeps nothing of a report without a benchmark", () => {
    expect(() => writePage(root, report())).toThrow("no run of the benchmark");
  });

  it("says so where there is no benchmark, and where it has no place", () => {
    const { markdown } = readPage(root);
    const reference = { ranks: 4, storeGBs: 349, rows: [] } as never;
    expect(renderPage(markdown, report(), reference).markdown).toContain("Nothing was measured yet.");
    expect(() => renderPage("# Performance", report(), reference)).toThrow("no place between");
  });

  it("shows what the library chooses next to the forms that it could have chosen, where those were measured", () => {
    const { markdown } = readPage(root);
    const reference = { ranks: 4, storeGBs: 349, rows: [] } as never;
    const pageOf = (...shapes: string[]) => {
      const rows = shapes.map((shape, i) => ({ shape, tokens: 8, slots: 8, round: 10 + i }));
      const figures = { ranks: 2, samples: 5, roundsPerGraph: 20, rows };
      const run = report().runs[0]!;
      const bench = { name: "bench", status: "passed", seconds: 1, figures } as never;
      return renderPage(markdown, { ...report(), runs: [{ ...run, steps: [bench] }] }, reference).markdown;
    };
    expect(pageOf("deepseek", "deepseek 8 SMs")).not.toContain("Forms on the wire");
    const page = pageOf("deepseek", "deepseek in rows", "deepseek in pushed rows");
    expect(page).toContain("Forms on the wire");
    expect(page).toContain("| deepseek in rows | 11.0 |");
  });

  it("shows what the host takes once it is warm, next to a launch alone, where those were measured", () => {
    const { markdown } = readPage(root);
    const reference = { ranks: 4, storeGBs: 349, rows: [] } as never;
    const rows = [{ shape: "deepseek", tokens: 1, slots: 1, round: 14 }];
    const host = { dispatch: 4.5, combine: 4.25, replay: 7 };
    const pageOf = (more: object, ...others: object[]) => {
      const figures = { ranks: 2, samples: 5, roundsPerGraph: 20, rows, ...more };
      const steps = [{ name: "bench", status: "passed", seconds: 1, figures }, ...others] as never;
      return renderPage(markdown, { ...report(), runs: [{ ...report().runs[0]!, steps }] }, reference)
        .markdown;
    };
    const probe = {
      name: "probe",
      status: "passed",
      seconds: 1,
      figures: { pingPongNs: 1, launchHostUs: 3.2 },
    };
    expect(pageOf({}, probe)).not.toContain("Host, warm");
    expect(pageOf({ host })).toContain("| in all | 4.50 | 4.25 | 7.00 | – |\n");
    expect(pageOf({ host })).not.toContain("beyond a launch");
    const page = pageOf({ host }, probe);
    expect(page).toContain("| in all | 4.50 | 4.25 | 7.00 | 3.20 |");
    expect(page).toContain("| beyond a launch | 1.30 | 1.05 | 3.80 |  |");
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
