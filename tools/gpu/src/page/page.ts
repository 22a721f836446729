import { readFileSync, writeFileSync } from "node:fs";
import type { BenchFigures, Reference } from "../bench/figures.js";
import { parseReport, type Report } from "../report.js";
import type { Probe } from "../step.js";
import { describeGpus } from "../summary.js";
import { plotRounds } from "./plot.js";
import {
  baseCase,
  growth,
  host,
  idleRanks,
  limits,
  type Measured,
  type NcclFigures,
  rounds,
  warmHost,
} from "./tables.js";

const BEGIN = "<!-- GPU figures: made by `npm run gpu:report -- page` -->";
const END = "<!-- end of GPU figures -->";

/** The benchmarks of a report, the most GPUs first, each with what the same run measured beside it. */
function measuredIn(report: Report): { readonly name: string; readonly measured: Measured }[] {
  const found = report.runs.flatMap((run) => {
    const figures = (step: string) =>
      run.steps.find((s) => s.name === step && s.status === "passed")?.figures;
    const bench = figures("bench") as BenchFigures | undefined;
    if (!bench) return [];
    const probe = figures("probe") as Probe | undefined;
    const nccl = figures("nccl") as NcclFigures | undefined;
    const name = `${describeGpus(run.machine)}, driver ${run.machine.driver}, ${run.date.slice(0, 10)}`;
    return [{ name, measured: { figures: bench, probe, nccl } }];
  });
  return found.sort((a, b) => b.measured.figures.ranks - a.measured.figures.ranks);
}

const NAMES = {
  models: ["deepseek", "qwen3", "gpt-oss", "kimi-k2", "top-22", "deepseek fp8"],
  routing: ["deepseek", "deepseek zipf", "deepseek hot", "deepseek local", "deepseek remote"],
  forms: ["deepseek", "deepseek in rows", "deepseek in pushed rows"],
  formsOfFewSms: ["deepseek 16 SMs", "deepseek 16 SMs in rows", "deepseek 16 SMs in pushed rows"],
  sms: ["deepseek 8 SMs", "deepseek 16 SMs", "deepseek 32 SMs", "deepseek 64 SMs", "deepseek"],
};

/** What the library chooses next to what it could have chosen, where that was measured. */
function forms(measured: Measured): string[] {
  const isForced = (names: readonly string[]) =>
    measured.figures.rows.some((row) => names.slice(1).includes(row.shape));
  const tables = [NAMES.forms, NAMES.formsOfFewSms].filter(isForced).map((names) => rounds(measured, names));
  const title =
    "**Forms on the wire.** What the library chooses, and the same rounds with one form for all sizes.";
  return tables.length > 0 ? [title, ...tables] : [];
}

/** Where that was measured. */
function warm(measured: Measured): string[] {
  const figures = warmHost(measured);
  const title =
    "**Host, warm.** The calls of rounds of one token, one after another while the GPUs keep up, in µs; a phase is a launch, " +
    "an event behind it and what the library does.";
  return figures ? [title, figures] : [];
}

function section(name: string, measured: Measured, reference: Reference, plot: string): string {
  const { figures, nccl } = measured;
  const versions = nccl ? ` NCCL ${nccl.nccl} with PyTorch ${nccl.torch}.` : "";
  return [
    `### ${name}`,
    `${figures.ranks} ranks, one per GPU. Medians of ${figures.samples} samples in µs, of the slowest rank; rounds are of ` +
      `${figures.roundsPerGraph} in one CUDA graph.${versions}`,
    limits(measured),
    "**DeepSeek-V3** (hidden 7168, top 8 of 256, bfloat16): hidden states, ids and weights out, results back.",
    baseCase(measured, reference),
    `![Microseconds per round over tokens per rank](figures/${plot})`,
    "**Models.**",
    rounds(measured, NAMES.models),
    "**Routing.**",
    rounds(measured, NAMES.routing),
    "**Idle ranks.**",
    idleRanks(measured),
    "**Fewer SMs** (`maxSms`), to leave the others to experts.",
    rounds(measured, NAMES.sms),
    ...forms(measured),
    "**Host**, to enqueue, in µs.",
    host(measured),
    ...warm(measured),
    "**More ranks** of one NVLink domain, by the model: what the bytes of a round take at the rate of this run's stores. Not measured.",
    growth(measured),
  ]
    .filter(Boolean)
    .join("\n\n");
}

const plotName = ({ figures }: Measured): string => `gpu-rounds-${figures.ranks}.svg`;

/** The page with its figures, and its plots by file name. @throws where the page has no place for them */
export function renderPage(
  markdown: string,
  report: Report,
  reference: Reference,
): { readonly markdown: string; readonly plots: ReadonlyMap<string, string> } {
  const [from, to] = [markdown.indexOf(BEGIN), markdown.indexOf(END)];
  if (from < 0 || to < from) throw new Error(`the page has no place between "${BEGIN}" and "${END}"`);
  const all = measuredIn(report);
  const sections = all.map(({ name, measured }) => section(name, measured, reference, plotName(measured)));
  const origin = `Measured with the kernels of commit ${report.revision}.`;
  const text = sections.length > 0 ? [origin, ...sections].join("\n\n") : "Nothing was measured yet.";
  return {
    markdown: `${markdown.slice(0, from + BEGIN.length)}\n\n${text}\n\n${markdown.slice(to)}`,
    plots: new Map(all.map(({ measured }) => [plotName(measured), plotRounds(measured)])),
  };
}

/** Apart from the report of the last sources, as hosts with several GPUs are rare. */
const FIGURES = "tools/gpu/reports/figures.json";

/** The page as it is, and as the kept figures have it. @param root the repository's */
export function readPage(root: URL) {
  const read = (path: string): string => readFileSync(new URL(path, root), "utf8");
  const report = parseReport(read(FIGURES), "figures.json");
  const reference = JSON.parse(read("tools/gpu/reference/flashinfer.json")) as Reference;
  const markdown = read("docs/performance.md");
  return { markdown, made: renderPage(markdown, report, reference) };
}

/** @param measured replaces the kept figures. @throws where it has none */
export function writePage(root: URL, measured?: Report): void {
  if (measured) {
    const steps = new Set(["probe", "bench", "nccl"]);
    const runs = measured.runs
      .map((run) => ({ ...run, steps: run.steps.filter(({ name }) => steps.has(name)) }))
      .filter((run) => run.steps.some(({ name }) => name === "bench"));
    if (runs.length === 0) throw new Error("the report has no run of the benchmark");
    writeFileSync(new URL(FIGURES, root), `${JSON.stringify({ ...measured, runs }, null, 2)}\n`);
  }
  const { made } = readPage(root);
  writeFileSync(new URL("docs/performance.md", root), made.markdown);
  for (const [name, plot] of made.plots) writeFileSync(new URL(`docs/figures/${name}`, root), plot);
}
