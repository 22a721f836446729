import { once } from "node:events";
import { describe, expect, it } from "vitest";
import { all, cleanUpProcesses, freeAddress, joinAll, roundsOf } from "./process-rank.js";
import { LONG } from "./world.js";

cleanUpProcesses();

interface Played {
  readonly wrong: readonly string[];
  readonly ms: number;
}

describe("rounds among processes", () => {
  it.each(["tcp", "unix"] as const)(
    "carry more than sockets hold, both ways at once, over %s",
    async (kind) => {
      const ranks = await joinAll(3, { address: freeAddress(kind) });
      // 18 MB from each rank to each other, in rows that end in the middle of chunks.
      const { config, round } = roundsOf(LONG ? 200 : 90, { rowBytes: 300_001, hidden: 5_003 });
      await all(ranks, "create", { config });
      for (let n = 0; n < 2; n++) {
        const played = await all<Played>(ranks, "round", { ...round, round: n, inPlace: n === 1 });
        expect(played.map(({ wrong }) => wrong)).toEqual([[], [], []]);
      }
    },
  );

  it("carry rows of any length, of any number of ranks and tokens, on one lane or two", async () => {
    const ranks = await joinAll(3);
    for (const [tokens, rowBytes, hidden] of [
      [[1, 0, 2], 1, 1],
      [[0, 0, 0], 5, 3],
      [[7, 3, 0], 49, 12],
      [[5, 5, 5], 0, 1],
      [[3, 1, 2], 2 ** 18 - 1, 2 ** 16],
      [[2, 2, 2], 2 ** 18 + 1, 2 ** 16 + 1],
      [[1, 2, 1], 1_000_003, 3],
      [[257, 64, 256], 1_021, 257],
    ] as const) {
      const { config, round } = roundsOf(tokens, { rowBytes, hidden, roundsInFlight: 2, maxExpertStats: 3 });
      // Numbers wrap in the middle.
      await all(ranks, "create", { config, options: { firstRound: 2 ** 31 - 2, fillPadding: true } });
      const args = { ...round, count: 4, lanes: 2, stats: true };
      expect(await all(ranks, "rounds", args)).toEqual([[], [], []]);
      await all(ranks, "close");
    }
  });

  it("have nothing to exchange where nobody has a token, however often", async () => {
    const ranks = await joinAll(2);
    const { config, round } = roundsOf([0, 0], { rowBytes: 8, hidden: 2 });
    await all(ranks, "create", { config, options: { firstRound: 2 ** 32 - 50 } });
    expect(await all(ranks, "rounds", { ...round, count: 100, maxTokens: 0 })).toEqual([[], []]);
    expect(await all(ranks, "round", { ...round, round: 0, tokens: [1, 0] })).toMatchObject([
      { wrong: [] },
      { wrong: [] },
    ]);
  });

  it("leave inputs to their caller from ready() on, though a peer has not read them yet", async () => {
    const ranks = await joinAll(3);
    const [a, b, c] = ranks;
    // Small enough for sockets to hold, whoever reads.
    const { config, round } = roundsOf(8, { rowBytes: 10_007, hidden: 2 });
    await all(ranks, "create", { config });
    await all(ranks, "dispatch", { ...round, round: 1 });
    c!.child.kill("SIGSTOP");
    expect(await all([a!, b!], "ready", { overwrite: true })).toEqual([[], []]);
    c!.child.kill("SIGCONT");
    expect(await c!.call("ready")).toEqual([]);
  });

  it("end well for the others where a rank exits right after its last combine", async () => {
    for (const kind of ["tcp", "unix"] as const) {
      const ranks = await joinAll(3, { address: freeAddress(kind) });
      const { config, round } = roundsOf(40, { rowBytes: 1, hidden: 40_000 });
      await all(ranks, "create", { config });
      await all(ranks, "dispatch", { ...round, round: 0 });
      await all(ranks, "ready");
      const exit = once(ranks[0]!.child, "exit");
      await all(ranks, "combine", round);
      ranks[0]!.call("combineReady", { exit: true }).catch(() => {});
      // They look only when it has gone.
      expect(await Promise.all([exit, ...ranks.slice(1).map((rank) => rank.call("combineReady"))])).toEqual([
        [0, null],
        [],
        [],
      ]);
    }
  });

  it("leave nothing behind, instance after instance", async () => {
    const ranks = await joinAll(2);
    const { config, round } = roundsOf(3, { rowBytes: 301, hidden: 30 });
    const held = () =>
      all<{ heapUsed: number; arrayBuffers: number; kinds: string; descriptors: number }>(ranks, "held");
    await all(ranks, "cycle", { ...round, config, count: 20 });
    const before = await held();
    expect(await all(ranks, "cycle", { ...round, config, count: LONG ? 3_000 : 200 })).toEqual([[], []]);
    for (const [rank, after] of (await held()).entries()) {
      const { heapUsed, arrayBuffers, kinds, descriptors } = before[rank]!;
      expect(after).toMatchObject({ kinds, descriptors });
      expect(after.heapUsed - heapUsed).toBeLessThan(2 ** 21);
      expect(after.arrayBuffers - arrayBuffers).toBeLessThan(2 ** 19);
    }
  });

  it("keep no process, closed or not, and no rows that were sent", async () => {
    const ranks = await joinAll(2);
    const { config, round } = roundsOf(32, { rowBytes: 2 ** 20, hidden: 1 });
    await all(ranks, "create", { config });
    await all(ranks, "dispatch", { ...round, round: 0 });
    const sending = await Promise.all(
      ranks.map((rank) => rank.call("ready", { check: false }).then(() => rank.call("held"))),
    );
    for (const held of sending as { arrayBuffers: number }[]) {
      // The window, which holds two rounds, and the caller's rows; not the rows once more.
      expect(held.arrayBuffers).toBeLessThan((2 * 2 * 32 + 32 + 8) * 2 ** 20);
    }
    const exits = ranks.map(({ child }) => once(child, "exit"));
    await ranks[0]!.call("close");
    await all(ranks, "disconnect");
    expect(await Promise.all(exits)).toEqual([
      [0, null],
      [0, null],
    ]);
  });
});
