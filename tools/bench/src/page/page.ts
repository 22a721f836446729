import { readFileSync, writeFileSync } from "node:fs";
import type { CpuReport } from "../cpu/report.js";
import { plotCurves } from "./plot.js";
import { cpuSection } from "./section.js";
import { type Steps, stepsTable } from "./steps.js";

/** Everything that is kept and shown. */
export interface Figures {
  readonly report: CpuReport;
  readonly steps: Steps;
}

/** The page, and the plot that it shows. */
export interface Page {
  readonly markdown: string;
  readonly plot: string;
}

/** Puts what was made from figures into a page, between marks of that name. @throws where it has none */
function fill(markdown: string, name: string, content: string): string {
  const [begin, end] = [`<!-- ${name}: made by \`npm run bench -- --page\` -->`, `<!-- end of ${name} -->`];
  const [from, to] = [markdown.indexOf(begin), markdown.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`the page has no place between "${begin}" and "${end}"`);
  return `${markdown.slice(0, from + begin.length)}\n\n${content}\n\n${markdown.slice(to)}`;
}

export function renderPage(markdown: string, { report, steps }: Figures): Page {
  const withFigures = fill(markdown, "CPU figures", cpuSection(report));
  return {
    markdown: fill(withFigures, "CPU steps", stepsTable(steps)),
    plot: plotCurves(report.details.curves ?? []),
  };
}

const files = (docs: URL) => ({
  page: new URL("performance.md", docs),
  report: new URL("figures/cpu-bench.json", docs),
  steps: new URL("figures/cpu-steps.json", docs),
  plot: new URL("figures/cpu-curves.svg", docs),
});

const read = (file: URL): string => readFileSync(file, "utf8");

/** @param docs the folder of the page */
export function readFigures(docs: URL): Figures {
  const { report, steps } = files(docs);
  return { report: JSON.parse(read(report)) as CpuReport, steps: JSON.parse(read(steps)) as Steps };
}

export function readPage(docs: URL): Page {
  const { page, plot } = files(docs);
  return { markdown: read(page), plot: read(plot) };
}

/** Writes the page and its plot anew from the figures that are kept next to them. */
export function writePage(docs: URL): void {
  const { page, plot } = files(docs);
  const made = renderPage(read(page), readFigures(docs));
  writeFileSync(page, made.markdown);
  writeFileSync(plot, made.plot);
}
