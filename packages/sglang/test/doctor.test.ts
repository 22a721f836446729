import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, it } from "vitest";
import type { Diagnosis } from "../src/index.js";
import { cleanUp, launch, script } from "./launcher.js";

afterEach(cleanUp);

const config = {
  epSize: 2,
  numExperts: 4,
  topK: 2,
  maxTokensPerRank: 16,
  hiddenSize: 64,
  dtype: "bfloat16",
};

describe("moe-a2a doctor", () => {
  it("prints a section for each thing, and the round", async () => {
    const { code, stdout, stderr } = await launch(["doctor"]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    for (const title of ["System", "Packages", "Backends", "GPUs", "No problems."])
      expect(stdout).toContain(`${title}\n`);
    expect(stdout).toMatch(/a round of 3 ranks, one of them idle: exact \(\d+ ms\)/);
  });

  it("prints what diagnose() returns, as JSON", async () => {
    const { code, stdout } = await launch(["doctor", "--json"]);
    expect(code).toBe(0);
    const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
    const { ok, packages } = JSON.parse(stdout) as Diagnosis;
    expect({ ok, own: packages[0] }).toEqual({ ok: true, own: { name: "@moe-a2a/sglang", version } });
  });

  it("tells the memory of a config, given as JSON or in a file", async () => {
    const inline = await launch(["doctor", "--config", JSON.stringify(config)]);
    expect(inline.code).toBe(0);
    expect(inline.stdout).toMatch(/\n {2}recv +0 +window +[\d,]+ {2}payload rows from each rank\n/);
    const file = await script(JSON.stringify(config), "config.json");
    const given = await launch(["doctor", "--json", "--config", file]);
    const { memory } = JSON.parse(given.stdout) as Diagnosis;
    expect(memory?.config.maxDispatchBytesPerToken).toBe(64 * 2 + 2 * 8);
    expect(memory?.config.maxCombineBytesPerToken).toBe(64 * 2);
  });

  it("fails with a list where something is wrong", async () => {
    const tooLarge = JSON.stringify({ ...config, maxTokensPerRank: 2 ** 31 - 1, epSize: 4 });
    const { code, stdout } = await launch(["doctor", "--config", tooLarge]);
    expect(code).toBe(1);
    expect(stdout).toMatch(/\nProblems: 1\n {2}- a rank takes \d+ bytes, .*\n$/);
  });

  const here = fileURLToPath(import.meta.url);
  it.each([
    ["Unknown option '--jsn'", ["--jsn"]],
    ['--backend: the backend is "tpu"; it must be one of', ["--backend", "tpu"]],
    ['--timeout is "soon"; it must be milliseconds', ["--timeout", "soon"]],
    ["--config is no JSON object, and no file either: ENOENT", ["--config", "/no/such/file"]],
    ["--config is no JSON: ", ["--config", here]],
    ["--config has topk, which is no field of a config", ["--config", '{"topk": 2}']],
    ["config.numExperts is 0: ", ["--config", JSON.stringify({ ...config, numExperts: 0 })]],
    ["dispatchBytesPerToken(): dtype is", ["--config", JSON.stringify({ ...config, dtype: "int4" })]],
  ])("%s", async (message, args) => {
    const { code, stdout, stderr } = await launch(["doctor", ...args]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toContain(`moe-a2a: ${message}`);
    expect(stderr).toMatch(/\nmoe-a2a doctor --help shows what can be given\.\n$/);
  });

  it("names its options in its help", async () => {
    const { code, stdout } = await launch(["doctor", "--help"]);
    expect(code).toBe(0);
    for (const option of ["backend", "config", "timeout", "json", "help"])
      expect(stdout).toContain(`  --${option}`);
    for (const line of stdout.split("\n")) expect(line.length).toBeLessThanOrEqual(105);
  });
});
