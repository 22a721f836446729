import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { growth } from "../src/soak/memory.js";
import { soakConfig, soakRounds } from "../src/soak/plan.js";

describe("the rounds of a soak", () => {
  const ranks = 4;
  const plan = soakRounds(ranks, 6, 1);
  const rounds = Array.from({ length: 3000 }, () => plan.next().value);

  it("hold zeros of every pattern", () => {
    const patterns = new Set(rounds.map(({ counts }) => counts.map((c) => (c === 0 ? "0" : "1")).join("")));
    expect(patterns.size).toBe(2 ** ranks);
  });

  it("fit the config, with slots from the least possible to all, none included", () => {
    const { maxTokensPerRank } = soakConfig(ranks);
    for (const { counts, slots } of rounds) {
      expect(slots).toBeGreaterThanOrEqual(Math.max(...counts));
      expect(slots).toBeLessThanOrEqual(maxTokensPerRank);
    }
    expect(rounds.filter(({ slots }) => slots === 0).length).toBeGreaterThan(10);
    expect(rounds.filter(({ slots }) => slots === maxTokensPerRank).length).toBeGreaterThan(10);
  });

  it("are the same on every rank", () => {
    const again = soakRounds(ranks, 6, 1);
    expect(Array.from({ length: 50 }, () => again.next().value)).toEqual(rounds.slice(0, 50));
  });
});

describe("memory", () => {
  it("may grow a little", () => {
    const before = { rss: 100 << 20, heap: 10 << 20, backend: 500 << 20, descriptors: 30, handles: 2 };
    expect(growth(before, { ...before, rss: 120 << 20 })).toBeUndefined();
    expect(growth(before, { ...before, backend: 900 << 20 })).toBe(
      "backend grew from 524288000 to 943718400",
    );
    expect(growth(before, { ...before, descriptors: 60 })).toBe("descriptors grew from 30 to 60");
  });
});

describe("the program", () => {
  const run = (...args: readonly string[]) => {
    const program = fileURLToPath(new URL("../dist/soak-main.js", import.meta.url));
    return spawnSync(process.execPath, [program, ...args], { encoding: "utf8" });
  };

  it.each(["threads", "processes"])(
    "plays and compares rounds in %s, and ends with JSON",
    { timeout: 60_000 },
    (group) => {
      const args = ["--group", group, "--ranks", "3", "--rounds", "600", "--cycles", "5"];
      const { status, stdout, stderr } = run(...args);
      expect(stderr).toBe("");
      expect(status).toBe(0);
      const { ranks } = JSON.parse(stdout);
      expect(ranks.map((r: { rank: number }) => r.rank)).toEqual([0, 1, 2]);
      for (const { rounds, cycles } of ranks) {
        expect(rounds).toMatchObject({ rounds: 600, verified: 10, zeros: expect.any(Number) });
        expect(cycles).toBe(5);
      }
    },
  );

  it("fails where the backend does not run, and refuses what is no number", () => {
    const { status, stderr } = run("--backend", "tpu", "--rounds", "1");
    expect(status).toBe(1);
    expect(stderr).toContain('there is no backend "tpu"');
    expect(run("--rounds", "many")).toMatchObject({ status: 2, stderr: expect.stringContaining("--rounds") });
  });
});
