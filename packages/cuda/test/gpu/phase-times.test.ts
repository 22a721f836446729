import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { type CudaMoeAllToAll, createStream, type DeviceTime } from "../../src/index.js";
import { PhaseClock } from "../../src/phase-clock.js";
import { tokensOf } from "../../src/runtime.js";
import { closeAll, createLocal, gpus, native, noGpu, rowsOf, upload, why } from "./world.js";

/** Clocks are compared to some ten microseconds; a machine that does other things as well adds to that. */
const TOLERANCE_MS = 0.5;

const now = (): number => performance.timeOrigin + performance.now();

/** A dispatch of `tokens` tokens to expert 0 of `target`, ready to be made. */
async function prepare(a2a: CudaMoeAllToAll, tokens: number, target: number) {
  const ids = await upload(a2a, "int32", [tokens, 1], new Array(tokens).fill(2 * target));
  const rows = await upload(a2a, "float32", [tokens, 4], rowsOf(a2a.epRank, tokens));
  const input = { numLocalTokens: tokens, tokenSelectedExperts: ids, payloads: [rows] };
  return (stream?: bigint) => a2a.dispatch(stream === undefined ? input : { ...input, stream });
}

const known = (times: readonly (DeviceTime | undefined)[]): DeviceTime[] =>
  times.map((time) => {
    if (!time) throw new Error("a phase was not timed");
    return time;
  });

