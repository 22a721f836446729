import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { ExecResult } from "../src/exec.js";
import type { StepContext } from "../src/step.js";
import { doctor } from "../src/usage/doctor.js";
import { examples } from "../src/usage/examples.js";
import { trace } from "../src/usage/trace.js";
import { phase, traceText } from "./samples.js";

type Call = { readonly args: readonly string[]; readonly env: Readonly<Record<string, string>> | undefined };

let folder: string;
let calls: Call[];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "usage-"));
  calls = [];
});
afterEach(() => rmSync(folder, { recursive: true }));

/** A bundle whose programs end as `answer` says. */
const contextOf = (answer: (call: Call) => Partial<ExecResult>): StepContext => ({
  bundle: folder,
  exec: {
    run: async (_, args, __, env) => {
      calls.push({ args, env });
      const given = { code: 0, stdout: "", ...answer({ args, env }) };
      return { seconds: 1, tail: given.stdout, ...given };
    },
  },
  gpus: 2,
  left: () => 100,
  options: { soakRounds: 1, replays: 1, worldRounds: undefined, filters: [], samples: 1 },
  probe: undefined,
  scratch: (name) => join(folder, name),
});

describe("the doctor", () => {
  const cuda = { name: "cuda", status: { available: true }, round: { exact: true, ranks: 2, ms: 80 } };
  const gpus = {
    source: "cuda",
    driver: "580.159.04",
    cuda: "13.0",
    devices: [{ name: "NVIDIA H200" }, { name: "NVIDIA H200" }],
    links: [],
    peerAccess: [],
    peerAtomics: [],
  };
  const ofJson = (diagnosis: object, code = 0) =>
    doctor.run(
      contextOf(() => ({ code, stdout: JSON.stringify({ problems: [], ...diagnosis }) })),
      60,
    );

  it("passes where it finds all GPUs and has played on them, and keeps what it found", async () => {
    expect(await ofJson({ backends: [cuda], gpus })).toEqual({
      status: "passed",
      figures: {
        problems: [],
        driver: "580.159.04",
        cuda: "13.0",
        gpus: ["NVIDIA H200", "NVIDIA H200"],
        links: [],
        peerAccess: [],
        peerAtomics: [],
        rounds: [{ name: "cuda", exact: true, ranks: 2, ms: 80 }],
      },
    });
    expect(calls[0]!.args).toEqual([
      join(folder, "app/node_modules/@moe-a2a/sglang/dist/cli.js"),
      "doctor",
      "--json",
    ]);
  });

  const unavailable = { available: false, reason: "no driver" };
  it.each([
    ["a backend that cannot run", { backends: [{ ...cuda, status: unavailable }], gpus }, "no driver"],
    ["no backend", { gpus }, "cuda is not available: not named"],
    [
      "too few GPUs",
      { backends: [cuda], gpus: { ...gpus, devices: [] } },
      "it lists 0 GPUs, and there are 2",
    ],
    ["no driver", { backends: [cuda], gpus: { ...gpus, driver: undefined } }, "it names no driver"],
    [
      "GPUs of another source",
      { backends: [cuda], gpus: { ...gpus, source: "nvidia-smi" } },
      "not from cuda",
    ],
    ["no round", { backends: [{ ...cuda, round: undefined }], gpus }, "was not played"],
    ["a wrong round", { backends: [{ ...cuda, round: { exact: false } }], gpus }, "was not exact"],
  ])("fails with %s", async (_, diagnosis, detail) => {
    expect(await ofJson(diagnosis)).toMatchObject({
      status: "failed",
      detail: expect.stringContaining(detail),
    });
  });

  it("fails with its exit code, its problems as the reason", async () => {
    expect(await ofJson({ backends: [cuda], gpus, problems: ["an old Node"] }, 1)).toMatchObject({
      status: "failed",
      detail: "an old Node",
    });
    expect((await ofJson({ backends: [cuda], gpus }, 1)).status).toBe("failed");
  });

  it("fails without JSON, and tells that time ran out", async () => {
    expect(
      (
        await doctor.run(
          contextOf(() => ({ stdout: "Backends" })),
          60,
        )
      ).status,
    ).toBe("failed");
    const late = contextOf(() => ({ code: undefined }));
    expect((await doctor.run(late, 60)).status).toBe("timeout");
  });
});

describe("the examples", () => {
  const bundled = (...names: string[]) => {
    mkdirSync(join(folder, "app/examples"), { recursive: true });
    for (const name of names) writeFileSync(join(folder, "app/examples", name), "");
  };
  const printing = (text: string) => contextOf(() => ({ stdout: text }));

  it("are all run, those of processes by the launcher", async () => {
    bundled("serving-loop.mjs", "process-ranks.mjs", "gpu-graph.mjs", "package.json");
    const outcome = await examples.run(printing("replayed with 3 and 0 tokens\n"), 60);
    expect(outcome).toMatchObject({ status: "passed", cases: { passed: 3, failed: 0 } });
    expect(calls.map(({ args }) => args.map((arg) => arg.replace(`${folder}/`, "")))).toEqual([
      ["app/examples/gpu-graph.mjs"],
      ["app/node_modules/@moe-a2a/sglang/dist/cli.js", "run", "--ranks=3", "app/examples/process-ranks.mjs"],
      ["app/examples/serving-loop.mjs"],
    ]);
  });

  it("fail where one does, and where the graph was not replayed", async () => {
    bundled("gpu-graph.mjs", "serving-loop.mjs");
    expect(await examples.run(printing("no CUDA here: no driver\n"), 60)).toMatchObject({
      status: "failed",
      cases: { passed: 1, failed: 1 },
      detail: "gpu-graph.mjs: no CUDA here: no driver",
    });
    const late = contextOf(({ args }) => ({
      code: args[0]!.includes("serving") ? undefined : 0,
      stdout: "replayed with 1 token",
    }));
    expect(await examples.run(late, 60)).toMatchObject({ status: "timeout", cases: { passed: 1 } });
  });

  it("are skipped where the bundle holds none", async () => {
    expect((await examples.run(printing(""), 60)).status).toBe("skipped");
  });
});

describe("the traced demo", () => {
  const ok = "OK requests=32 steps=9 zeroTokenRankSteps=4 mismatches=0 backend=cuda\n";
  const tracing = (text: string | undefined, stdout = ok) =>
    contextOf(({ env }) => {
      if (text !== undefined) writeFileSync(env!.MOE_A2A_TRACE!, text);
      return { stdout };
    });

  it("passes with a trace whose phases the GPU has timed", async () => {
    const text = traceText(phase(), phase({ name: "combine", ts: 20 }));
    expect(await trace.run(tracing(text), 60)).toMatchObject({
      status: "passed",
      figures: { rows: 1, phases: 2 },
    });
  });

  it("fails with phases that lack it, without a trace, and where the demo has failed", async () => {
    const untimed = traceText(phase({ args: {} }));
    expect(await trace.run(tracing(untimed), 60)).toMatchObject({
      status: "failed",
      detail: expect.stringContaining("1 of 1 phases have no device time"),
    });
    rmSync(join(folder, "trace.json"));
    expect(await trace.run(tracing(undefined), 60)).toMatchObject({ detail: "the demo wrote no trace" });
    const js = ok.replace("cuda", "js");
    expect(await trace.run(tracing(traceText(phase()), js), 60)).toMatchObject({
      status: "failed",
      detail: js.trim(),
    });
  });
});
