import { type CpuTensor, tensor } from "@moe-a2a/core";
import { describe, expect, it } from "vitest";
import { expectNoUnhandledRejections } from "./unhandled.js";
import { createLocal, dispatchIds, exactRound } from "./world.js";

expectNoUnhandledRejections();

describe("what a dispatch shows", () => {
  it("holds until its combine is ready, though a peer is one phase ahead", async () => {
    const { a2as } = await createLocal(2);
    const [a, b] = a2as as [(typeof a2as)[0], (typeof a2as)[0]];
    const first = [dispatchIds(a, [0, 4]), dispatchIds(b, [0, 4])] as const;
    await Promise.all(first.map((dispatch) => dispatch.ready()));
    const before = Array.from(first[0].recv[0]!.data as Float32Array);
    const counts = Array.from(first[0].recvCounts.data as Int32Array);
    const combines = first.map((dispatch) => dispatch.combine(dispatch.recv[0] as CpuTensor));
    await combines[1]!.ready();
    const ahead = dispatchIds(b, [0, 0, 0, 0]);
    expect(Array.from(first[0].recv[0]!.data as Float32Array)).toEqual(before);
    expect(Array.from(first[0].recvCounts.data as Int32Array)).toEqual(counts);
    await combines[0]!.ready();
    const next = dispatchIds(a, [4]);
    await Promise.all([ahead.ready(), next.ready()]);
    expect(Array.from(next.recvCounts.data as Int32Array)).toEqual([0, 4]);
  });

  it("lets a peer run one dispatch ahead through a round without slots", async () => {
    const { a2as } = await createLocal(2);
    const [a, b] = a2as as [(typeof a2as)[0], (typeof a2as)[0]];
    const empty = { runtimeMaxTokensPerRank: 0 };
    const first = [dispatchIds(a, [], empty), dispatchIds(b, [], empty)] as const;
    await first[1].ready();
    const none = tensor("float32", [2, 0, 4]);
    await first[1].combine(none).ready();
    const ahead = dispatchIds(b, [0, 1]);
    const report = await first[0].ready();
    expect(report).toMatchObject({ round: 0, tokensSent: 0, tokensReceived: 0 });
    expect(Array.from(first[0].recvCounts.data as Int32Array)).toEqual([0, 0]);
    await first[0].combine(none).ready();
    const next = dispatchIds(a, []);
    await Promise.all([ahead.ready(), next.ready()]);
    expect(Array.from(next.recvCounts.data as Int32Array)).toEqual([0, 2]);
    expect(Array.from(next.recv[0]!.data as Float32Array).slice(16, 24)).toEqual([
      1000, 1000, 1000, 1000, 1001, 1001, 1001, 1001,
    ]);
  });

  it("has nothing of an id that was refused, nor of rounds of another form", async () => {
    const { a2as } = await createLocal(2, { invalidExpert: "error" });
    const play = async (ids: readonly (readonly number[])[], slots: number): Promise<number[][]> => {
      const rounds = a2as.map((a2a, r) => dispatchIds(a2a, ids[r]!, { runtimeMaxTokensPerRank: slots }));
      const reports = await Promise.all(rounds.map((round) => round.ready()));
      const sent = reports.map(({ tokensSent, tokensReceived }) => [tokensSent, tokensReceived]);
      const counts = rounds.map(({ recvCounts }) => Array.from(recvCounts.data as Int32Array));
      for (const round of rounds) void round.combine(tensor("float32", [2, slots, 4])).ready();
      return [...sent, ...counts];
    };
    const idle = [
      [0, 0],
      [0, 0],
      [0, 0],
      [0, 0],
    ];
    expect(await play([[], []], 0)).toEqual(idle);
    expect(() => dispatchIds(a2as[0]!, [0, 4, 99])).toThrow();
    for (let i = 0; i < 3; i++) {
      expect(await play([[], []], 0)).toEqual(idle);
      expect(await play([[], []], 2)).toEqual(idle);
      expect(await play([[0, 4], [4]], 2)).toEqual([
        [2, 1],
        [1, 2],
        [1, 0],
        [1, 1],
      ]);
    }
    await exactRound(a2as);
  });

  it("is agreed on in each round, also after rounds that were all of one form", async () => {
    const { a2as } = await createLocal(2);
    const form = (slots: number) => ({
      numLocalTokens: 0,
      tokenSelectedExperts: tensor("int32", [0, 1]),
      payloads: [tensor("float32", [0, 4])],
      runtimeMaxTokensPerRank: slots,
    });
    const [small, large] = [form(0), form(2)];
    const play = async (input: typeof small): Promise<void> => {
      const rounds = a2as.map((a2a) => a2a.dispatch(input));
      await Promise.all(rounds.map((round) => round.ready()));
      const output = tensor("float32", [2, input.runtimeMaxTokensPerRank, 4]);
      await Promise.all(rounds.map((round) => round.combine(output).ready()));
    };
    for (const input of [small, small, small, large, small, small, large, large, large]) await play(input);
    for (const [first, second] of [
      [large, small],
      [small, large],
    ] as const) {
      const rounds = [a2as[0]!.dispatch(first), a2as[1]!.dispatch(second)];
      const wanted = { code: "ERR_MOE_A2A_MISMATCH", field: "runtimeMaxTokensPerRank" };
      for (const round of rounds) await expect(round.ready()).rejects.toMatchObject(wanted);
      await Promise.all(a2as.map((a2a) => a2a.reset()));
      for (const input of [large, large, large]) await play(input);
    }
  });

  it("is refused before ready() and once the lane has gone on", async () => {
    const { a2as } = await createLocal(1);
    const dispatch = dispatchIds(a2as[0]!, [0]);
    const looks = [
      () => dispatch.recv,
      () => dispatch.recvCounts,
      () => dispatch.expertStats,
      () => dispatch.combineBuffer(4, "float32"),
      () => dispatch.combine(tensor("float32", [1, 4, 4])),
    ];
    for (const look of looks) {
      expect(look).toThrowError(expect.objectContaining({ code: "ERR_MOE_A2A_STATE", state: "dispatched" }));
    }
    await dispatch.ready();
    const combine = dispatch.combine(dispatch.recv[0] as CpuTensor);
    expect(() => combine.output).toThrowError(expect.objectContaining({ state: "combining" }));
    await combine.ready();
    expect(dispatch.recv[0]?.shape).toEqual([1, 4, 4]);
    expect(() => dispatch.combine(dispatch.recv[0] as CpuTensor)).toThrowError(/was combined already/);
    const next = dispatchIds(a2as[0]!, [0]);
    expect(() => dispatch.recv).toThrowError(expect.objectContaining({ state: "over" }));
    expect(combine.output.data[0]).toBe(0);
    await next.ready();
    await next.combine(next.recv[0] as CpuTensor).ready();
    expect(() => combine.output).toThrowError(expect.objectContaining({ state: "over" }));
  });
});

