import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { ExecResult } from "./exec.js";
import { app, judge, type Outcome, type Probe, parseJson, readJson, type Step } from "./step.js";
import { demo } from "./usage/demo.js";
import { doctor } from "./usage/doctor.js";
import { examples } from "./usage/examples.js";
import { trace } from "./usage/trace.js";

const probe: Step = {
  limit: 60,
  async run(context, limit) {
    const result = await context.exec.run(join(context.bundle, "bin/probe"), [], limit);
    const figures = parseJson(result.stdout);
    context.probe = figures as Probe | undefined;
    return { ...judge(result), figures };
  },
};

/**
 * How the tests of `kernels/` are run: every mapping, more ranks than GPUs, delays, few and very many blocks; in every
 * form in which rows go over the wire; many rounds back to back, whose blocks begin whenever there is room, and those of
 * the next round ahead of their turn; and while kernels of others hold most of each GPU.
 */
function nativeRuns(gpus: number): string[][] {
  const ranks = String(Math.max(2, gpus));
  const rounds = (...options: string[]) => ["rounds_test", "--ranks", ranks, ...options];
  return [
    ["host_test"],
    ["c_api_test"],
    ["stop_test"],
    ...["outlive", "rounds", "release", "ipc"].map((test) => ["share_test", test]),
    ["rounds_test", "--ranks", "1"],
    ...[1, 2].map((kind) => rounds("--kind", String(kind), "--hidden", "72", "--capacity", "300")),
    ...[2, 7, 64].map((splits) => rounds("--kind", "2", "--splits", String(splits), "--hidden", "4096")),
    ...[1, 2].map((by) => rounds("--slots-by", String(by), "--tile", "1", "--capacity", "2000")),
    rounds("--blocks", "1"),
    rounds("--blocks", "20000", "--tile", "1", "--capacity", "600"),
    rounds("--device-count", "1", "--rounds", "200"),
    rounds("--delays", "300000"),
    rounds("--wire", "1"),
    rounds("--wire", "2"),
    rounds("--wire", "2", "--blocks", "2", "--hidden", "300"),
    rounds("--wire", "2", "--hidden", "7168", "--capacity", "300", "--delays", "20000", "--rounds", "20"),
    rounds("--sms", "8", "--hidden", "7168", "--capacity", "900", "--rounds", "10"),
    rounds("--capacity", "20", "--hidden", "7168", "--topk", "8", "--experts", "64", "--rounds", "30"),
    rounds("--capacity", "64", "--hidden", "300", "--extra", "0", "--rounds", "100"),
    ...["8", "32"].map((tokens) => [
      "rounds_test",
      ...["--time", "1", "--ranks", ranks, "--capacity", tokens],
      ...["--hidden", "7168", "--topk", "8", "--experts", "256"],
    ]),
    ...["1", "2"].map((wire) => [
      "rounds_test",
      ...["--time", "1", "--ranks", ranks, "--capacity", "4096", "--wire", wire],
      ...["--hidden", "7168", "--topk", "8", "--experts", "256"],
    ]),
    rounds("--chained", "8", "--capacity", "60", "--hidden", "1024", "--rounds", "60"),
    rounds("--chained", "6", "--capacity", "60", "--wire", "1", "--delays", "3000"),
    rounds("--chained", "9", "--capacity", "4", "--alone", "1", "--delays", "3000"),
    rounds("--chained", "8", "--capacity", "20", "--alone", "1", "--blocks", "20", "--hidden", "2304"),
    ...[
      ["--blocks", "20000", "--tile", "1", "--capacity", "600"],
      ["--slots-by", "2", "--capacity", "2000"],
      ["--wire", "1", "--capacity", "600", "--chained", "4"],
      ["--wire", "2", "--capacity", "300"],
      ["--capacity", "20", "--chained", "3"],
    ].map((options) => rounds("--occupied", "1000", "--rounds", "30", ...options)),
    ["rounds_test", "--ranks", String(2 * gpus), "--rounds", "30", "--occupied", "1000"],
    ["rounds_test", "--ranks", String(4 * gpus), "--rounds", "8", "--capacity", "5000", "--hidden", "256"],
    ["rounds_test", "--ranks", String(3 * gpus), "--rounds", "30"],
    ["rounds_test", "--ranks", String(2 * gpus), "--rounds", "30", "--wire", "2"],
  ];
}

