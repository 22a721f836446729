import { type CpuTensor, groupInternalsOf, isMoeA2AError, tensor } from "@moe-a2a/core";
import { describe, expect, it } from "vitest";
import { expectNoUnhandledRejections } from "./unhandled.js";
import { createLocal, dispatchIds, exactRound } from "./world.js";

expectNoUnhandledRejections();

const later = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe("a failed dispatch", () => {
  it("looks like an empty round to whoever kept its views, and rejects on all ranks", async () => {
    const { a2as } = await createLocal(3, { timeoutMs: 150 });
    await exactRound(a2as);
    const good = a2as.map((a2a) => dispatchIds(a2a, [0, 4, 8]));
    await Promise.all(good.map((dispatch) => dispatch.ready()));
    const kept = good.map((dispatch) => ({ ids: dispatch.recv[1]!.data, counts: dispatch.recvCounts.data }));
    const combines = good.map((dispatch) => dispatch.combine(dispatch.recv[0] as CpuTensor));
    await Promise.all(combines.map((combine) => combine.ready()));
    await exactRound(a2as);
    const failing = [0, 1].map((r) => dispatchIds(a2as[r]!, [0, 4, 8]));
    for (const [r, dispatch] of failing.entries()) {
      const error = await dispatch.ready().catch((e: unknown) => e);
      expect(error).toMatchObject({
        code: "ERR_MOE_A2A_PEER_TIMEOUT",
        phase: "dispatch",
        round: 3,
        missingRanks: [2],
        kind: "timeout",
      });
      expect((error as Error).message).toMatch(/dispatch of round 3: rank 2 did not arrive within 150 ms/);
      await expect(dispatch.ready()).rejects.toBe(error);
      expect(() => dispatch.recv).toThrowError(expect.objectContaining({ state: "failed" }));
      expect([...kept[r]!.counts]).toEqual([0, 0, 0]);
      expect([...kept[r]!.ids].every((id) => id === -1)).toBe(true);
    }
    // The rank that was late is told, sends nothing, and is named itself.
    const late = dispatchIds(a2as[2]!, [0]);
    await expect(late.ready()).rejects.toMatchObject({ code: "ERR_MOE_A2A_PEER_TIMEOUT", missingRanks: [2] });
    await Promise.all(a2as.map((a2a) => a2a.reset()));
    await exactRound(a2as);
  });

  it("is sticky until reset, and names the first failure as cause", async () => {
    const { a2as } = await createLocal(2, { timeoutMs: 100 });
    const error = await dispatchIds(a2as[0]!, [0])
      .ready()
      .catch((e: unknown) => e);
    expect(isMoeA2AError(error, "ERR_MOE_A2A_PEER_TIMEOUT")).toBe(true);
    expect(() => dispatchIds(a2as[0]!, [0])).toThrowError(
      expect.objectContaining({
        code: "ERR_MOE_A2A_STATE",
        state: "failed",
        cause: error,
        message: expect.stringMatching(
          /dispatch\(\): this instance has failed .*only reset\(\), abort\(\) and close\(\)/,
        ),
      }),
    );
  });
});

describe("a failed combine", () => {
  it("is NaN in every row of the caller's out", async () => {
    const { a2as } = await createLocal(2, { timeoutMs: 150 });
    const dispatches = a2as.map((a2a) => dispatchIds(a2a, [0, 4]));
    await Promise.all(dispatches.map((dispatch) => dispatch.ready()));
    const out = tensor("bfloat16", [2, 4]);
    const combine = dispatches[0]!.combine(dispatches[0]!.recv[0] as CpuTensor, { out });
    await expect(combine.ready()).rejects.toMatchObject({ phase: "combine", missingRanks: [1] });
    expect([...out.data]).toEqual(new Array(8).fill(0x7fc0));
    expect(() => combine.output).toThrowError(expect.objectContaining({ state: "failed" }));
    const other = dispatches[1]!.combine(dispatches[1]!.recv[0] as CpuTensor);
    await expect(other.ready()).rejects.toMatchObject({
      code: "ERR_MOE_A2A_PEER_TIMEOUT",
      missingRanks: [1],
    });
    await Promise.all(a2as.map((a2a) => a2a.reset()));
    await exactRound(a2as);
  });
});