describe("an output in memory of the plan", () => {
  it("is over once the lane combines again, and stays over", async () => {
    const { a2as } = await createLocal(1);
    const a2a = a2as[0]!;
    const round = async () => {
      const dispatch = dispatchIds(a2a, [0]);
      await dispatch.ready();
      const combine = dispatch.combine(dispatch.recv[0] as CpuTensor);
      await combine.ready();
      return combine;
    };
    const first = await round();
    const second = await round();
    const over = expect.objectContaining({ code: "ERR_MOE_A2A_STATE", state: "over" });
    expect(() => first.output).toThrowError(over);
    await dispatchIds(a2a, [0]).ready();
    expect(() => first.output).toThrowError(over);
    expect(second.output.shape).toEqual([1, 4]);
    await a2a.reset();
    expect(() => first.output).toThrowError(over);
  });
});

describe("lanes", () => {
  it("are busy until their combine has completed, also if nobody awaited it", async () => {
    const { a2as } = await createLocal(1);
    const a2a = a2as[0]!;
    const dispatch = dispatchIds(a2a, [0]);
    expect(() => dispatchIds(a2a, [0])).toThrowError(/lane 0 is in round 0: it was not combined/);
    await dispatch.ready();
    dispatch.combine(dispatch.recv[0] as CpuTensor);
    await dispatchIds(a2a, [0]).ready();
  });

  it("take rounds in turn, or as asked", async () => {
    const { a2as } = await createLocal(1, { roundsInFlight: 2 });
    const a2a = a2as[0]!;
    const lanes: number[] = [];
    for (const lane of [undefined, undefined, undefined, 0, 0, undefined] as const) {
      const dispatch = dispatchIds(a2a, [0], lane === undefined ? {} : { lane });
      lanes.push((await dispatch.ready()).lane);
      await dispatch.combine(dispatch.recv[0] as CpuTensor).ready();
    }
    expect(lanes).toEqual([0, 1, 0, 0, 0, 1]);
  });
});

