import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { FULL, QUICK } from "./cpu/plan.js";
import { cpuTables, measureCpu } from "./cpu/report.js";
import { writePage } from "./page/page.js";

const help = `Measures a backend next to what the machine can do in the same run.

  npm run bench -- [options]

  --backend NAME  js or cuda; default js
  --quick         under a minute instead of several: js without the curves, cuda without the single factors
  --samples N     of each figure, of which the median counts
  --sample-ms N   how long a sample takes, about; js
  --json FILE     writes all figures there
  --page          measures nothing, and writes tables and plot of docs/performance.md from docs/figures/cpu-bench.json
  --help          this text`;

function count(name: string, text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 1) return value;
  throw new Error(`--${name} is "${text}"; it must be an integer from 1 on`);
}

/** The GPUs have a benchmark of their own, which GPU runs use too. @returns its exit code */
function benchGpus({ quick, samples, json }: { quick: boolean; samples?: string; json?: string }): number {
  const script = fileURLToPath(new URL("../../gpu/dist/bench-main.js", import.meta.url));
  const options = [
    ...(quick ? [] : ["--all"]),
    ...(samples === undefined ? [] : ["--samples", samples]),
    ...(json === undefined ? [] : ["--json", json]),
  ];
  const { status, error } = spawnSync(process.execPath, [script, ...options], { stdio: "inherit" });
  if (error) throw error;
  return status ?? 1;
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
  const { samples, "sample-ms": sampleMs } = values;
  if (values.backend === "cuda") {
    process.exitCode = benchGpus(values);
    return;
  }
  if (values.backend !== "js") throw new Error(`--backend is "${values.backend}"; it is js or cuda`);
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
