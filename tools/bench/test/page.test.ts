import { expect, it } from "vitest";
import { readFigures, readPage, renderPage } from "../src/page/page.js";

const docs = new URL("../../../docs/", import.meta.url);
const figures = readFigures(docs);
const page = readPage(docs);

it("docs/performance.md and its plot are what the kept figures say; npm run bench -- --page makes them so", () => {
  expect(renderPage(page.markdown, figures)).toEqual(page);
});

it("figures that change change the page", () => {
  const { report, steps } = figures;
  const summary = { ...report.summary, combineVsScalar: 1234 };
  expect(renderPage(page.markdown, { report: { ...report, summary }, steps }).markdown).toContain(
    "| `combineVsScalar` | ≥ 3 | 1230 |",
  );
});

it("the kept figures are of a whole run", () => {
  const { curves = [], idleThreads2, idleThreads4 } = figures.report.details;
  expect(curves.map(({ over }) => over)).toEqual(["ranks", "ranks", "tokens", "topK", "hidden"]);
  expect([idleThreads2.length, idleThreads4.length]).toEqual([2, 4]);
  expect(figures.report.plan.samples).toBeGreaterThanOrEqual(5);
});

it("a page without a place for figures is refused", () => {
  expect(() => renderPage("# Performance\n", figures)).toThrow(/no place/);
});
