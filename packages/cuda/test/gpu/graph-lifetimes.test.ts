import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { type CudaMoeAllToAll, createStream, type Graph } from "../../src/index.js";
import { closeAll, createLocal, exactRound, native, noGpu, rowsOf, upload, why } from "./world.js";

/** More replays than are enqueued at once. */
const MANY = 100;

const state = (name: string) => expect.objectContaining({ code: "ERR_MOE_A2A_STATE", state: name });
const stream = expect.objectContaining({ code: "ERR_MOE_A2A_ARGUMENT", argument: "stream" });

interface Captured {
  readonly a2a: CudaMoeAllToAll;
  readonly graph: Graph;
  readonly count: Awaited<ReturnType<typeof upload>>;
  readonly rows: ReturnType<CudaMoeAllToAll["empty"]>;
  readonly out: ReturnType<CudaMoeAllToAll["empty"]>;
}

/** A round of up to three tokens of each rank, all for rank 0; `first` of them for now. */
function captureAll(a2as: readonly CudaMoeAllToAll[], first: number): Promise<Captured[]> {
  return Promise.all(
    a2as.map(async (a2a, i) => {
      const ids = await upload(a2a, "int32", [3, 1], [0, 0, 0]);
      const rows = a2a.empty("float32", [3, 4]);
      await a2a.write(rows, Float32Array.from(rowsOf(i, 3)));
      const out = a2a.empty("float32", [3, 4]);
      await a2a.write(out, new Float32Array(12));
      const count = await upload(a2a, "int32", [1], [first]);
      const graph = await a2a.capture(() => {
        const round = a2a.dispatch({ numLocalTokens: count, tokenSelectedExperts: ids, payloads: [rows] });
        round.combine(round.recv[0]!, { out });
      });
      return { a2a, graph, count, rows, out };
    }),
  );
}