describe("abort", () => {
  it("fails the round on all ranks, with the reason", async () => {
    const { a2as } = await createLocal(3);
    const dispatches = a2as.map((a2a) => dispatchIds(a2a, [0]));
    const reason = new Error("no memory");
    a2as[1]!.abort(reason);
    a2as[1]!.abort("again");
    await expect(dispatches[1]!.ready()).rejects.toMatchObject({
      code: "ERR_MOE_A2A_ABORTED",
      rank: 1,
      reason,
      cause: reason,
    });
    for (const r of [0, 2]) {
      await expect(dispatches[r]!.ready()).rejects.toMatchObject({
        code: "ERR_MOE_A2A_ABORTED",
        rank: 1,
        reason: "no memory",
        message: expect.stringMatching(/^rank 1 called abort\(\): no memory/),
      });
    }
    await Promise.all(a2as.map((a2a) => a2a.reset()));
    await exactRound(a2as);
  });

  it("wakes a rank that waits, and fails the next phase of one that was done", async () => {
    const { a2as } = await createLocal(2);
    const waiting = expect(dispatchIds(a2as[0]!, [0]).ready()).rejects.toMatchObject({
      code: "ERR_MOE_A2A_ABORTED",
      rank: 1,
    });
    a2as[1]!.abort();
    await waiting;
    await Promise.all(a2as.map((a2a) => a2a.reset()));
    const dispatches = a2as.map((a2a) => dispatchIds(a2a, [0]));
    await Promise.all(dispatches.map((dispatch) => dispatch.ready()));
    a2as[1]!.abort("late");
    const combine = dispatches[0]!.combine(dispatches[0]!.recv[0] as CpuTensor);
    await expect(combine.ready()).rejects.toMatchObject({ code: "ERR_MOE_A2A_ABORTED", reason: "late" });
  });

  it("leaves a round alone that its caller had completed", async () => {
    const { a2as } = await createLocal(2);
    const dispatches = a2as.map((a2a) => dispatchIds(a2a, [a2a.epRank * 4]));
    await Promise.all(dispatches.map((dispatch) => dispatch.ready()));
    const combines = dispatches.map((dispatch) => dispatch.combine(dispatch.recv[0] as CpuTensor));
    await combines[1]!.ready();
    a2as[1]!.abort("next");
    await combines[0]!.ready();
    await expect(dispatchIds(a2as[0]!, [0]).ready()).rejects.toMatchObject({ reason: "next" });
  });

  it("reaches all ranks, even where the one that called ended before it had told them all", async () => {
    const { groups, a2as } = await createLocal(3);
    const [first, waiting] = [dispatchIds(a2as[2]!, [0]), dispatchIds(a2as[1]!, [0])];
    const { ring } = groupInternalsOf(groups[2]!)!;
    groupInternalsOf(groups[2]!)!.ring = (peer) => {
      ring(peer);
      throw new Error(`the thread ends when it has told rank ${peer}`);
    };
    expect(() => a2as[2]!.abort("out of memory")).toThrowError(/has told rank 0/);
    const aborted = { code: "ERR_MOE_A2A_ABORTED", rank: 2, reason: "out of memory" };
    await expect(dispatchIds(a2as[0]!, [0]).ready()).rejects.toMatchObject(aborted);
    // Rank 2 has dispatched and rank 0 will not: without being told, rank 1 would wait for it in vain.
    await expect(waiting.ready()).rejects.toMatchObject(aborted);
    first.ready().catch(() => {});
  });
});

describe("close", () => {
  it.each([
    ["between two looks", 20_000, 0],
    ["when its time is up", 80, 80],
  ])(
    "after an abort leaves the abort as the verdict, also where a peer notices both %s",
    async (_, timeoutMs, after) => {
      const { groups, a2as } = await createLocal(2, { timeoutMs });
      const start = performance.now();
      const waiting = dispatchIds(a2as[1]!, [0]);
      const internals = groupInternalsOf(groups[1]!)!;
      const { peerState } = internals;
      // Rank 1 has looked for a verdict, and is about to look who has left.
      internals.peerState = (peer) => {
        if (performance.now() < start + after) return peerState(peer);
        internals.peerState = peerState;
        a2as[0]!.abort("out of memory");
        void a2as[0]!.close();
        return peerState(peer);
      };
      await expect(waiting.ready()).rejects.toMatchObject({
        code: "ERR_MOE_A2A_ABORTED",
        reason: "out of memory",
      });
    },
  );

  it("is seen at once by who waits, but not by who has heard from the rank", async () => {
    const { a2as } = await createLocal(2, { timeoutMs: 60_000 });
    const dispatches = a2as.map((a2a) => dispatchIds(a2a, [0]));
    await dispatches[1]!.ready();
    await a2as[1]!.close();
    await a2as[1]!.close();
    await dispatches[0]!.ready();
    const combine = dispatches[0]!.combine(dispatches[0]!.recv[0] as CpuTensor);
    await expect(combine.ready()).rejects.toMatchObject({
      code: "ERR_MOE_A2A_PEER_TIMEOUT",
      kind: "closed",
      missingRanks: [1],
      message: expect.stringContaining("rank 1 closed"),
    });
    expect(() => dispatchIds(a2as[1]!, [0])).toThrowError(expect.objectContaining({ state: "closed" }));
    expect(() => a2as[1]!.abort()).toThrowError(expect.objectContaining({ state: "closed" }));
    await expect(a2as[1]!.reset()).rejects.toMatchObject({ state: "closed" });
    await expect(a2as[0]!.reset()).rejects.toMatchObject({
      code: "ERR_MOE_A2A_PEER_TIMEOUT",
      phase: "reset",
      kind: "closed",
      missingRanks: [1],
    });
    await a2as[0]!.reset({ activeRanks: [0] });
    await exactRound([a2as[0]!]);
  });

  it("rejects this rank's own waits", async () => {
    const { a2as } = await createLocal(2);
    const rejected = expect(dispatchIds(a2as[0]!, [0]).ready()).rejects.toMatchObject({ state: "closed" });
    await a2as[0]![Symbol.asyncDispose]();
    await rejected;
  });

  it("ends a reset that waits for the rank, before or in its meeting", async () => {
    const { a2as } = await createLocal(3, { timeoutMs: 60_000 });
    const closed = { code: "ERR_MOE_A2A_PEER_TIMEOUT", phase: "reset", kind: "closed", missingRanks: [2] };
    const waiting = expect(a2as[0]!.reset()).rejects.toMatchObject(closed);
    await later(10);
    await a2as[2]!.close();
    await waiting;
    const again = await createLocal(3, { timeoutMs: 60_000 });
    const met = [
      expect(again.a2as[0]!.reset()).rejects.toMatchObject(closed),
      expect(again.a2as[2]!.reset()).rejects.toMatchObject({ code: "ERR_MOE_A2A_STATE", state: "closed" }),
    ];
    await later(10);
    await again.a2as[2]!.close();
    await Promise.all(met);
  });
});
