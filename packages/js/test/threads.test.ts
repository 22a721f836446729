import { afterEach, describe, expect, it } from "vitest";
import { ThreadRank } from "./world.js";

let ranks: ThreadRank[] = [];

async function start(count: number, change = {}): Promise<ThreadRank[]> {
  ranks = await ThreadRank.startAll(count, change);
  return ranks;
}

afterEach(async () => {
  await Promise.all(ranks.map(({ worker }) => worker.terminate()));
});

const all = <R = unknown>(targets: readonly ThreadRank[], command: string, args: object = {}): Promise<R[]> =>
  Promise.all(targets.map((rank) => rank.call<R>(command, args)));

/** Every rank sends its token to expert 0 of rank 0 and gets it back. */
async function exactRound(
  targets: readonly ThreadRank[],
  first: number,
  how: "" | "Sync" = "",
): Promise<void> {
  await all(targets, "dispatch", { round: 3, ids: [first] });
  await all(targets, `ready${how}`);
  await all(targets, "combine");
  const outputs = await all<number[]>(targets, `combineReady${how}`);
  for (const output of outputs) {
    expect(output).toHaveLength(4);
    expect(output.every((value) => value % 1000 === 30)).toBe(true);
  }
}

describe("ranks on worker threads", () => {
  it("go through rounds, blocking or not", async () => {
    const [a, b, c] = await start(3);
    await exactRound([a!, b!, c!], 0);
    await exactRound([a!, b!, c!], 0, "Sync");
    await all(ranks, "dispatch", { tokens: 0 });
    // One blocks its thread while the others wait on their event loops.
    const reports = await Promise.all([a!.call("readySync"), b!.call("ready"), c!.call("ready")]);
    expect(reports).toEqual(
      Array.from({ length: 3 }, () => expect.objectContaining({ tokensSent: 0, tokensReceived: 0 })),
    );
  });

  it("see padding and counts of ranks without tokens", async () => {
    const [a, b] = await start(2);
    await Promise.all([
      a!.call("dispatch", { tokens: 0 }),
      b!.call("dispatch", { tokens: 2, round: 1, ids: [0, 4] }),
    ]);
    await all([a!, b!], "ready");
    const seen = await all<{ counts: number[]; rows: number[]; ids: number[] }>([a!, b!], "received");
    expect(seen.map(({ counts }) => counts)).toEqual([
      [0, 1],
      [0, 1],
    ]);
    expect(seen[0]!.ids).toEqual([-1, -1, -1, -1, 0, -1, -1, -1]);
    expect(seen[1]!.rows.slice(16, 20)).toEqual([1011, 1011, 1011, 1011]);
  });

  it.each(["ready", "readySync"])("name a rank that hangs, in %s, and go on without it", async (wait) => {
    const [a, b, c] = await start(3, { timeoutMs: 250 });
    const hung = c!.call("hang", { ms: 1200 });
    await all([a!, b!], "dispatch");
    const missing = {
      code: "ERR_MOE_A2A_PEER_TIMEOUT",
      phase: "dispatch",
      kind: "timeout",
      missingRanks: [2],
    };
    await Promise.all([a!, b!].map((rank) => expect(rank.call(wait)).rejects.toMatchObject(missing)));
    await all([a!, b!], "reset", { activeRanks: [0, 1] });
    await exactRound([a!, b!], 0, "Sync");
    await hung;
    // It wakes into another generation: nothing of what it does reaches the others.
    await expect(c!.call("dispatch")).rejects.toMatchObject({ code: "ERR_MOE_A2A_STATE", state: "leftOut" });
    await exactRound([a!, b!], 0);
    await all(ranks, "reset", { activeRanks: [0, 1, 2], timeoutMs: 10_000 });
    await exactRound(ranks, 8);
  });

  it.each([
    ["before its dispatch", async () => {}],
    ["after its dispatch", async (rank: ThreadRank) => rank.call("dispatch")],
  ])("name a rank that is torn down %s at once, and go on without it", async (_, prepare) => {
    const [a, b, c] = await start(3, { timeoutMs: 60_000 });
    await prepare(c!);
    await all([a!, b!], "dispatch");
    const lost = { code: "ERR_MOE_A2A_PEER_TIMEOUT", kind: "lost", missingRanks: [2] };
    const waits = [a!.call("ready"), b!.call("readySync")];
    const settled = Promise.allSettled(waits);
    await c!.worker.terminate();
    const results = await settled;
    if (results.every(({ status }) => status === "fulfilled")) {
      await all([a!, b!], "combine");
      for (const rank of [a!, b!]) {
        await expect(rank.call("combineReady")).rejects.toMatchObject({ ...lost, phase: "combine" });
      }
    } else {
      for (const result of results) expect(result).toMatchObject({ reason: { ...lost, phase: "dispatch" } });
    }
    await expect(a!.call("reset")).rejects.toMatchObject({ ...lost, phase: "reset" });
    await all([a!, b!], "reset", { activeRanks: [0, 1] });
    await exactRound([a!, b!], 4);
  });

  it("hear of an abort and of a close", async () => {
    const [a, b] = await start(2, { timeoutMs: 60_000 });
    await a!.call("dispatch");
    const aborted = expect(a!.call("readySync")).rejects.toMatchObject({
      code: "ERR_MOE_A2A_ABORTED",
      rank: 1,
      reason: "stop",
    });
    await b!.call("abort", { reason: "stop" });
    await aborted;
    await all([a!, b!], "reset");
    await exactRound([a!, b!], 4);
    await a!.call("dispatch");
    const closed = expect(a!.call("ready")).rejects.toMatchObject({ kind: "closed", missingRanks: [1] });
    await b!.call("close");
    await closed;
  });

  it("list every rank's value where they disagree", async () => {
    const [a, b] = await start(2);
    await Promise.all([a!.call("dispatch", { maxTokens: 3 }), b!.call("dispatch", { maxTokens: 4 })]);
    const mismatch = {
      code: "ERR_MOE_A2A_MISMATCH",
      field: "runtimeMaxTokensPerRank",
      values: [3, 4],
      message: expect.stringContaining("(rank 0: 3, rank 1: 4)"),
    };
    await expect(a!.call("ready")).rejects.toMatchObject(mismatch);
    await expect(b!.call("readySync")).rejects.toMatchObject(mismatch);
    await all([a!, b!], "reset");
    await exactRound([a!, b!], 0);
  });

  it("use no more memory after thousands of rounds", async () => {
    const [a, b] = await start(2);
    const rounds = (count: number) => all([a!, b!], "rounds", { count, tokens: [0, 3, 1, 4, 2] });
    await rounds(1000);
    const before = await a!.call<NodeJS.MemoryUsage>("heap");
    await rounds(4000);
    const after = await a!.call<NodeJS.MemoryUsage>("heap");
    expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(1 << 20);
    expect(after.heapUsed - before.heapUsed).toBeLessThan(8 << 20);
  });
});