describe.skipIf(noGpu)(`graphs, and what is done while they run${why}`, () => {
  it("copies come after replays that are still being enqueued", async () => {
    const a2as = await createLocal(2);
    const ranks = await captureAll(a2as, 1);
    const replays = ranks.map(({ graph }) => graph.replay(MANY));
    const reads = ranks.map(({ a2a, out }) => a2a.read(out));
    const writes = ranks.map(({ a2a, count }) => a2a.write(count, Int32Array.of(3)));
    const reports = await Promise.all(replays.map((replay) => replay.ready()));
    expect(reports.map(([report]) => report!.tokensSent)).toEqual([1, 1]);
    for (const [i, read] of (await Promise.all(reads)).entries()) {
      expect([...read]).toEqual([...rowsOf(i, 1), ...new Array(8).fill(0)]);
    }
    await Promise.all(writes);
    await exactRound(a2as);
    await closeAll(a2as);
  });

  it("copies come after replays that a round was enqueued behind", async () => {
    const a2as = await createLocal(2);
    const ranks = await captureAll(a2as, 1);
    const inputs = await Promise.all(
      a2as.map(async (a2a) => ({
        numLocalTokens: 1,
        tokenSelectedExperts: await upload(a2a, "int32", [1, 1], [0]),
        payloads: [await upload(a2a, "float32", [1, 4], rowsOf(9, 1))],
      })),
    );
    const replays = ranks.map(({ graph }) => graph.replay(50));
    const rounds = ranks.map(({ a2a }, i) => a2a.dispatch(inputs[i]!));
    const writes = ranks.map(({ a2a, count }) => a2a.write(count, Int32Array.of(3)));
    const reports = await Promise.all(replays.map((replay) => replay.ready()));
    expect(reports.map(([report]) => report!.tokensSent)).toEqual([1, 1]);
    await Promise.all([...writes, ...rounds.map((round) => round.combine(round.recv[0]!).ready())]);
    await closeAll(a2as);
  });

  it.each([2, MANY])("tensors that %i replays use go back after them", async (times) => {
    const a2as = await createLocal(2);
    const streams = a2as.map(({ device }) => createStream(device));
    const ranks = await captureAll(a2as, 3);
    const replays = ranks.map(({ graph }, i) => graph.replay(times, { stream: streams[i]!.handle }));
    for (const { rows } of ranks) rows.dispose();
    const others = ranks.map(({ a2a }) => a2a.empty("float32", [3, 4]));
    const writes = ranks.map(({ a2a }, i) => a2a.write(others[i]!, new Float32Array(12).fill(-5)));
    await Promise.all(replays.map((replay) => replay.ready()));
    await Promise.all(writes);
    for (const [i, { a2a, out }] of ranks.entries()) expect([...(await a2a.read(out))]).toEqual(rowsOf(i, 3));
    await closeAll(a2as);
    for (const each of streams) each.dispose();
  });

  it("disposed of while their replays are still being enqueued, they run to the end", async () => {
    const a2as = await createLocal(2);
    const ranks = await captureAll(a2as, 2);
    const replays = ranks.map(({ graph }) => graph.replay(MANY));
    for (const { graph } of ranks) graph.dispose();
    const [reports] = await Promise.all(replays.map((replay) => replay.ready()));
    expect(reports![0]).toMatchObject({ round: MANY - 1, tokensSent: 2 });
    await closeAll(a2as);
  });

  it("ready() of replays that have run is the same whatever comes later", async () => {
    const a2as = await createLocal(2);
    const ranks = await captureAll(a2as, 2);
    const early = ranks.map(({ graph }) => graph.replay());
    const abandon = new AbortController();
    const abandoned = expect(early[0]!.ready({ signal: abandon.signal })).rejects.toBe("enough");
    abandon.abort("enough");
    await abandoned;
    await early[1]!.ready();
    const many = ranks.map(({ graph }) => graph.replay(MANY));
    expect(() => many[0]!.readySync()).toThrow(state("replaying"));
    expect(early[1]!.readySync()).toHaveLength(1);
    await Promise.all(many.map((replay) => replay.ready()));
    const told = await early[0]!.ready();
    expect(told[0]).toMatchObject({ round: 0, tokensSent: 2 });
    await closeAll(a2as);
    expect(await early[0]!.ready()).toEqual(told);
    expect(early[0]!.readySync()).toEqual(told);
  });

  it("a stream on which replays are still being enqueued is captured by nobody", async () => {
    const [a2as, others] = [await createLocal(1), await createLocal(1)];
    const [{ graph }] = (await captureAll(a2as, 1)) as [Captured];
    const [other] = others as [CudaMoeAllToAll];
    using shared = createStream(other.device);
    const replays = graph.replay(MANY, { stream: shared.handle });
    const input = {
      numLocalTokens: 0,
      tokenSelectedExperts: other.empty("int32", [0, 1]),
      payloads: [other.empty("float32", [0, 4])],
    };
    const capture = () =>
      other.capture(
        () => {
          const round = other.dispatch(input);
          round.combine(round.recv[0]!);
        },
        { stream: shared.handle },
      );
    await expect(capture()).rejects.toEqual(stream);
    expect((await replays.ready())[0]).toMatchObject({ round: MANY - 1 });
    expect((await (await capture()).replay().ready())[0]).toMatchObject({ round: 0 });
    await closeAll([...a2as, ...others]);
  });

  it.each(["reset", "close"] as const)("%s() ends replays that are still being enqueued", async (how) => {
    const a2as = await createLocal(2, { timeoutMs: 60_000 });
    const [first] = await captureAll(a2as, 1);
    // The other rank does not come.
    const replay = expect(first!.graph.replay(2_000_000_000).ready()).rejects.toEqual(
      state(how === "reset" ? "reset" : "closed"),
    );
    const before = performance.now();
    if (how === "reset") await Promise.all(a2as.map((a2a) => a2a.reset()));
    else await first!.a2a.close();
    await replay;
    expect(performance.now() - before).toBeLessThan(30_000);
    if (how === "reset") await exactRound(a2as);
    await closeAll(a2as);
  });

  it("a stream that is none is refused, and nothing else changes", async () => {
    const a2as = await createLocal(1);
    const [{ graph }] = (await captureAll(a2as, 1)) as [Captured];
    for (const times of [1, MANY]) {
      expect(() => graph.replay(times, { stream: 5 as never })).toThrow(stream);
      expect((await graph.replay(times).ready())[0]).toMatchObject({ tokensSent: 1 });
    }
    await exactRound(a2as);
    await closeAll(a2as);
  });

  it("what would run during a capture, or would not run, is refused", async () => {
    const [a2as, others] = [await createLocal(1), await createLocal(1)];
    const [a2a] = a2as as [CudaMoeAllToAll];
    const [other] = others as [CudaMoeAllToAll];
    const [{ graph }] = (await captureAll(a2as, 1)) as [Captured];
    using free = createStream(a2a.device);
    const inputOf = async (of: CudaMoeAllToAll) => ({
      numLocalTokens: 1,
      tokenSelectedExperts: await upload(of, "int32", [1, 1], [0]),
      payloads: [await upload(of, "float32", [1, 4], [1, 2, 3, 4])],
    });
    const [input, theirs] = [await inputOf(a2a), await inputOf(other)];
    const whole = await a2a.capture((capturing) => {
      expect(() => a2a.dispatch({ ...input, stream: free.handle })).toThrow(stream);
      const round = a2a.dispatch(input);
      expect(() => round.combine(round.recv[0]!, { stream: free.handle })).toThrow(stream);
      round.combine(round.recv[0]!);
      expect(() => graph.replay()).toThrow(state("capturing"));
      expect(() => graph.replay(1, { stream: free.handle })).toThrow(state("capturing"));
      expect(() => other.dispatch({ ...theirs, stream: capturing })).toThrow(stream);
    });
    expect(whole.rounds).toBe(1);
    const inner = await captureAll(others, 1);
    await a2a.capture((capturing) => {
      expect(() => inner[0]!.graph.replay(1, { stream: capturing })).toThrow(stream);
      const round = a2a.dispatch(input);
      round.combine(round.recv[0]!);
    });
    expect((await whole.replay().ready())[0]).toMatchObject({ round: 0, tokensSent: 1 });
    expect(await a2a.dispatch(input).ready()).toMatchObject({ round: 1 });
    expect((await inner[0]!.graph.replay().ready())[0]).toMatchObject({ round: 0 });
    await closeAll([...a2as, ...others]);
  });

  it("close() during a capture ends it", async () => {
    const a2as = await createLocal(1);
    const [a2a] = a2as as [CudaMoeAllToAll];
    const input = {
      numLocalTokens: 0,
      tokenSelectedExperts: a2a.empty("int32", [0, 1]),
      payloads: [a2a.empty("float32", [0, 4])],
    };
    const capture = a2a.capture(async () => {
      const round = a2a.dispatch(input);
      round.combine(round.recv[0]!);
      await sleep(50);
      expect(() => a2a.dispatch(input)).toThrow(state("closed"));
    });
    const refused = expect(capture).rejects.toEqual(state("closed"));
    await a2a.close();
    await refused;
  });

  it("give back all that they take", async () => {
    const before = native().heldHandles();
    for (const lanes of [1, 2] as const) {
      const a2as = await createLocal(2, { roundsInFlight: lanes });
      for (let turn = 0; turn < 3; turn++) {
        const ranks = await captureAll(a2as, 1);
        for (let i = 0; i < 12; i++) for (const { graph } of ranks) graph.replay();
        await Promise.all(ranks.map(({ graph }) => graph.replay(MANY).ready()));
        for (const { graph } of ranks) graph.dispose();
        if (turn === 1) await Promise.all(a2as.map((a2a) => a2a.reset()));
      }
      await closeAll(a2as);
    }
    // Graphs of other tests may have been forgotten meanwhile.
    expect(native().heldHandles()).toBeLessThanOrEqual(before);
  });

  it("ready() does not wait for rounds that were enqueued later, of graphs and others", async () => {
    const a2as = await createLocal(2, { timeoutMs: 60_000 });
    const [first, second] = (await captureAll(a2as, 1)) as [Captured, Captured];
    const before = performance.now();
    const early = [first.graph.replay(), first.graph.replay(), first.graph.replay()];
    for (const replay of early) {
      const theirs = second.graph.replay();
      // Peers that enqueue their next only once they have heard of this one.
      await Promise.all([replay.ready(), theirs.ready()]);
    }
    // Copies come after rounds, so that everything has to be there before.
    const [mine, theirs] = await Promise.all(
      a2as.map(async (a2a) => ({
        numLocalTokens: 1,
        tokenSelectedExperts: await upload(a2a, "int32", [1, 1], [0]),
        payloads: [await upload(a2a, "float32", [1, 4], rowsOf(7, 1))],
      })),
    );
    const rounds = Array.from({ length: 6 }, () => {
      const round = first.a2a.dispatch(mine!);
      return { round, combine: round.combine(round.recv[0]!) };
    });
    for (const { round, combine } of rounds) {
      const other = second.a2a.dispatch(theirs!);
      await Promise.all([round.ready(), other.ready()]);
      await Promise.all([combine.ready(), other.combine(other.recv[0]!).ready()]);
    }
    expect(performance.now() - before).toBeLessThan(30_000);
    await closeAll(a2as);
  });
});
