import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, it } from "vitest";
import { formatDiagnosis } from "../src/cli/doctor-report.js";
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

  it("prints what there is to say of GPUs", () => {
    const devices = [0, 1].map((id) => ({
      id,
      name: "NVIDIA H200",
      pciBusId: `0000:${id + 1}b:00.0`,
      computeCapability: "9.0",
      multiprocessors: 132,
      memoryBytes: 141 * 2 ** 30,
      freeBytes: id === 0 ? 140.5 * 2 ** 30 : undefined,
    }));
    const status = {
      available: true,
      devices: devices.map(({ id, name }) => ({ type: "cuda" as const, id, name })),
    } as const;
    const text = formatDiagnosis({
      ok: false,
      problems: ["a round on cuda fails: rank 0: no"],
      system: {
        node: "22.1.0",
        nodeRange: ">=20.19",
        platform: "linux-x64",
        glibc: undefined,
        cpus: 64,
        memoryBytes: 512 * 2 ** 30,
      },
      packages: [{ name: "@moe-a2a/sglang", version: "1.2.3" }],
      backends: [
        { name: "cuda", status, round: { exact: false, ranks: 2, ms: 12.3, problem: "rank 0: no" } },
      ],
      gpus: {
        source: "cuda",
        driver: "580.95.05",
        cuda: "13.0",
        devices,
        links: [
          ["X", "NV18"],
          ["NV18", "X"],
        ],
        peerAccess: [
          ["X", "OK"],
          ["NS", "X"],
        ],
        peerAtomics: [],
        visibleDevices: "0,1",
      },
      memory: undefined,
    });
    expect(text).toMatchInlineSnapshot(`
      "System
        Node 22.1.0 (>=20.19 is needed), linux-x64
        64 CPUs, 512.0 GiB of memory

      Packages
        @moe-a2a/sglang          1.2.3

      Backends
        cuda  can run on cuda 0: NVIDIA H200, cuda 1: NVIDIA H200
              each GPU can reach the memory of the others
              a round of 2 ranks, one of them idle: FAILED: rank 0: no (12 ms)

      GPUs
        driver 580.95.05, CUDA 13.0
        0: NVIDIA H200 at 0000:1b:00.0, compute capability 9.0, 132 multiprocessors, 140.5 GiB free of 141.0 GiB
        1: NVIDIA H200 at 0000:2b:00.0, compute capability 9.0, 132 multiprocessors, not usable here, of 141.0 GiB
        CUDA_VISIBLE_DEVICES is "0,1"
        links:
        GPU0  X     NV18
        GPU1  NV18  X
        peer access:
        GPU0  X     OK
        GPU1  NS    X

      Problems: 1
        - a round on cuda fails: rank 0: no
      "
    `);
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
