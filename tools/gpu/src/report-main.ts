import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import type { Reference } from "./bench/figures.js";
import { checkReport } from "./check.js";
import { hashSources } from "./hash.js";
import { writePage } from "./page/page.js";
import { mergeReports, parseReport } from "./report.js";
import { steps } from "./steps.js";
import { formatFigures, formatReport } from "./summary.js";

const help = `Reads and keeps reports of GPU runs.

  npm run gpu:check                              what the kept report covered, and whether it is of these sources
  npm run gpu:report -- show [FILE]              a report with its tables; default the kept one
  npm run gpu:report -- merge FILE FILE …        merges reports of the same sources, and keeps the result
  npm run gpu:report -- page [FILE]              writes tables and plots of docs/performance.md, from what a report has
                                                 measured, which is kept in tools/gpu/reports/figures.json; default that
  --keep FILE                                    where it is kept; default tools/gpu/reports/latest.json`;

const root = fileURLToPath(new URL("../../..", import.meta.url));

function main(): void {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      keep: { type: "string", default: join(root, "tools/gpu/reports/latest.json") },
      help: { type: "boolean", default: false },
    },
  });
  const [command, ...files] = positionals;
  const read = (file: string) => parseReport(readFileSync(file, "utf8"), file);
  if (command === "check") {
    const kept = existsSync(values.keep) ? read(values.keep) : undefined;
    const { ok, text } = checkReport(kept, hashSources(root), Object.keys(steps));
    console.log(text);
    if (!ok) process.exitCode = 1;
  } else if (command === "show" && !values.help) {
    const report = read(files[0] ?? values.keep);
    const reference = join(root, "tools/gpu/reference/flashinfer.json");
    const theirs = JSON.parse(readFileSync(reference, "utf8")) as Reference;
    const tables = report.runs.map((run) => formatFigures(run, theirs));
    console.log([formatReport(report), ...tables].filter(Boolean).join("\n\n"));
  } else if (command === "merge" && files.length > 0) {
    const merged = mergeReports(files.map(read));
    mkdirSync(dirname(values.keep), { recursive: true });
    writeFileSync(values.keep, `${JSON.stringify(merged, null, 2)}\n`);
    console.log(`${formatReport(merged)}\nkept in ${values.keep}`);
  } else if (command === "page" && !values.help) {
    writePage(pathToFileURL(root), files[0] === undefined ? undefined : read(files[0]));
  } else {
    console.log(help);
    if (!values.help) process.exitCode = 2;
  }
}

try {
  main();
} catch (error) {
  console.error((error as Error).message);
  process.exitCode = 2;
}
