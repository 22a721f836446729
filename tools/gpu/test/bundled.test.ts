import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { PackageTree } from "../src/bundle/packages.js";
import { addSnippets } from "../src/bundle/snippets.js";
import { Executor } from "../src/exec.js";
import type { StepContext } from "../src/step.js";
import { demoProgram } from "../src/usage/demo.js";
import { doctor } from "../src/usage/doctor.js";
import { examples } from "../src/usage/examples.js";
import { lookAtTrace } from "../src/usage/trace-file.js";

const root = fileURLToPath(new URL("../../..", import.meta.url));

let bundle: string;
let exec: Executor;
let context: StepContext;
beforeAll(() => {
  bundle = mkdtempSync(join(tmpdir(), "bundled-"));
  const tree = new PackageTree(join(bundle, "app"));
  tree.addProgram(join(root, "tools/demo"), "tools/demo");
  tree.addScripts(join(root, "examples"), "examples");
  addSnippets(root, join(bundle, "app/examples"));
  // No GPU, where there is one either: what is looked at is how the steps meet the packages.
  exec = new Executor(join(bundle, "log.txt"), { ...process.env, CUDA_VISIBLE_DEVICES: "" });
  context = {
    bundle,
    exec,
    gpus: 0,
    left: () => 100,
    options: { soakRounds: 1, replays: 1, worldRounds: undefined, filters: [], samples: 1 },
    probe: undefined,
    scratch: (name) => join(bundle, name),
  };
}, 30_000);
afterAll(async () => {
  await exec.close();
  rmSync(bundle, { recursive: true });
});

describe("without a GPU, what is bundled", () => {
  it("has a doctor that is understood", async () => {
    const { status, detail, figures } = await doctor.run(context, 25);
    expect(status).toBe("failed");
    expect(detail).toContain("cuda is not available: ");
    expect(detail).toContain("its round on cuda was not played");
    expect(figures).toMatchObject({ rounds: [{ name: "cuda" }, { name: "js", exact: true }] });
  });

  it("has examples that run; the graph's and those of the docs ask for a GPU", {
    timeout: 90_000,
  }, async () => {
    const { status, detail } = await examples.run(context, 85);
    expect(status).toBe("failed");
    const failed = detail!.split("\n").map((line) => line.replace(/(-\d+\.mjs)?: .*$/, ""));
    expect(failed).toEqual(["docs-recipes", "docs-recipes", "gpu-graph.mjs", "packages-cuda"]);
    expect(detail).toMatch(/^gpu-graph\.mjs: no CUDA here: .+$/m);
  });

  it("writes traces that can be read, without the times of a GPU", { timeout: 60_000 }, async () => {
    const file = context.scratch("trace.json");
    const args = [demoProgram(context), "--requests", "2", "--ranks", "2", "--layers", "1"];
    const { code, tail } = await exec.run(process.execPath, args, 50, { MOE_A2A_TRACE: file });
    expect(code, tail).toBe(0);
    expect(existsSync(file)).toBe(true);
    const { wrong, figures } = lookAtTrace(readFileSync(file, "utf8"));
    expect(figures.rows).toBe(2);
    expect(figures.phases).toBeGreaterThan(3);
    expect(wrong[0]).toContain(`${figures.phases} of ${figures.phases} phases have no device time`);
    expect(wrong.filter((text) => text.startsWith("row "))).toEqual([]);
  });
});
