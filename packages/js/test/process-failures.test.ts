import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { all, cleanUpProcesses, freeAddress, joinAll, type ProcessRank, roundsOf } from "./process-rank.js";

cleanUpProcesses();

const rejected = (reason: object) =>
  expect.objectContaining({ status: "rejected", reason: expect.objectContaining(reason) });

interface Played {
  readonly wrong: readonly string[];
  readonly ms: number;
}

/** Three ranks with an instance each. */
async function created(timeoutMs: number, large = false) {
  // Far more than a Unix socket holds; or a little.
  const address = freeAddress(large ? "unix" : "tcp");
  const ranks = (await joinAll(3, { address })) as [ProcessRank, ProcessRank, ProcessRank];
  const shape = large ? { rowBytes: 400_009, hidden: 20_001 } : { rowBytes: 33, hidden: 5 };
  const { config, round } = roundsOf(large ? 9 : 3, { ...shape, timeoutMs });
  await all(ranks, "create", { config });
  const play = async (which: readonly ProcessRank[], number: number, change = {}) => {
    const played = await all<Played>(which, "round", { ...round, ...change, round: number });
    expect(played.map(({ wrong }) => wrong)).toEqual(which.map(() => []));
    return Math.max(...played.map(({ ms }) => ms));
  };
  return { ranks, round, play };
}

describe("a process that is stopped", () => {
  it.each([
    ["before", 0],
    ["after", 1],
  ])("%s its dispatch is named, left out, and taken back", async (_, dispatches) => {
    const timeoutMs = 700;
    const { ranks, round, play } = await created(timeoutMs, true);
    const [a, b, c] = ranks;
    await play(ranks, 0);
    const waiting: Promise<unknown>[] = [];
    if (dispatches > 0) {
      await c.call("dispatch", { ...round, round: 1 });
      waiting.push(c.call("ready"));
      // Its own rows have gone by now; those of the others it will not take.
      await sleep(150);
    }
    c.child.kill("SIGSTOP");
    const missing = {
      code: "ERR_MOE_A2A_PEER_TIMEOUT",
      phase: "dispatch",
      missingRanks: [2],
      kind: "timeout",
    };
    await all([a, b], "dispatch", { ...round, round: 1 });
    expect(await Promise.allSettled([a.call("ready"), b.call("ready")])).toEqual([
      rejected(missing),
      rejected(missing),
    ]);
    // What was handed over is the callers' again, though the rank that is stopped may still be sent it.
    await all([a, b], "spoil");
    await all([a, b], "reset", { activeRanks: [0, 1] });
    // Sending to one another must not wait for it, nor be woken by time limits alone.
    for (let n = 2; n < 5; n++) expect(await play([a, b], n)).toBeLessThan(timeoutMs);
    c.child.kill("SIGCONT");
    const outcomes = await Promise.allSettled(waiting);
    for (const outcome of outcomes) expect(outcome).toMatchObject({ status: "rejected" });
    await play([a, b], 5);
    // It finds out by itself, whatever it does first.
    await expect(
      (async () => {
        await c.call("dispatch", { ...round, round: 5 });
        return c.call("ready");
      })(),
    ).rejects.toMatchObject({ code: expect.stringMatching(/STATE|PEER_TIMEOUT/) });
    await all(ranks, "reset", { activeRanks: [0, 1, 2] });
    for (let n = 6; n < 8; n++) await play(ranks, n);
  });

  it("or busy past all limits, finds what came meanwhile", async () => {
    const { ranks, round } = await created(300);
    await all(ranks, "dispatch", { ...round, round: 0 });
    const busy = ranks[0].call("busy", { ms: 500, next: "ready" });
    expect(await all(ranks.slice(1), "ready")).toEqual([[], []]);
    expect(await busy).toEqual([]);
    await all(ranks, "combine", round);
    const again = ranks[0].call("busy", { ms: 500, next: "combineReady" });
    expect(await all(ranks.slice(1), "combineReady")).toEqual([[], []]);
    expect(await again).toEqual([]);
  });

  it("or busy while others gave up on a reset or a creation, meets them at their next", async () => {
    const { ranks, play } = await created(5_000);
    const [a, b, c] = ranks;
    const missing = { code: "ERR_MOE_A2A_PEER_TIMEOUT", phase: "reset", missingRanks: [2] };
    const busy = c.call("busy", { ms: 700, next: "reset" });
    const first = [a.call("reset", { timeoutMs: 300 }), b.call("reset")];
    expect(await Promise.allSettled(first)).toEqual([rejected(missing), rejected(missing)]);
    await Promise.all([busy, a.call("reset"), b.call("reset")]);
    await play(ranks, 1);

    const { config, round } = roundsOf(2, { rowBytes: 3, hidden: 2, timeoutMs: 5_000 });
    const short = { ...config, timeoutMs: 300 };
    const creating = c.call("busy", { ms: 700, next: "create", args: { config } });
    const absent = { code: "ERR_MOE_A2A_PEER_TIMEOUT", phase: "create", missingRanks: [2] };
    expect(await Promise.allSettled([a, b].map((rank) => rank.call("create", { config: short })))).toEqual([
      rejected(absent),
      rejected(absent),
    ]);
    await Promise.all([creating, ...[a, b].map((rank) => rank.call("create", { config }))]);
    await play(ranks, 2, round);
  });
});