/** The C and CUDA programs that test `kernels/` by themselves. */
const native: Step = {
  limit: 120,
  async run(context, limit) {
    const programs = nativeRuns(context.gpus);
    const end = performance.now() + limit * 1000;
    const failures: string[] = [];
    let timeout = false;
    for (const [program, ...options] of programs) {
      const file = join(context.bundle, "bin/native", program!);
      // One that hangs leaves time for the others.
      const seconds = Math.min(30, (end - performance.now()) / 1000);
      const result = await context.exec.run(file, options, seconds);
      timeout ||= result.code === undefined;
      const last = result.tail.trim().split("\n").at(-1);
      if (result.code !== 0) failures.push(`${program} ${options.join(" ")}: ${last}`);
    }
    const cases = { passed: programs.length - failures.length, failed: failures.length, leftOut: 0 };
    if (failures.length === 0) return { status: "passed", cases };
    return { status: timeout ? "timeout" : "failed", cases, detail: failures.join("\n") };
  },
};

/** Tests of packages/cuda that need a GPU. */
const tests: Step = {
  limit: 120,
  async run(context, limit) {
    const folder = join(context.bundle, "app/node_modules/@moe-a2a/cuda/test/gpu");
    const files = existsSync(folder) ? readdirSync(folder).filter((f) => f.endsWith(".test.js")) : [];
    if (files.length === 0) return { status: "skipped", detail: "the bundle holds none" };
    const args = ["--test", "--test-reporter=tap", "--test-concurrency=1"];
    const result = await context.exec.run(
      process.execPath,
      [...args, ...files.map((f) => join(folder, f))],
      limit,
    );
    const count = (what: string) =>
      Number(new RegExp(`^# ${what} (\\d+)`, "m").exec(result.stdout)?.[1] ?? 0);
    return {
      ...judge(result),
      cases: { passed: count("pass"), failed: count("fail"), leftOut: count("skipped") },
    };
  },
};

/** What a run of the conformance tool printed: counts even where it was ended half-way. */
function conformanceOutcome(result: ExecResult, file: string): Outcome {
  const lines = result.stdout.split("\n");
  const starting = (word: string) => lines.filter((line) => line.startsWith(word));
  const failed = starting("FAIL ");
  const leftOut = starting("left out").concat(starting("not run"));
  const details = readJson(file) as { leftOut?: string[] } | undefined;
  const outcome = judge(result);
  return {
    ...outcome,
    cases: { passed: starting("ok ").length, failed: failed.length, leftOut: leftOut.length },
    ...(failed.length > 0 ? { detail: failed.join("\n") } : {}),
    ...(details?.leftOut?.length ? { figures: { leftOut: details.leftOut } } : {}),
  };
}

function conformance(group: "local" | "threads" | "processes"): Step {
  return {
    limit: 200,
    async run(context, limit) {
      const file = context.scratch(`conformance-${group}.json`);
      const { worldRounds, filters } = context.options;
      const args = ["--backend", "cuda", "--group", group, "--json", file];
      args.push("--deadline", "20000", "--budget", String(Math.max(1, Math.floor(limit - 15))));
      if (worldRounds !== undefined) args.push("--rounds", String(worldRounds));
      for (const filter of filters) args.push("--filter", filter);
      const result = await context.exec.run(
        process.execPath,
        [join(app(context, "conformance"), "main.js"), ...args],
        limit,
      );
      return conformanceOutcome(result, file);
    },
  };
}

const soak: Step = {
  limit: 240,
  async run(context, limit) {
    const { soakRounds, replays } = context.options;
    const args = ["--backend", "cuda", "--ranks", String(Math.max(2, context.gpus))];
    args.push(
      "--rounds",
      String(soakRounds),
      "--replays",
      String(replays),
      "--cycles",
      "100",
      "--seconds",
      String(Math.max(1, Math.floor(limit - 60))),
    );
    const program = join(app(context, "conformance"), "soak-main.js");
    const result = await context.exec.run(process.execPath, [program, ...args], limit);
    return { ...judge(result), figures: parseJson(result.stdout.trim().split("\n").at(-1) ?? "") };
  },
};

/** Cases that touch every kind of memory access, in shapes that stand a hundredfold slowdown. */
const SANITIZED = [
  "zero tokens: on a single rank",
  "shapes: 2 ranks, 5 × 8",
  "statistics: 32 values from 2 ranks",
  "ids: padding slots of the named payload hold -3, 2 ranks",
  "experts: 2 ranks, 7 experts",
  "combine: bfloat16 256 + 1 is a tie",
];

