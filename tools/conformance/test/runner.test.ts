import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import type * as Suite from "../src/index.js";

const { loadBackend, rankCase, Runner }: typeof Suite = await import(
  new URL("../dist/index.js", import.meta.url).href
);
const target = await loadBackend("js");
const simple = rankCase("zero tokens: on all ranks but one");
const slow = rankCase(
  "faults: a rank that comes late, but in time, is waited for, and the report says how long",
);

describe("the runner", () => {
  it.each(["local", "threads"] as const)(
    "says which ranks hang and where, ends them, and goes on: %s",
    async (kind) => {
      const runner = new Runner({ target, kind });
      const { failure } = await runner.run({ ...slow, deadlineMs: 60 });
      expect(failure).toMatch(
        /^not finished after 60 ms: rank 0 \(.+\), rank 1 \(.+\), rank 2 \(.+\), rank 3 \(.+\)/,
      );
      expect((await runner.run(simple)).failure).toBeUndefined();
      await runner.close();
    },
  );

  it("names only the rank that hangs, and what it was at", async () => {
    const runner = new Runner({ target, kind: "local" });
    const { failure } = await runner.run({
      ...simple,
      deadlineMs: 100,
      async run(context) {
        context.at(`step ${context.rank}`);
        if (context.rank === 2) await new Promise(() => undefined);
      },
    });
    expect(failure).toContain("rank 2 (step 2)");
    await runner.close();
  });

  it("reports the first failure as the cause, and lets nobody wait for the rank that failed", async () => {
    const runner = new Runner({ target, kind: "local" });
    const { failure } = await runner.run({
      ...simple,
      config: { ...simple.config, timeoutMs: 100_000 },
      async run(context) {
        const a2a = await context.create();
        context.at("the step that fails");
        if (context.rank === 1) throw new Error("something is wrong");
        await a2a.reset();
      },
    });
    expect(failure).toMatch(/^rank 1, the step that fails: Error: something is wrong/);
    expect(failure).toMatch(/afterwards also on rank 0, rank 2, rank 3/);
    await runner.close();
  });
});

describe("the program", () => {
  const run = (...args: readonly string[]) => {
    const program = fileURLToPath(new URL("../dist/main.js", import.meta.url));
    const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...args], { encoding: "utf8" });
    return { status, stdout, stderr, lines: stdout.trimEnd().split("\n") };
  };

  it("prints a line per case, and ends with the sums", () => {
    const { status, lines } = run("--backend", "js", "--filter", "zero tokens: on all ranks");
    expect(status).toBe(0);
    expect(lines).toHaveLength(7);
    expect(lines[0]).toMatch(/^ok {3}js\/local {3}zero tokens: on all ranks, .* \d+ ms$/);
    expect(lines[2]).toMatch(/^ok {3}js\/threads /);
    expect(lines[4]).toMatch(/^ok {3}js\/processes /);
    expect(lines[6]).toBe("6 passed, 0 failed");
  });

  it("runs one kind of group, with rounds and seed, and writes JSON", () => {
    const folder = mkdtempSync(join(tmpdir(), "conformance-"));
    const file = join(folder, "outcomes.json");
    const flags = [
      "--group",
      "local",
      "--filter",
      "properties",
      "--rounds",
      "50",
      "--seed",
      "7",
      "--json",
      file,
    ];
    const { status, lines } = run(...flags);
    expect(lines.at(-1)).toBe("1 passed, 0 failed");
    expect(status).toBe(0);
    const { seed, outcomes } = JSON.parse(readFileSync(file, "utf8"));
    rmSync(folder, { recursive: true });
    expect(seed).toBe(7);
    expect(outcomes).toHaveLength(1);
    expect(Number.parseInt(outcomes[0].note, 10)).toBeGreaterThanOrEqual(50);
  });

  it("lists cases without running them", () => {
    const { status, lines } = run("--list", "--filter", "experts: 64 ranks");
    expect(status).toBe(0);
    expect(lines).toEqual(["js/local experts: 64 ranks"]);
  });

  it("fails where nothing ran, and refuses what it does not know", () => {
    expect(run("--filter", "no such case")).toMatchObject({ status: 1, stdout: "0 passed, 0 failed\n" });
    expect(run("--backend", "tpu")).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('no backend "tpu"'),
    });
    expect(run("--group", "mpi")).toMatchObject({
      status: 2,
      stderr: expect.stringContaining("local, threads"),
    });
    expect(run("--rounds", "many")).toMatchObject({ status: 2, stderr: expect.stringContaining('"many"') });
    expect(run("--nonsense")).toMatchObject({ status: 2, stderr: expect.stringContaining("--nonsense") });
    expect(run("--help")).toMatchObject({ status: 0, stdout: expect.stringContaining("--filter TEXT") });
  });
});
