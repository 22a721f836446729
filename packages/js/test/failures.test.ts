import { type CpuTensor, createLocalGroup, type Group, isMoeA2AError, tensor } from "@moe-a2a/core";
import { afterEach, describe, expect, it } from "vitest";
import { jsBackend } from "../src/index.js";
import { createLocal, dispatchIds, exactRound, smallConfig } from "./world.js";

const unhandled: unknown[] = [];
process.on("unhandledRejection", (reason) => void unhandled.push(reason));
afterEach(() => expect(unhandled.splice(0)).toEqual([]));

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
});

describe("close", () => {
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

describe("reset", () => {
  it("goes on without a rank, which is then left out, and takes it back", async () => {
    const { a2as } = await createLocal(3, { timeoutMs: 5_000 });
    const stale = dispatchIds(a2as[2]!, [0]);
    const rest = [a2as[0]!, a2as[1]!];
    await Promise.all(rest.map((a2a) => a2a.reset({ activeRanks: [1, 0] })));
    expect(a2as[0]!.activeRanks).toEqual([0, 1]);
    await expect(stale.ready()).rejects.toMatchObject({ code: "ERR_MOE_A2A_STATE", state: "leftOut" });
    expect(() => dispatchIds(a2as[2]!, [0])).toThrowError(/left this rank out|has failed/);
    const dispatches = rest.map((a2a) => dispatchIds(a2a, [8, 0]));
    const reports = await Promise.all(dispatches.map((dispatch) => dispatch.ready()));
    expect(reports[0]?.droppedEntries).toEqual({ padding: 0, invalidExpert: 0, inactiveRank: 1 });
    const combines = dispatches.map((dispatch) => dispatch.combine(dispatch.recv[0] as CpuTensor));
    await Promise.all(combines.map((combine) => combine.ready()));
    expect([...combines[1]!.output.data]).toEqual([0, 0, 0, 0, 1001, 1001, 1001, 1001]);
    const all = { activeRanks: [0, 1, 2] };
    await Promise.all(a2as.map((a2a) => a2a.reset(all)));
    await exactRound(a2as);
  });

  it("names all ranks that have left for good", async () => {
    const { a2as } = await createLocal(4);
    await Promise.all([a2as[1]!.close(), a2as[3]!.close()]);
    await expect(a2as[0]!.reset()).rejects.toMatchObject({ kind: "closed", missingRanks: [1, 3] });
  });

  it("gives up the rounds in flight", async () => {
    const { a2as } = await createLocal(2);
    const dispatch = dispatchIds(a2as[0]!, [0]);
    const rejected = expect(dispatch.ready()).rejects.toMatchObject({
      code: "ERR_MOE_A2A_STATE",
      state: "reset",
    });
    await Promise.all(a2as.map((a2a) => a2a.reset()));
    await rejected;
    await exactRound(a2as);
  });

  it("names who does not come, and meets at the next try whoever failed where", async () => {
    const { a2as } = await createLocal(3, { timeoutMs: 60_000 });
    const missing = { code: "ERR_MOE_A2A_PEER_TIMEOUT", phase: "reset", kind: "timeout", missingRanks: [2] };
    await Promise.all([
      expect(a2as[0]!.reset({ timeoutMs: 80 })).rejects.toMatchObject(missing),
      expect(a2as[1]!.reset()).rejects.toMatchObject(missing),
    ]);
    expect(() => dispatchIds(a2as[0]!, [0])).toThrowError(expect.objectContaining({ state: "failed" }));
    await Promise.all(a2as.map((a2a) => a2a.reset()));
    await exactRound(a2as);
  });

  it("refuses different memberships on the ranks that meet", async () => {
    const { a2as } = await createLocal(3);
    const values = [[0, 1], [0, 1, 2], undefined];
    const mismatch = { code: "ERR_MOE_A2A_MISMATCH", field: "activeRanks", values };
    await Promise.all([
      expect(a2as[0]!.reset({ activeRanks: [0, 1] })).rejects.toMatchObject(mismatch),
      expect(a2as[1]!.reset()).rejects.toMatchObject(mismatch),
    ]);
    await Promise.all(a2as.map((a2a) => a2a.reset()));
    await exactRound(a2as);
  });

  it("tells a rank that comes late to a disagreement, and one whose peer has gone on from it", async () => {
    const { a2as } = await createLocal(3);
    const mismatch = { code: "ERR_MOE_A2A_MISMATCH", field: "activeRanks" };
    // Rank 2 names [0, 2]; rank 1 fails with it at once, so that rank 0, which comes later, starts at the next meeting.
    const apart = [
      expect(a2as[2]!.reset({ activeRanks: [0, 2] })).rejects.toMatchObject(mismatch),
      expect(a2as[1]!.reset()).rejects.toMatchObject(mismatch),
    ];
    await apart[1];
    await expect(a2as[0]!.reset()).rejects.toMatchObject(mismatch);
    const again = [a2as[0]!, a2as[1]!].map((a2a) => a2a.reset());
    await apart[0];
    await Promise.all([...again, a2as[2]!.reset()]);
    await exactRound(a2as);
  });

  it.each([
    [[1], /leaves out rank 0 itself/],
    [[0, 0], /names rank 0 twice/],
    [[0, 2], /names 2; ranks are 0…1/],
    [[0, "1"], /names "1"/],
    [[], /leaves out rank 0/],
    [3, /is 3, not an array/],
  ])("refuses activeRanks %j and leaves the instance as it was", async (activeRanks, message) => {
    const { a2as } = await createLocal(2);
    await expect(a2as[0]!.reset({ activeRanks: activeRanks as number[] })).rejects.toThrowError(message);
    await expect(a2as[0]!.reset({ timeoutMs: 0 })).rejects.toThrowError(/timeoutMs is 0/);
    await exactRound(a2as);
  });
});

describe("create", () => {
  const config = smallConfig(2, { timeoutMs: 100 });

  it("names who does not come, and pairs with their next attempt", async () => {
    const groups = createLocalGroup(2) as [Group, Group];
    await expect(jsBackend.create(config, groups[0])).rejects.toMatchObject({
      code: "ERR_MOE_A2A_PEER_TIMEOUT",
      phase: "create",
      missingRanks: [1],
    });
    const a2as = await Promise.all(groups.map((group) => jsBackend.create(config, group)));
    await exactRound(a2as);
  });

  it("names the field in which configs differ, with every rank's value", async () => {
    const groups = createLocalGroup(2);
    const results = await Promise.allSettled(
      groups.map((group, r) => jsBackend.create({ ...config, maxTokensPerRank: 4 + r }, group)),
    );
    for (const [r, result] of results.entries()) {
      expect(result).toMatchObject({
        status: "rejected",
        reason: {
          code: "ERR_MOE_A2A_CONFIG",
          field: "maxTokensPerRank",
          value: 4 + r,
          message: expect.stringContaining("config.maxTokensPerRank differs (rank 0: 4, rank 1: 5)"),
        },
      });
    }
  });

  it("checks before anything is allocated or sent", async () => {
    const [group] = createLocalGroup(2) as [Group];
    await expect(jsBackend.create({ ...config, topK: 0 }, group)).rejects.toMatchObject({ field: "topK" });
    await expect(jsBackend.create(smallConfig(3), group)).rejects.toMatchObject({ field: "epSize" });
    await expect(jsBackend.create(config, {} as Group)).rejects.toMatchObject({ argument: "group" });
    const huge = { ...config, maxTokensPerRank: 2 ** 31 - 1 };
    await expect(jsBackend.create(huge, group)).rejects.toThrowError(/the largest value that fits is \d+/);
  });

  it("pairs instances by their order", async () => {
    const groups = createLocalGroup(2);
    const both = await Promise.all(
      groups.map((group) => Promise.all([jsBackend.create(config, group), jsBackend.create(config, group)])),
    );
    await exactRound(both.map((instances) => instances[1]!));
    await exactRound(both.map((instances) => instances[0]!));
  });
});

describe("an AbortSignal", () => {
  it("abandons only that wait", async () => {
    const { a2as } = await createLocal(2);
    const dispatch = dispatchIds(a2as[0]!, [0]);
    const controller = new AbortController();
    const abandoned = expect(dispatch.ready({ signal: controller.signal })).rejects.toBe("enough");
    controller.abort("enough");
    await abandoned;
    await expect(dispatch.ready({ signal: controller.signal })).rejects.toBe("enough");
    const other = dispatchIds(a2as[1]!, [0]);
    await Promise.all([dispatch.ready(), other.ready()]);
    expect([...dispatch.recvCounts.data]).toEqual([1, 1]);
  });
});

describe("a caller's slips", () => {
  it("in a signal are refused, and leave nothing behind", async () => {
    const { a2as } = await createLocal(2);
    const dispatch = dispatchIds(a2as[0]!, [0]);
    for (const signal of [{}, null, "stop"]) {
      await expect(dispatch.ready({ signal: signal as never })).rejects.toMatchObject({
        code: "ERR_MOE_A2A_ARGUMENT",
        argument: "options.signal",
      });
    }
    const other = dispatchIds(a2as[1]!, [0]);
    await Promise.all([dispatch.ready(), other.ready()]);
  });

  it("in getters that throw or call back leave the instance as it was", async () => {
    const { a2as } = await createLocal(2, { maxExpertStats: 2 });
    const ids = tensor("int32", [1, 1], [0]);
    const good = { numLocalTokens: 1, tokenSelectedExperts: ids, payloads: [tensor("float32", [1, 4])] };
    const boom = new Error("boom");
    /** The property works `reads` times, then throws. */
    const spent = (target: object, property: string, reads: number): object => {
      let left = reads;
      return new Proxy(target, {
        get(of, key, receiver) {
          if (key === property && left-- === 0) throw boom;
          return Reflect.get(of, key, receiver);
        },
      });
    };
    for (const property of ["numLocalTokens", "tokenSelectedExperts", "payloads", "expertStats", "lane"]) {
      for (let reads = 0; reads < 3; reads++) {
        const input = spent({ ...good, expertStats: tensor("int32", [2]) }, property, reads) as typeof good;
        let dispatch: ReturnType<(typeof a2as)[0]["dispatch"]> | undefined;
        try {
          dispatch = a2as[0]!.dispatch(input);
        } catch (error) {
          expect(error).toBe(boom);
        }
        // It was read once: what came after the check did not matter, or nothing was sent.
        if (dispatch) {
          const peer = a2as[1]!.dispatch({ ...good, expertStats: tensor("int32", [2]) });
          await Promise.all([dispatch.ready(), peer.ready()]);
          for (const round of [dispatch, peer]) void round.combine(tensor("float32", [2, 4, 4])).ready();
        }
      }
    }
    await exactRound(a2as);
    const again = {
      ...good,
      get payloads() {
        dispatchIds(a2as[0]!, [0]);
        return good.payloads;
      },
    };
    expect(() => a2as[0]!.dispatch(again)).toThrowError(expect.objectContaining({ state: "busy" }));
    expect(() =>
      a2as[0]!.dispatch({
        ...good,
        payloads: [
          { ...good.payloads[0]!, data: { length: 4, [Symbol.toStringTag]: "Float32Array" } as never },
        ],
      }),
    ).toThrowError(/has data that is/);
  });

  it("in recvCounts do not reach the combine", async () => {
    const { a2as } = await createLocal(2);
    for (const value of [5, 9]) {
      const dispatches = a2as.map((a2a) => dispatchIds(a2a, [0, 4]));
      await Promise.all(dispatches.map((dispatch) => dispatch.ready()));
      const combines = dispatches.map((dispatch) => {
        (dispatch.recvCounts.data as Int32Array).fill(0);
        return dispatch.combine(tensor("float32", [2, 4, 4], new Float32Array(32).fill(value)));
      });
      await Promise.all(combines.map((combine) => combine.ready()));
      for (const combine of combines) expect([...combine.output.data]).toEqual(new Array(8).fill(value));
    }
  });

  it("with buffers transferred away do not stop a failure from being told", async () => {
    const { a2as } = await createLocal(2, { roundsInFlight: 2 });
    const dispatches = a2as.map((a2a) => dispatchIds(a2a, [0]));
    await Promise.all(dispatches.map((dispatch) => dispatch.ready()));
    const out = tensor("float32", [1, 4]);
    const combine = dispatches[0]!.combine(dispatches[0]!.recv[0] as CpuTensor, { out });
    const second = dispatchIds(a2as[0]!, [0]);
    structuredClone(out.data.buffer, { transfer: [out.data.buffer as ArrayBuffer] });
    await a2as[0]!.close();
    await expect(combine.ready()).rejects.toMatchObject({ state: "closed" });
    await expect(second.ready()).rejects.toMatchObject({ state: "closed" });
  });
});

describe("the event loop", () => {
  it("takes its turns, though every round finds its peers there", async () => {
    const { a2as } = await createLocal(2);
    let stopped = false;
    setTimeout(() => {
      stopped = true;
    }, 30);
    let rounds = 0;
    while (!stopped && rounds < 1_000_000) {
      const dispatches = a2as.map((a2a) => dispatchIds(a2a, []));
      await Promise.all(dispatches.map((dispatch) => dispatch.ready()));
      await Promise.all(dispatches.map((dispatch) => dispatch.combine(tensor("float32", [2, 4, 4])).ready()));
      rounds++;
    }
    expect(stopped).toBe(true);
  });
});

describe("readySync", () => {
  it("is refused where ranks share the thread", async () => {
    const { a2as } = await createLocal(1);
    const dispatch = dispatchIds(a2as[0]!, [0]);
    expect(() => dispatch.readySync()).toThrowError(
      expect.objectContaining({ code: "ERR_MOE_A2A_STATE", state: "local" }),
    );
    await dispatch.ready();
  });
});