function sanitizer(tool: string): Step {
  return {
    limit: 100,
    async run(context, limit) {
      const program = join(app(context, "conformance"), "main.js");
      const filters = SANITIZED.flatMap((name) => ["--filter", name]);
      const args = ["--tool", tool, "--target-processes", "all", "--error-exitcode", "99", process.execPath];
      // Calls that fail are the backend's own affair, which it handles or reports.
      if (tool === "memcheck") args.splice(2, 0, "--report-api-errors", "no");
      // A thread per rank: a launch that the tool makes wait then holds up its own rank alone.
      const suite = [program, "--backend", "cuda", "--group", "threads", "--deadline", "60000", ...filters];
      const result = await context.exec.run("compute-sanitizer", [...args, ...suite], limit);
      const errors = [...result.stdout.matchAll(/(?:ERROR|RACECHECK) SUMMARY: (\d+)/g)].map((m) =>
        Number(m[1]),
      );
      const outcome = conformanceOutcome(result, "");
      return errors.length === 0 && outcome.status === "passed"
        ? { ...outcome, status: "failed", detail: "compute-sanitizer gave no summary" }
        : { ...outcome, figures: { errors } };
    },
  };
}

const bench: Step = {
  limit: 300,
  async run(context, limit) {
    const file = context.scratch("bench.json");
    const args = ["--all", "--ranks", String(context.gpus), "--samples", String(context.options.samples)];
    args.push("--json", file);
    const storeGBs = context.probe?.storeGBs;
    if (storeGBs !== undefined) args.push("--store-gbs", String(storeGBs));
    const program = join(app(context, "gpu"), "bench-main.js");
    const result = await context.exec.run(process.execPath, [program, ...args], limit);
    return { ...judge(result), figures: readJson(file) };
  },
};

/** NCCL at the same work, where there is PyTorch with it. */
const nccl: Step = {
  limit: 120,
  async run(context, limit) {
    if (context.gpus < 2) return { status: "skipped", detail: "it takes two GPUs" };
    const found = await context.exec.run("python3", ["-c", "import torch"], 60);
    if (found.code !== 0) return { status: "skipped", detail: "there is no PyTorch" };
    const script = join(context.bundle, "nccl.py");
    const result = await context.exec.run("python3", [script, "--ranks", String(context.gpus)], limit);
    return { ...judge(result), figures: parseJson(result.stdout.trim().split("\n").at(-1) ?? "") };
  },
};

/** Random faults: what every other rank is told, and how soon. */
const faults: Step = {
  limit: 240,
  async run(context, limit) {
    const file = context.scratch("faults.json");
    const program = join(app(context, "conformance"), "faults/main.js");
    const args = ["--backend", "cuda", "--scenarios", "120", "--json", file];
    args.push("--budget", String(Math.max(1, Math.floor(limit - 30))));
    const result = await context.exec.run(process.execPath, [program, ...args], limit);
    const { groups } = (readJson(file) ?? {}) as { groups?: unknown };
    return { ...judge(result), figures: groups };
  },
};

/** In the order in which they run: what others build on first. */
export const steps: Readonly<Record<string, Step>> = {
  probe,
  doctor,
  native,
  tests,
  "conformance-local": conformance("local"),
  "conformance-threads": conformance("threads"),
  "conformance-processes": conformance("processes"),
  demo: demo(),
  "demo-processes": demo("--processes"),
  trace,
  examples,
  bench,
  nccl,
  soak,
  faults,
  memcheck: sanitizer("memcheck"),
  racecheck: sanitizer("racecheck"),
  synccheck: sanitizer("synccheck"),
};

const groups: Readonly<Record<string, readonly string[]>> = {
  all: Object.keys(steps),
  conformance: ["conformance-local", "conformance-threads", "conformance-processes"],
  sanitizer: ["memcheck", "racecheck", "synccheck"],
};

/**
 * Steps by name or by group.
 *
 * @throws where there is none of that name
 */
export function chooseSteps(text: string): string[] {
  const names = text.split(",").flatMap((name) => {
    if (!groups[name] && !steps[name]) {
      const known = [...Object.keys(groups), ...Object.keys(steps)].join(", ");
      throw new Error(`there is no step "${name}"; one of: ${known}`);
    }
    return groups[name] ?? [name];
  });
  return Object.keys(steps).filter((name) => names.includes(name));
}