describe("reports", () => {
  it("count what was sent, received and dropped", async () => {
    const { a2as } = await createLocal(2, {
      topK: 4,
      invalidExpert: "drop",
      maxDispatchBytesPerToken: 32,
    });
    const dispatches = [dispatchIds(a2as[0]!, [0, 1, 5, -1, 99, -7, -1, 6]), dispatchIds(a2as[1]!, [])];
    const reports = await Promise.all(dispatches.map((dispatch) => dispatch.ready()));
    expect(reports[0]).toMatchObject({
      round: 0,
      lane: 0,
      tokensSent: 3,
      tokensReceived: 1,
      droppedEntries: { padding: 2, invalidExpert: 2, inactiveRank: 0 },
    });
    expect(reports[1]).toMatchObject({ tokensSent: 0, tokensReceived: 2 });
    expect(await dispatches[0]!.ready()).toBe(reports[0]);
  });

  it("say how long this rank waited, for the rank that was slow", async () => {
    const { a2as } = await createLocal(3);
    const early = [0, 2].map((r) => dispatchIds(a2as[r]!, [0]));
    const reports = Promise.all(early.map((dispatch) => dispatch.ready()));
    await new Promise((resolve) => setTimeout(resolve, 60));
    const late = dispatchIds(a2as[1]!, [0]);
    for (const { waitMs } of await reports) {
      expect(waitMs[1]).toBeGreaterThan(40);
      expect(waitMs[1]).toBe(Math.max(...waitMs));
      expect(waitMs.filter((ms) => ms < 40)).toHaveLength(2);
    }
    expect((await late.ready()).waitMs).toEqual([0, 0, 0]);
  });
});

describe("padding", () => {
  it("holds the invalid id, and 0xFF with the debug switch", async () => {
    const { a2as } = await createLocal(2, {}, { fillPadding: true });
    const dispatches = [dispatchIds(a2as[0]!, [0]), dispatchIds(a2as[1]!, [])];
    await Promise.all(dispatches.map((dispatch) => dispatch.ready()));
    const [rows, ids] = dispatches[0]!.recv as [CpuTensor, CpuTensor];
    expect(Array.from(ids.data as Int32Array)).toEqual([0, -1, -1, -1, -1, -1, -1, -1]);
    const bytes = new Uint8Array(rows.data.buffer, rows.data.byteOffset, rows.data.byteLength);
    expect(bytes.subarray(0, 16).every((byte) => byte === 0)).toBe(true);
    expect(bytes.subarray(16).every((byte) => byte === 0xff)).toBe(true);
  });
});

describe("memory", () => {
  it("is refused across the combine buffer", async () => {
    const { a2as } = await createLocal(1, { maxCombineBytesPerToken: 32 });
    const dispatch = dispatchIds(a2as[0]!, [0], { runtimeMaxTokensPerRank: 2 });
    await dispatch.ready();
    const buffer = dispatch.combineBuffer(8, "float32").data as Float32Array;
    const shifted = { ...tensor("float32", [1, 2, 4]), data: buffer.subarray(1, 9) } as CpuTensor;
    expect(() => dispatch.combine(shifted)).toThrowError(/expertOutput lies inside the combine buffer/);
    const out = { ...tensor("float32", [1, 4]), data: buffer.subarray(0, 4) } as CpuTensor;
    const good = dispatch.combineBuffer(4, "float32");
    expect(() => dispatch.combine(good, { out })).toThrowError(/out lies in this instance.s own memory/);
    await dispatch.combine(good).ready();
  });

  it("is copied in and out by write and read", async () => {
    const { a2as } = await createLocal(1);
    const a2a = a2as[0]!;
    const t = a2a.empty("int32", [2, 2]);
    expect(Array.from(t.data as Int32Array)).toEqual([0, 0, 0, 0]);
    await a2a.write(t, Int32Array.of(1, 2, 3, 4));
    const copy = (await a2a.read(t)) as Int32Array;
    expect(copy).toEqual(Int32Array.of(1, 2, 3, 4));
    copy.fill(0);
    expect(Array.from(t.data as Int32Array)).toEqual([1, 2, 3, 4]);
    await expect(a2a.write(t, Float32Array.of(1, 2, 3, 4))).rejects.toThrowError(
      /the tensor takes a Int32Array of 4/,
    );
    await expect(a2a.write(t, Int32Array.of(1))).rejects.toMatchObject({
      code: "ERR_MOE_A2A_ARGUMENT",
      argument: "data",
    });
    expect(() => a2a.empty("float64" as never, [1])).toThrowError(/"float64" is not a dtype/);
    expect(() => a2a.empty("int32", [-1])).toThrowError(/dimensions are integers >= 0/);
    await exactRound(a2as);
  });
});
