import { describe, expect, it } from "vitest";
import { demo } from "./demo.js";

const few = ["--requests", "4", "--layers", "2"];
const timeout = 60_000;

describe("the demo", () => {
  it("serves, agrees with the reference and says so in its last line, in plain text", {
    timeout,
  }, async () => {
    const { code, stdout, stderr, lastLine } = await demo(...few);
    expect(stderr).toBe("");
    expect(code).toBe(0);
    expect(stdout.endsWith("\n")).toBe(true);
    const verdict = /^OK requests=4 steps=(\d+) zeroTokenRankSteps=(\d+) mismatches=0 backend=js$/.exec(
      lastLine!,
    );
    expect(verdict, lastLine).not.toBeNull();
    const [steps, zeros] = verdict!.slice(1).map(Number) as [number, number];
    expect(steps).toBeGreaterThan(10);
    expect(zeros).toBeGreaterThan(20);
    expect(zeros).toBeLessThan(4 * steps);
    for (const control of ["\u001b", "\r"]) expect(stdout).not.toContain(control);
    expect(stdout).toMatch(/on 4 ranks/);
    expect(stdout).toMatch(/16 experts, top-2/);
    expect(stdout).toMatch(/^backend: js \(.+\)$/m);
    expect(stdout).toMatch(/\[0\]/);
    expect(stdout.split("\n").length).toBeLessThan(101);
  });

  it("gives the same steps, zeros and answers for a seed, others for another", { timeout }, async () => {
    const summary = async (seed: string): Promise<string> => {
      const { code, stdout } = await demo(...few, "--ranks", "2", "--seed", seed);
      expect(code).toBe(0);
      return stdout
        .split("\n")
        .filter((line) => /^(OK|answers checksum|#\d| +\d+\/\d)/.test(line))
        .join("\n");
    };
    const first = await summary("5");
    expect(first).toMatch(/^answers checksum [\da-f]{16}$/m);
    expect(await summary("5")).toBe(first);
    expect(await summary("6")).not.toBe(first);
  });

  it.each([
    ["three ranks and 17 experts", ["--ranks", "3", "--experts", "17", "--top-k", "3"]],
    ["one rank", ["--ranks", "1"]],
    ["nine ranks with few requests", ["--ranks", "9", "--backend", "js"]],
    ["every expert for every token", ["--ranks", "2", "--experts", "5", "--top-k", "5"]],
  ])("works with %s", { timeout }, async (_name, flags) => {
    const { code, lastLine, stderr } = await demo(...few, ...flags);
    expect(stderr).toBe("");
    expect(lastLine).toMatch(/^OK requests=4 steps=\d+ zeroTokenRankSteps=\d+ mismatches=0 backend=js$/);
    expect(code).toBe(0);
  });

  it("fails where one bit of one combined row is wrong", { timeout }, async () => {
    const { code, stdout, lastLine } = await demo(...few, "--inject-fault", "combine");
    expect(lastLine).toMatch(/^FAIL requests=4 steps=\d+ zeroTokenRankSteps=\d+ mismatches=1 backend=js$/);
    expect(stdout).toMatch(/^first mismatch: rank 0, step 0, layer 0: token 0, element 0 combined to 0x/m);
    expect(code).toBe(1);
  });

  it("fails with the cause where a rank stops", { timeout }, async () => {
    const started = performance.now();
    const { code, stderr, lastLine } = await demo(...few, "--inject-fault", "worker");
    expect(lastLine).toMatch(/^FAIL rank 0: Error: stopped on purpose after the answer to request \d+$/);
    expect(stderr).toMatch(/^rank 0: Error: stopped on purpose/);
    expect(code).toBe(1);
    // Well before the peers' time limit.
    expect(performance.now() - started).toBeLessThan(25_000);
  });

  it("explains itself", { timeout }, async () => {
    const { code, stdout, stderr } = await demo("--help");
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout).toMatch(/--ranks.*--processes.*--requests.*--seed.*--backend/s);
  });

  it("refuses wrong arguments with exit code 2", { timeout }, async () => {
    const { code, stdout, stderr } = await demo("--ranks", "none");
    expect([code, stdout]).toEqual([2, ""]);
    expect(stderr).toContain('--ranks is "none"; it must be an integer from 1 to 64');
  });

  it("says why a backend cannot run", { timeout }, async () => {
    const { code, stderr, lastLine } = await demo("--backend", "cuda");
    expect(code).toBe(1);
    expect(stderr).toMatch(/cuda/i);
    expect(lastLine).toMatch(/^FAIL .*cuda/i);
  });
});