describe.skipIf(noGpu)(`times of phases${why}`, () => {
  it("are the GPUs', on the clock of the host, also on streams of the caller's", async () => {
    const a2as = await createLocal(2);
    const streams = a2as.map(({ device }) => createStream(device));
    for (let turn = 0; turn < 6; turn++) {
      const own = await Promise.all(a2as.map((a2a, i) => prepare(a2a, turn, 1 - i)));
      const before = now();
      const rounds = a2as.map((a2a, i) =>
        a2a.timed(() => own[i]!(turn % 2 ? streams[i]!.handle : undefined)),
      );
      const combines = a2as.map((a2a, i) => a2a.timed(() => rounds[i]!.combine(rounds[i]!.recv[0]!)));
      await Promise.all(combines.map((combine) => combine.ready()));
      const dispatched = known(await Promise.all(rounds.map((round) => round.deviceTime())));
      const combined = known(await Promise.all(combines.map((combine) => combine.deviceTime())));
      const after = now();
      for (const i of [0, 1]) {
        const [dispatch, combine] = [dispatched[i]!, combined[i]!];
        expect(dispatch.start).toBeGreaterThan(before - TOLERANCE_MS);
        expect(dispatch.end).toBeGreaterThan(dispatch.start);
        expect(combine.start).toBeGreaterThan(dispatch.end - TOLERANCE_MS);
        expect(combine.end).toBeGreaterThan(combine.start);
        expect(combine.end).toBeLessThan(after + TOLERANCE_MS);
        // Neither ends before the other has begun, whatever GPUs they are on.
        expect(dispatch.end).toBeGreaterThan(dispatched[1 - i]!.start - TOLERANCE_MS);
      }
      expect(await rounds[0]!.deviceTime()).toEqual(dispatched[0]);
    }
    await closeAll(a2as);
    for (const stream of streams) stream.dispose();
  });

  it("show who waited for whom, and what a kernel did", async () => {
    const delays = { beforeStores: [0, 4_000_000] } as const;
    const a2as = await createLocal(2, {}, { delays });
    const [first, second] = a2as as [CudaMoeAllToAll, CudaMoeAllToAll];
    const [early, late] = [await prepare(first, 2, 1), await prepare(second, 2, 0)];
    const one = first.timed(() => early());
    await sleep(40);
    const two = second.timed(() => late());
    const combines = [one, two].map((round, i) => a2as[i]!.timed(() => round.combine(round.recv[0]!)));
    await Promise.all(combines.map((combine) => combine.ready()));
    const [waited, came] = known([await one.deviceTime(), await two.deviceTime()]) as [
      DeviceTime,
      DeviceTime,
    ];
    expect(waited.end - waited.start).toBeGreaterThan(30);
    expect(came.end - came.start).toBeLessThan(30);
    expect(Math.abs(waited.end - came.end)).toBeLessThan(10);
    for (const { start, end } of known(await Promise.all(combines.map((combine) => combine.deviceTime()))))
      expect(end - start).toBeGreaterThan(3.5);
    await closeAll(a2as);
  });

  it("are told of a round that fails, too", async () => {
    const a2as = await createLocal(2, { timeoutMs: 300 });
    const [a2a] = a2as as [CudaMoeAllToAll];
    const dispatch = await prepare(a2a, 1, 0);
    const round = a2a.timed(() => dispatch());
    await expect(round.ready()).rejects.toMatchObject({ code: "ERR_MOE_A2A_PEER_TIMEOUT" });
    const [{ start, end }] = known([await round.deviceTime()]) as [DeviceTime];
    expect(end - start).toBeGreaterThan(290);
    await closeAll(a2as);
  });

  it("are not taken unless asked for, nor in a capture", async () => {
    const a2as = await createLocal(1);
    const [a2a] = a2as as [CudaMoeAllToAll];
    const dispatch = await prepare(a2a, 1, 0);
    const plain = dispatch();
    const combine = plain.combine(plain.recv[0]!);
    await combine.ready();
    expect(await plain.deviceTime()).toBeUndefined();
    expect(await combine.deviceTime()).toBeUndefined();
    expect(() => a2a.timed(7 as never)).toThrow(expect.objectContaining({ argument: "fn" }));
    expect(() =>
      a2a.timed(() => {
        throw new RangeError("mine");
      }),
    ).toThrow(RangeError);
    const captured: Promise<DeviceTime | undefined>[] = [];
    using graph = await a2a.capture(() =>
      a2a.timed(() => {
        const round = dispatch();
        captured.push(round.deviceTime(), round.combine(round.recv[0]!).deviceTime());
      }),
    );
    expect(await Promise.all(captured)).toEqual([undefined, undefined]);
    await graph.replay(2).ready();
    await closeAll(a2as);
  });

  it("are not taken where somebody else captures the stream, whose capture goes on", async () => {
    const clock = new PhaseClock(native(), tokensOf(native()), 0);
    using stream = createStream(0);
    native().beginCapture(0, stream.handle);
    const before = native().heldTimers();
    expect(clock.begin(stream.handle)).toBeUndefined();
    expect(native().heldTimers()).toBe(before);
    expect(native().isCapturing(0, stream.handle)).toBe(true);
    try {
      native().destroyGraph(0, native().endCapture(0, stream.handle));
    } catch {
      // It held nothing.
    }
    await stream.ready();
    expect(await clock.begin(stream.handle)!.end()).toBeDefined();
  });

  it("leave no timer behind, however many", async () => {
    const a2as = await createLocal(2);
    const before = native().heldTimers();
    const times: Promise<DeviceTime | undefined>[] = [];
    const own = await Promise.all(a2as.map((a2a, i) => prepare(a2a, 2, 1 - i)));
    for (let turn = 0; turn < 200; turn++) {
      const rounds = a2as.map((a2a, i) => a2a.timed(() => own[i]!()));
      const combines = a2as.map((a2a, i) => a2a.timed(() => rounds[i]!.combine(rounds[i]!.recv[0]!)));
      times.push(...[...rounds, ...combines].map((phase) => phase.deviceTime()));
      if (turn % 10 === 9) await Promise.all(combines.map((combine) => combine.ready()));
    }
    known(await Promise.all(times));
    // One of each GPU stays, from which the others are counted.
    expect(native().heldTimers()).toBeLessThanOrEqual(before + gpus);
    await closeAll(a2as);
  });

  it("are right after a pause, when the clocks are compared anew", async () => {
    const a2as = await createLocal(1);
    const [a2a] = a2as as [CudaMoeAllToAll];
    const dispatch = await prepare(a2a, 1, 0);
    for (let turn = 0; turn < 3; turn++) {
      const before = now();
      const round = a2a.timed(() => dispatch());
      await round.combine(round.recv[0]!).ready();
      const [{ start, end }] = known([await round.deviceTime()]) as [DeviceTime];
      expect(start).toBeGreaterThan(before - TOLERANCE_MS);
      expect(end).toBeLessThan(now() + TOLERANCE_MS);
      await sleep(1_200);
    }
    await closeAll(a2as);
  });
});
