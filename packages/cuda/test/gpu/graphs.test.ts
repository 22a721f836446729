import { describe, expect, it } from "vitest";
import type { CudaMoeAllToAll, Graph } from "../../src/index.js";
import { closeAll, createLocal, dispatch, exactRound, noGpu, rowsOf, upload, why } from "./world.js";

/** Rounds of up to `most` tokens with the count in device memory; each rank sends to the next. */
async function captureAll(a2as: readonly CudaMoeAllToAll[], most: number) {
  return await Promise.all(
    a2as.map(async (a2a, i) => {
      const target = (i + 1) % a2as.length;
      const ids = await upload(a2a, "int32", [most, 1], new Array(most).fill(2 * target));
      const rows = await upload(a2a, "float32", [most, 4], rowsOf(i, most));
      const out = a2a.empty("float32", [most, 4]);
      const count = await upload(a2a, "int32", [1], [0]);
      const graph = await a2a.capture(() => {
        const round = a2a.dispatch({ numLocalTokens: count, tokenSelectedExperts: ids, payloads: [rows] });
        round.combine(round.recv[0]!, { out });
      });
      return { a2a, graph, count, out };
    }),
  );
}

describe.skipIf(noGpu)(`graphs${why}`, () => {
  it("replay with a count that changes on the device, down to zero and back", async () => {
    const a2as = await createLocal(2);
    const ranks = await captureAll(a2as, 6);
    for (const counts of [
      [6, 6],
      [5, 0],
      [0, 0],
      [0, 3],
      [6, 1],
    ]) {
      for (const [i, { a2a, count, out }] of ranks.entries()) {
        await a2a.write(count, Int32Array.of(counts[i]!));
        await a2a.write(out, new Float32Array(24).fill(-1));
      }
      const replays = ranks.map(({ graph }) => graph.replay());
      const reports = await Promise.all(replays.map((replay) => replay.ready()));
      for (const [i, { a2a, out }] of ranks.entries()) {
        expect(reports[i]).toHaveLength(1);
        expect(reports[i]![0]).toMatchObject({ tokensSent: counts[i], tokensReceived: counts[1 - i] });
        const sums = [...(await a2a.read(out))];
        expect(sums).toEqual([...rowsOf(i, counts[i]!), ...new Array((6 - counts[i]!) * 4).fill(-1)]);
      }
      expect(await replays[0]!.ready()).toEqual(reports[0]);
    }
    await exactRound(a2as);
    await closeAll(a2as);
  });

  it("replay many times in one call, beside the event loop", async () => {
    const a2as = await createLocal(2);
    const ranks = await captureAll(a2as, 2);
    for (const [i, { a2a, count }] of ranks.entries()) await a2a.write(count, Int32Array.of(i));
    let turns = 0;
    const counting = setInterval(() => turns++, 1);
    const replays = ranks.map(({ graph }) => graph.replay(5_000));
    expect(() => ranks[0]!.graph.replay()).toThrow(
      expect.objectContaining({ code: "ERR_MOE_A2A_STATE", state: "busy" }),
    );
    const [reports] = await Promise.all(replays.map((replay) => replay.ready()));
    clearInterval(counting);
    expect(reports![0]!.round).toBe(4_999);
    expect(turns).toBeGreaterThan(0);
    await exactRound(a2as);
    await closeAll(a2as);
  });

  it("hold several rounds, on both lanes", async () => {
    const a2as = await createLocal(2, { roundsInFlight: 2 });
    const graphs = await Promise.all(
      a2as.map(async (a2a) => {
        const ids = await upload(a2a, "int32", [3, 1], [0, 2, 0]);
        const rows = await upload(a2a, "float32", [3, 4], rowsOf(a2a.epRank, 3));
        return await a2a.capture(() => {
          for (let i = 0; i < 4; i++) {
            const round = a2a.dispatch({ numLocalTokens: 3, tokenSelectedExperts: ids, payloads: [rows] });
            round.combine(round.recv[0]!);
          }
        });
      }),
    );
    expect(graphs.map((graph) => graph.rounds)).toEqual([4, 4]);
    for (let turn = 1; turn < 4; turn++) {
      const [reports] = await Promise.all(graphs.map((graph) => graph.replay().ready()));
      expect(reports!.map(({ lane, round }) => [lane, round])).toEqual([
        [0, 2 * turn - 2],
        [0, 2 * turn - 1],
        [1, 2 * turn - 2],
        [1, 2 * turn - 1],
      ]);
    }
    for (const graph of graphs) graph.dispose();
    expect(() => graphs[0]!.replay()).toThrow(expect.objectContaining({ state: "disposed" }));
    await closeAll(a2as);
  });

  it("refuse what cannot be captured, and leave the instance as it was", async () => {
    const a2as = await createLocal(1);
    const [a2a] = a2as as [CudaMoeAllToAll];
    const state = (name: string) => expect.objectContaining({ code: "ERR_MOE_A2A_STATE", state: name });
    const ids = await upload(a2a, "int32", [1, 1], [0]);
    const rows = await upload(a2a, "float32", [1, 4], [1, 2, 3, 4]);
    const input = { numLocalTokens: 1, tokenSelectedExperts: ids, payloads: [rows] };
    await expect(a2a.capture(() => void a2a.dispatch(input))).rejects.toEqual(state("captured"));
    await expect(a2a.capture(() => {})).rejects.toEqual(state("captured"));
    await expect(
      a2a.capture(() => {
        a2a.dispatch(input).combine(rows as never);
      }),
    ).rejects.toMatchObject({ code: "ERR_MOE_A2A_ARGUMENT" });
    const own = new Error("mine");
    await expect(a2a.capture(() => Promise.reject(own))).rejects.toBe(own);
    await a2a.capture(async () => {
      await expect(a2a.capture(() => {})).rejects.toEqual(state("capturing"));
      await expect(a2a.read(rows)).rejects.toEqual(state("capturing"));
      await expect(a2a.reset()).rejects.toEqual(state("capturing"));
      const round = a2a.dispatch(input);
      await expect(round.ready()).rejects.toEqual(state("captured"));
      // Memory of the capture lives as long as the graph.
      const out = a2a.empty("float32", [1, 4]);
      await expect(round.combine(round.recv[0]!, { out }).ready()).rejects.toEqual(state("captured"));
    });
    const open = await dispatch(a2a, 1);
    await expect(a2a.capture(() => {})).rejects.toEqual(state("busy"));
    open.combine(open.recv[0]!);
    await exactRound(a2as);
    await closeAll(a2as);
  });

  it("tell of a failure, and of the first only, and go on after a reset", async () => {
    const a2as = await createLocal(2);
    const ranks = await captureAll(a2as, 2);
    await ranks[0]!.a2a.write(ranks[0]!.count, Int32Array.of(3));
    const outcomes = ranks.map(({ graph }) => graph.replay(3).ready());
    for (const outcome of outcomes) {
      await expect(outcome).rejects.toMatchObject({ code: "ERR_MOE_A2A_CAPACITY", value: 3, limit: 2 });
    }
    expect(() => ranks[0]!.graph.replay()).toThrow(expect.objectContaining({ state: "failed" }));
    await ranks[0]!.a2a.write(ranks[0]!.count, Int32Array.of(2));
    await Promise.all(a2as.map((a2a) => a2a.reset()));
    const replays = ranks.map(({ graph }: { graph: Graph }) => graph.replay(2));
    const [reports] = await Promise.all(replays.map((replay) => replay.ready()));
    expect(reports![0]).toMatchObject({ tokensSent: 2 });
    await closeAll(a2as);
  });
});
