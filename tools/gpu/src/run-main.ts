import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { Reference } from "./bench/figures.js";
import { Executor } from "./exec.js";
import { describeMachine } from "./machine.js";
import { type GpuRun, type Report, SCHEMA, type StepResult } from "./report.js";
import type { StepContext } from "./step.js";
import { chooseSteps, steps } from "./steps.js";
import { formatFigures, formatReport } from "./summary.js";

const help = `Runs what the bundle holds on this machine's GPUs, and writes one report.

  sh run.sh [options]

  --steps LIST         of: all, ${Object.keys(steps).join(", ")},
                       conformance, sanitizer; default all
  --gpus N             uses the first N GPUs; default all
  --budget SECONDS     for the whole run; steps that no time is left for are skipped. Default 570
  --soak-rounds N      random rounds; default 200000
  --replays N          graph replays; default 20000
  --world-rounds N     rounds of the conformance suite's random worlds, per kind of group
  --filter TEXT        only conformance cases whose name holds TEXT; may come more than once
  --samples N          per figure of the benchmark; default 25
  --out FOLDER         where report.json and log.txt go; default ./gpu-run
  --help               this text`;

/** What the bundle was made from. */
type Manifest = Pick<Report, "sources" | "revision">;

const integer = (name: string, text: string): number => {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1)
    throw new Error(`--${name} is "${text}"; it must be an integer from 1 on`);
  return value;
};

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      bundle: { type: "string" },
      steps: { type: "string", default: "all" },
      gpus: { type: "string" },
      budget: { type: "string", default: "570" },
      "soak-rounds": { type: "string", default: "200000" },
      replays: { type: "string", default: "20000" },
      "world-rounds": { type: "string" },
      filter: { type: "string", multiple: true, default: [] },
      samples: { type: "string", default: "25" },
      out: { type: "string", default: "gpu-run" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help || values.bundle === undefined) {
    console.log(help);
    return;
  }
  const { bundle, out } = values;
  const chosen = chooseSteps(values.steps);
  const machine = describeMachine();
  const gpus = Math.min(
    machine.gpus.length,
    values.gpus === undefined ? Number.POSITIVE_INFINITY : integer("gpus", values.gpus),
  );
  const end = performance.now() + integer("budget", values.budget) * 1000;
  mkdirSync(out, { recursive: true });
  const scratch = mkdtempSync(join(tmpdir(), "moe-a2a-"));
  const manifest = JSON.parse(readFileSync(join(bundle, "manifest.json"), "utf8")) as Manifest;
  const reference = JSON.parse(readFileSync(join(bundle, "flashinfer.json"), "utf8")) as Reference;
  const exec = new Executor(join(out, "log.txt"), {
    ...process.env,
    // compute-sanitizer is there, but not always to be found.
    PATH: `${process.env.PATH}:/usr/local/cuda/bin`,
    CUDA_VISIBLE_DEVICES: Array.from({ length: gpus }, (_, g) => g).join(","),
    // A stream of its own for each of the ranks that share a GPU: kernels that wait must not hold up others' queues.
    CUDA_DEVICE_MAX_CONNECTIONS: "32",
  });
  const context: StepContext = {
    bundle,
    exec,
    gpus,
    left: () => (end - performance.now()) / 1000,
    options: {
      soakRounds: integer("soak-rounds", values["soak-rounds"]),
      replays: integer("replays", values.replays),
      worldRounds:
        values["world-rounds"] === undefined ? undefined : integer("world-rounds", values["world-rounds"]),
      filters: values.filter,
      samples: integer("samples", values.samples),
    },
    probe: undefined,
    scratch: (name) => join(scratch, name),
  };

  const date = new Date().toISOString();
  const results: StepResult[] = [];
  const report = (): Report => {
    const visible = { ...machine, gpus: machine.gpus.slice(0, gpus) };
    const run: GpuRun = { date, machine: visible, options: process.argv.slice(4), steps: results };
    return { schema: SCHEMA, ...manifest, runs: [run] };
  };
  for (const name of chosen) {
    const step = steps[name]!;
    const limit = Math.min(step.limit, context.left() - 2);
    const start = performance.now();
    const result =
      gpus === 0
        ? { status: "skipped" as const, detail: "there is no GPU" }
        : limit < 10
          ? { status: "skipped" as const, detail: "no time was left for it" }
          : await step.run(context, limit);
    results.push({ name, seconds: Math.round((performance.now() - start) / 100) / 10, ...result });
    console.error(`${result.status.padEnd(7)} ${name}`);
    // After each step, so that a run that is cut off leaves what it has.
    writeFileSync(join(out, "report.json"), `${JSON.stringify(report(), null, 2)}\n`);
  }
  await exec.close();
  const [run] = report().runs;
  const tables = formatFigures(run!, reference);
  console.log(`${tables ? `${tables}\n\n` : ""}${formatReport(report())}`);
  const passed = results.filter((r) => r.status === "passed").length;
  const bad = results.filter((r) => r.status === "failed" || r.status === "timeout").length;
  console.log(`${passed} steps passed, ${bad} failed, ${results.length - passed - bad} skipped`);
  // A run that ran nothing has shown nothing.
  if (bad > 0 || passed === 0) process.exitCode = 1;
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 2;
});
