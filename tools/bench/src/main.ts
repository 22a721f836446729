import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { FULL, QUICK } from "./cpu/plan.js";
import { cpuTables, measureCpu } from "./cpu/report.js";
import { writePage } from "./page/page.js";

const help = `Measures a backend next to what the machine can do in the same run.

  npm run bench -- [options]

  --backend NAME  js; default js
  --quick         under a minute instead of several, without the curves
  --samples N     of each figure, of which the median counts
  --sample-ms N   how long a sample takes, about
  --json FILE     writes all figures there
  --page          measures nothing, and writes tables and plot of docs/performance.md from docs/figures/cpu-bench.json
  --help          this text`;

function count(name: string, text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 1) return value;
  throw new Error(`--${name} is "${text}"; it must be an integer from 1 on`);
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      backend: { type: "string", default: "js" },
      quick: { type: "boolean", default: false },
      samples: { type: "string" },
      "sample-ms": { type: "string" },
      json: { type: "string" },
      page: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(help);
    return;
  }
  if (values.page) {
    writePage(new URL("../../../docs/", import.meta.url));
    return;
  }
  if (values.backend !== "js") throw new Error(`--backend is "${values.backend}"; it is js`);
  const { samples, "sample-ms": sampleMs } = values;
  const plan = {
    ...(values.quick ? QUICK : FULL),
    ...(samples === undefined ? {} : { samples: count("samples", samples) }),
    ...(sampleMs === undefined ? {} : { sampleMs: count("sample-ms", sampleMs) }),
  };
  const report = await measureCpu(plan, (what) => console.error(what));
  console.log(cpuTables(report));
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(report, null, 2)}\n`);
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 2;
});
