import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { Demo, demo, type Run } from "./demo.js";

const few = ["--requests", "3", "--layers", "1"];
// Half a minute's work.
const much = ["--requests", "100", "--layers", "8"];
const timeout = 60_000;

// Ranks tell their processes, as early as they can.
const tellPid = `if (process.send) console.error("pid " + process.pid)`;
const NODE_OPTIONS = `--import data:text/javascript,${encodeURIComponent(tellPid)}`;

/** The demo with its ranks in processes, which it has started. */
async function start(ranks: number, ...args: string[]): Promise<{ run: Demo; pids: number[] }> {
  const run = new Demo(["--processes", "--ranks", String(ranks), ...args], { NODE_OPTIONS });
  const told = await run.saw("stderr", /^pid (\d+)$/gm, ranks);
  return { run, pids: told.map(([, pid]) => Number(pid)) };
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

const aRank = /^pid /gm;
const aStep = /^ +\d+\/\d+ /gm;

const withoutPids = ({ stderr }: Run): string => stderr.replace(/^pid \d+\n/gm, "");

describe("ranks in processes", () => {
  it("write what ranks on threads write", { timeout }, async () => {
    // Answers of one step may come in any order.
    const lines = ({ stdout }: Run): string[] =>
      stdout
        .replace(/in \d+\.\d s;/, "")
        .split("\n")
        .sort();
    const { run, pids } = await start(4, ...few);
    const inProcesses = await run.ended;
    expect([inProcesses.code, withoutPids(inProcesses)]).toEqual([0, ""]);
    expect(pids.filter(isAlive)).toEqual([]);
    expect(inProcesses.stdout).toMatch(/^answers checksum [\da-f]{16}$/m);
    expect(inProcesses.lastLine).toMatch(/^OK requests=3 .* mismatches=0 backend=js$/);
    expect(lines(inProcesses)).toEqual(lines(await demo("--ranks", "4", ...few)));
  });

  it("may be a single one", { timeout }, async () => {
    const { code, stderr, lastLine } = await demo("--processes", "--ranks", "1", ...few);
    expect([code, stderr]).toEqual([0, ""]);
    expect(lastLine).toMatch(/^OK requests=3 .* zeroTokenRankSteps=0 mismatches=0 backend=js$/);
  });

  it("notice a wrong bit", { timeout }, async () => {
    const args = ["--processes", "--ranks", "2", ...few, "--inject-fault", "combine"];
    const { code, stdout, lastLine } = await demo(...args);
    expect(code).toBe(1);
    expect(lastLine).toMatch(/^FAIL requests=3 .* mismatches=1 backend=js$/);
    expect(stdout).toMatch(/^first mismatch: rank 0, step 0, layer 0: token 0, element 0/m);
  });
});

describe("a rank in a process", () => {
  it("that stops is named as the cause, and the others hear of it at once", { timeout }, async () => {
    const { run, pids } = await start(3, ...few, "--inject-fault", "worker");
    const started = performance.now();
    const end = await run.ended;
    expect(end.code).toBe(1);
    expect(end.lastLine).toMatch(/^FAIL rank 0: Error: stopped on purpose after the answer to request \d+$/);
    expect(withoutPids(end)).toMatch(/^rank 0: Error: stopped on purpose/);
    for (const rank of [1, 2]) {
      expect(end.stderr).toMatch(
        new RegExp(`^rank ${rank}: MoeA2AError: .*rank 0 ended without closing`, "m"),
      );
    }
    // Well before the peers' time limit.
    expect(performance.now() - started).toBeLessThan(25_000);
    expect(pids.filter(isAlive)).toEqual([]);
  });

  it.each([
    ["as it starts", "stderr", aRank],
    ["as it serves", "stdout", aStep],
  ] as const)("that is killed %s is named, and the others end", { timeout }, async (_when, stream, sign) => {
    const { run, pids } = await start(3, ...much);
    await run.saw(stream, sign);
    const started = performance.now();
    process.kill(pids[1]!, "SIGKILL");
    const end = await run.ended;
    expect(end.code).toBe(1);
    expect(end.lastLine).toMatch(/^FAIL rank \d: its process ended early by SIGKILL$/);
    expect(performance.now() - started).toBeLessThan(25_000);
    expect(pids.filter(isAlive)).toEqual([]);
  });
});

describe("no process is left", () => {
  /** Expects the demo to end by `signal` with nothing to say, and its ranks long before their work is done. */
  async function endsSoon(run: Demo, pids: readonly number[], signal: NodeJS.Signals): Promise<void> {
    const started = performance.now();
    const end = await run.ended;
    expect([end.signal, withoutPids(end)]).toEqual([signal, ""]);
    while (pids.some(isAlive)) await sleep(20);
    expect(performance.now() - started).toBeLessThan(12_000);
  }

  it.each([
    ["is killed as the ranks start", "SIGKILL", "stderr", aRank],
    ["is killed as they serve", "SIGKILL", "stdout", aStep],
    ["is asked to end", "SIGTERM", "stdout", aStep],
  ] as const)("where the demo %s", { timeout }, async (_how, signal, stream, sign) => {
    const { run, pids } = await start(3, ...much);
    await run.saw(stream, sign);
    run.child.kill(signal);
    await endsSoon(run, pids, signal);
  });

  it("where Ctrl-C interrupts all of them", { timeout }, async () => {
    const { run, pids } = await start(3, ...much);
    await run.saw("stdout", aStep);
    process.kill(-run.child.pid!, "SIGINT");
    await endsSoon(run, pids, "SIGINT");
  });
});
