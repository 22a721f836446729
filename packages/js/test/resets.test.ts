import { type CpuTensor, type GatherOptions, groupInternalsOf, missingError } from "@moe-a2a/core";
import { describe, expect, it } from "vitest";
import { expectNoUnhandledRejections } from "./unhandled.js";
import { createLocal, dispatchIds, exactRound } from "./world.js";

expectNoUnhandledRejections();

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
    [0, 1, 2],
    [0, 2, 1],
    [1, 0, 2],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
  ])(
    "tells of a disagreement a rank that names only some of the others: %i, then %i, then %i",
    async (...order) => {
      for (const gap of [false, true]) {
        const { a2as } = await createLocal(3, { timeoutMs: 60_000 });
        const resets: Promise<void>[] = [];
        for (const rank of order) {
          // Rank 0 does not hear what rank 2 makes of it, only what rank 1 does.
          resets.push(a2as[rank]!.reset({ activeRanks: rank === 0 ? [0, 1] : [0, 1, 2] }));
          resets.at(-1)!.catch(() => {});
          if (gap) await new Promise(setImmediate);
        }
        for (const reset of resets) {
          await expect(reset).rejects.toMatchObject({ code: "ERR_MOE_A2A_MISMATCH", field: "activeRanks" });
        }
        await Promise.all(a2as.map((a2a) => a2a.reset()));
        await exactRound(a2as);
      }
    },
  );

  it("tells whom it left waiting where it failed after they had met", async () => {
    const { groups, a2as } = await createLocal(2);
    const { gatherings } = groupInternalsOf(groups[0]!)!;
    const gather = gatherings.gather.bind(gatherings);
    // Rank 0's time is up at the very moment at which rank 1 finds both there.
    gatherings.gather = async <T>(key: string, value: T, options: GatherOptions<T>): Promise<T[]> => {
      const values = await gather(key, value, options);
      if (!key.endsWith(":cleaned")) return values;
      throw missingError({ ...options, round: 0, missingRanks: [1], kind: "timeout", rank: 0 });
    };
    const missing = { code: "ERR_MOE_A2A_PEER_TIMEOUT", phase: "reset", missingRanks: [1] };
    const resets = a2as.map((a2a) => a2a.reset());
    await expect(resets[0]).rejects.toMatchObject(missing);
    await resets[1];
    // At once, not after the config's 20 s.
    await expect(dispatchIds(a2as[1]!, [0]).ready()).rejects.toMatchObject(missing);
    gatherings.gather = gather;
    await Promise.all(a2as.map((a2a) => a2a.reset()));
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
