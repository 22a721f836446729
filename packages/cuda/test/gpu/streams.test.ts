import { describe, expect, it } from "vitest";
import { createStream } from "../../src/index.js";
import { closeAll, createLocal, dispatch, gpus, noGpu, rowsOf, upload, why } from "./world.js";

describe.skipIf(noGpu)(`streams${why}`, () => {
  it("are made, awaited and destroyed", async () => {
    using stream = createStream(0);
    expect(stream.handle).not.toBe(0n);
    await stream.ready();
    stream.dispose();
    expect(() => createStream(gpus)).toThrow(expect.objectContaining({ argument: "device" }));
    expect(() => createStream(-1)).toThrow(expect.objectContaining({ code: "ERR_MOE_A2A_ARGUMENT" }));
  });

  it("of the caller's take rounds, in any mixture with the instance's own", async () => {
    const a2as = await createLocal(2);
    const streams = a2as.map(({ device }) => createStream(device));
    for (let turn = 0; turn < 8; turn++) {
      const rounds = await Promise.all(
        a2as.map((a2a, i) => dispatch(a2a, turn, 1 - i, turn % 2 ? { stream: streams[i]!.handle } : {})),
      );
      for (const [i, round] of rounds.entries()) {
        expect(round.stream).toBe(turn % 2 ? streams[i]!.handle : a2as[i]!.stream());
      }
      // Another stream than the dispatch's has to be ordered after it by the caller.
      const crosses = turn % 4 === 2;
      if (crosses) for (const [i, stream] of streams.entries()) stream.waitFor(rounds[i]!.stream);
      const combines = rounds.map((round, i) =>
        round.combine(round.recv[0]!, crosses ? { stream: streams[i]!.handle } : {}),
      );
      await Promise.all(combines.map((combine) => combine.ready()));
      for (const [i, combine] of combines.entries()) {
        expect([...(await a2as[i]!.read(combine.output))]).toEqual(rowsOf(i, turn));
      }
    }
    await Promise.all(streams.map((stream) => stream.ready()));
    await closeAll(a2as);
    for (const stream of streams) stream.dispose();
  });

  it("order a copy where it is told to come after one", async () => {
    const a2as = await createLocal(1);
    const [a2a] = a2as as [(typeof a2as)[0]];
    using stream = createStream(a2a.device);
    const t = await upload(a2a, "float32", [4], [1, 2, 3, 4]);
    expect([...(await a2a.read(t, { stream: stream.handle }))]).toEqual([1, 2, 3, 4]);
    await expect(a2a.read(t, { stream: 7 as never })).rejects.toMatchObject({ argument: "stream" });
    await closeAll(a2as);
  });

  it("of two lanes are two, and rounds in them do not wait for one another", async () => {
    const a2as = await createLocal(2, { roundsInFlight: 2 });
    const [first, second] = a2as as [(typeof a2as)[0], (typeof a2as)[0]];
    expect(first.stream(0)).not.toBe(first.stream(1));
    expect(() => first.stream(2 as never)).toThrow(expect.objectContaining({ argument: "lane" }));
    // One rank takes lane 0 first, the other lane 1: on one stream each would wait for the other.
    const [a1, a0] = [await dispatch(first, 1, 1, { lane: 1 }), await dispatch(first, 2, 1, { lane: 0 })];
    const [b0, b1] = [await dispatch(second, 2, 0, { lane: 0 }), await dispatch(second, 1, 0, { lane: 1 })];
    const reports = await Promise.all([a0, a1, b0, b1].map((round) => round.ready()));
    expect(reports.map(({ lane, tokensReceived }) => [lane, tokensReceived])).toEqual([
      [0, 2],
      [1, 1],
      [0, 2],
      [1, 1],
    ]);
    await closeAll(a2as);
  });
});