describe("a process that is killed", () => {
  it.each<[string, (ranks: readonly ProcessRank[], round: object) => Promise<unknown>, string]>([
    ["before its dispatch", async () => {}, "dispatch"],
    ["while it sends its rows", ([, , c], round) => c!.call("dispatch", round), "dispatch"],
    [
      "before its combine",
      async (ranks, round) => {
        await all(ranks, "dispatch", round);
        await all(ranks, "ready");
      },
      "combine",
    ],
    [
      "while it sends its results",
      async (ranks, round) => {
        await all(ranks, "dispatch", round);
        await all(ranks, "ready");
        await ranks[2]!.call("combine", round);
      },
      "combine",
    ],
  ])("%s is told at once, and the others go on", async (_, prepare, phase) => {
    const { ranks, round, play } = await created(60_000, true);
    const [a, b, c] = ranks;
    const args = { ...round, round: 0 };
    await prepare(ranks, args);
    const start = performance.now();
    await c.kill();
    if (phase === "dispatch") await all([a, b], "dispatch", args);
    else await all([a, b], "combine", args);
    const outcomes = await Promise.allSettled(
      [a, b].map((rank) => rank.call(phase === "dispatch" ? "ready" : "combineReady")),
    );
    // Some may have had all that they need by then.
    const lost = { code: "ERR_MOE_A2A_PEER_TIMEOUT", phase, missingRanks: [2], kind: "lost" };
    if (phase === "dispatch") expect(outcomes).toContainEqual(rejected(lost));
    for (const outcome of outcomes)
      if (outcome.status === "rejected") expect(outcome).toEqual(rejected(lost));
    expect(performance.now() - start).toBeLessThan(10_000);
    await expect(a.call("reset")).rejects.toMatchObject({ kind: "lost", missingRanks: [2], phase: "reset" });
    await all([a, b], "reset", { activeRanks: [0, 1] });
    for (let n = 1; n < 3; n++) await play([a, b], n);
  });

  it("in a reset ends it for the others, who meet again without", async () => {
    const { ranks, play } = await created(60_000);
    const [a, b, c] = ranks;
    const waiting = Promise.allSettled([a, b].map((rank) => rank.call("reset")));
    await sleep(100);
    await c.kill();
    const lost = { code: "ERR_MOE_A2A_PEER_TIMEOUT", phase: "reset", missingRanks: [2], kind: "lost" };
    expect(await waiting).toEqual([rejected(lost), rejected(lost)]);
    await all([a, b], "reset", { activeRanks: [0, 1] });
    await play([a, b], 0);
  });
});

describe("a rank that leaves in the middle of a round", () => {
  it.each([
    ["close", "its instance"],
    ["closeGroup", "its group"],
  ])("by %s() of %s fails its own waits, and those of the others at once", async (how) => {
    const { ranks, round, play } = await created(60_000, true);
    const [a, b, c] = ranks;
    await all([a, c], "dispatch", { ...round, round: 0 });
    const own = c.call("ready");
    const other = a.call("ready");
    const ended = Promise.allSettled([own, other]);
    await sleep(50);
    await c.call(how);
    await c.call("spoil");
    await b.call("dispatch", { ...round, round: 0 });
    const last = await Promise.allSettled([b.call("ready")]);
    const closed = { code: "ERR_MOE_A2A_PEER_TIMEOUT", missingRanks: [2], kind: "closed" };
    const outcomes = [...(await ended), ...last];
    expect(outcomes[0]).toEqual(rejected({ code: "ERR_MOE_A2A_STATE", state: "closed" }));
    // Who has all that it needs from the rank that left goes on to the combine.
    for (const [i, rank] of [a, b].entries()) {
      const outcome = outcomes[1 + i]!;
      if (outcome.status === "rejected") expect(outcome).toEqual(rejected(closed));
      else {
        await rank.call("combine", round);
        await expect(rank.call("combineReady")).rejects.toMatchObject(closed);
      }
    }
    await all([a, b], "reset", { activeRanks: [0, 1] });
    await play([a, b], 1);
    const exit = once(c.child, "exit");
    await c.call("disconnect");
    expect(await exit).toEqual([0, null]);
  });

  it("by an abort is told why, and stays", async () => {
    const { ranks, round, play } = await created(60_000, true);
    await all(ranks.slice(0, 2), "dispatch", { ...round, round: 0 });
    const settled = Promise.allSettled(ranks.slice(0, 2).map((rank) => rank.call("ready")));
    await ranks[2].call("abort", { reason: "no memory" });
    const aborted = { code: "ERR_MOE_A2A_ABORTED", rank: 2, reason: "no memory" };
    expect(await settled).toEqual([rejected(aborted), rejected(aborted)]);
    await all(ranks.slice(0, 2), "spoil");
    await all(ranks, "reset");
    await play(ranks, 1);
  });
});
