import { createLocalGroup, largestCapacity } from "@moe-a2a/core";
import { describe, expect, it } from "vitest";
import { cudaBackend } from "../../src/index.js";
import {
  closeAll,
  createLocal,
  dispatch,
  exactRound,
  gpus,
  native,
  noGpu,
  smallConfig,
  upload,
  why,
} from "./world.js";

const state = (name: string) => expect.objectContaining({ code: "ERR_MOE_A2A_STATE", state: name });

describe.skipIf(noGpu)(`calls${why}`, () => {
  it("out of order are refused, in the words of the CPU backend", async () => {
    const a2as = await createLocal(1);
    const [a2a] = a2as as [(typeof a2as)[0]];
    const ids = await upload(a2a, "int32", [1, 1], [0]);
    const rows = await upload(a2a, "float32", [1, 4], [1, 2, 3, 4]);
    const input = { numLocalTokens: 1, tokenSelectedExperts: ids, payloads: [rows] };
    const round = a2a.dispatch(input);
    expect(() => a2a.dispatch(input)).toThrow(state("busy"));
    const combine = round.combine(round.recv[0]!);
    expect(() => round.combine(round.recv[0]!)).toThrow(state("combined"));
    // The lane is free as soon as the combine is enqueued.
    const next = a2a.dispatch(input);
    expect(() => round.recvCounts).toThrow(state("over"));
    expect([...(await a2a.read(combine.output))]).toEqual([1, 2, 3, 4]);
    next.combine(next.recv[0]!);
    expect(() => combine.output).toThrow(state("over"));
    await combine.ready();
    // The device does the waiting, so also ranks that share a thread may block it.
    expect(next.readySync().tokensReceived).toBe(1);
    await a2a.close();
    expect(() => a2a.dispatch(input)).toThrow(state("closed"));
    await expect(a2a.read(rows)).rejects.toEqual(state("closed"));
    await expect(a2a.capture(() => {})).rejects.toEqual(state("closed"));
  });

  it("with memory of another GPU are refused", async () => {
    if (gpus < 2) return;
    const a2as = await createLocal(2);
    const [first, second] = a2as as [(typeof a2as)[0], (typeof a2as)[0]];
    const ids = await upload(second, "int32", [1, 1], [0]);
    const rows = await upload(first, "float32", [1, 4], [0, 0, 0, 0]);
    expect(() => first.dispatch({ numLocalTokens: 1, tokenSelectedExperts: ids, payloads: [rows] })).toThrow(
      "rank 0: tokenSelectedExperts is on cuda device 1; this rank is on device 0",
    );
    await closeAll(a2as);
  });

  it("may ask late, and get the report as long as it is kept", async () => {
    const a2as = await createLocal(1);
    const [a2a] = a2as as [(typeof a2as)[0]];
    const early = await dispatch(a2a, 3);
    early.combine(early.recv[0]!);
    for (let i = 0; i < 40; i++) {
      const round = await dispatch(a2a, 1);
      await round.combine(round.recv[0]!).ready();
    }
    const report = await early.ready();
    expect(report.round).toBe(0);
    expect(report.tokensSent === 3 || Number.isNaN(report.tokensSent)).toBe(true);
    await closeAll(a2as);
  });

  it("of create() that ask for too much name what fits", async () => {
    const [group] = createLocalGroup(1);
    const { totalBytes } = native().device(0);
    const config = smallConfig(1, { maxTokensPerRank: 2 ** 31 - 1, maxDispatchBytesPerToken: 4096 });
    await expect(cudaBackend.create(config, group!)).rejects.toMatchObject({
      code: "ERR_MOE_A2A_CONFIG",
      field: "maxTokensPerRank",
      message: expect.stringContaining(
        `the largest value that fits is ${largestCapacity(config, totalBytes)}`,
      ),
    });
    await expect(cudaBackend.create(smallConfig(1), group!, { device: gpus })).rejects.toMatchObject({
      code: "ERR_MOE_A2A_ARGUMENT",
      argument: "options.device",
    });
    await exactRound([await cudaBackend.create(smallConfig(1), group!)]);
  });

  it("of create() that ask for more than is free fail on every rank", async () => {
    const { freeBytes } = native().memory(0);
    const fits = largestCapacity(smallConfig(1, { maxDispatchBytesPerToken: 4096 }), freeBytes);
    const tooMany = Math.min(2 ** 31 - 1, Math.ceil(fits * 1.01));
    const config = smallConfig(2, { maxDispatchBytesPerToken: 2048, maxTokensPerRank: tooMany });
    const outcomes = await Promise.allSettled(
      createLocalGroup(2).map((group) => cudaBackend.create(config, group, { device: 0 })),
    );
    for (const outcome of outcomes) {
      expect(outcome).toMatchObject({
        status: "rejected",
        reason: {
          code: "ERR_MOE_A2A_CONFIG",
          message: expect.stringMatching(/largest value that fits is \d+/),
        },
      });
    }
    const a2as = await createLocal(2);
    await exactRound(a2as);
    await closeAll(a2as);
  });
});
