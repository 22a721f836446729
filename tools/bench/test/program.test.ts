import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

const program = fileURLToPath(new URL("../dist/main.js", import.meta.url));
const run = (...args: readonly string[]) =>
  spawnSync(process.execPath, [program, ...args], { encoding: "utf8" });

it("measures everything, and writes it down", { timeout: 120_000 }, () => {
  const folder = mkdtempSync(join(tmpdir(), "moe-a2a-bench-"));
  try {
    const file = join(folder, "bench.json");
    const { status, stdout, stderr } = run("--quick", "--sample-ms", "2", "--samples", "1", "--json", file);
    expect(stderr).not.toContain("Error");
    expect(status).toBe(0);
    const { backend, summary } = JSON.parse(readFileSync(file, "utf8"));
    expect(backend).toBe("js");
    // How fast is for the benchmark to say; here it counts that there is a figure for everything.
    for (const [name, value] of Object.entries(summary)) {
      expect(value, name).toBeGreaterThan(0);
      expect(stdout).toContain(`| ${name} |`);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});

it("refuses what it cannot measure", () => {
  const { status, stderr } = run("--backend", "tpu");
  expect(status).toBe(2);
  expect(stderr).toContain('--backend is "tpu"');
});

it.skipIf(existsSync("/dev/nvidia0"))("says that there is no GPU to measure", () => {
  const { status, stderr } = run("--backend", "cuda", "--quick");
  expect(status).toBe(2);
  expect(stderr).toContain("there is nothing to time here");
});
