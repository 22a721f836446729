import {
  type Backend,
  type CpuTensor,
  createLocalGroup,
  defineGroupInternals,
  FLAG_STRIDE,
  type Group,
  groupInternalsOf,
  type MoeAllToAll,
  planWorkspace,
  tensor,
} from "@moe-a2a/core";
import { describe, expect, expectTypeOf, it } from "vitest";
import { jsBackend } from "../src/index.js";
import { createLocal, dispatchIds, exactRound, smallConfig } from "./world.js";

/** The same group, with what is allocated through it kept. */
function recording(group: Group, memories: ArrayBufferLike[]): Group {
  const internals = groupInternalsOf(group);
  if (!internals) throw new Error("no memory group");
  const { rank, size } = group;
  const wrapped: Group = {
    rank,
    size,
    exchange: (...args) => group.exchange(...args),
    close: () => group.close(),
  };
  defineGroupInternals(wrapped, {
    ...internals,
    allocate: (bytes) => {
      const memory = internals.allocate(bytes);
      memories.push(memory);
      return memory;
    },
  });
  return wrapped;
}

describe("the workspace", () => {
  it("takes exactly what the plan says, once, at create", async () => {
    const memories: ArrayBufferLike[] = [];
    const config = smallConfig(3, { roundsInFlight: 2, maxExpertStats: 5 });
    const a2as = await Promise.all(
      createLocalGroup(3).map((group) => jsBackend.create(config, recording(group, memories))),
    );
    const plan = planWorkspace(config);
    expect(a2as[0]!.plan).toEqual(plan);
    for (let round = 0; round < 5; round++) await exactRound(a2as);
    expect(memories.map(({ byteLength }) => byteLength)).toEqual([
      plan.windowBytes,
      plan.windowBytes,
      plan.windowBytes,
    ]);
  });

  it("lets combine flags keep up through rounds without slots, lest they seem ahead after half of all numbers", async () => {
    const memories: ArrayBufferLike[] = [];
    const config = smallConfig(2);
    const firstRound = 2 ** 31 - 2;
    const groups = createLocalGroup(2).map((group) => recording(group, memories));
    const a2as = await Promise.all(groups.map((group) => jsBackend.create(config, group, { firstRound })));
    for (let round = firstRound; round < firstRound + 4; round++) {
      const dispatches = a2as.map((a2a) => dispatchIds(a2a, [], { runtimeMaxTokensPerRank: 0 }));
      await Promise.all(dispatches.map((dispatch) => dispatch.ready()));
      const combines = dispatches.map((dispatch) => dispatch.combine(tensor("float32", [2, 0, 4])));
      await Promise.all(combines.map((combine) => combine.ready()));
      const { offset } = planWorkspace(config).regions.find(({ name }) => name === "combineFlags")!;
      const flags = memories.map((memory) =>
        [0, 1].map((peer) => new Int32Array(memory)[(offset + peer * FLAG_STRIDE) / 4]),
      );
      // They are moved on once in 2^16 rounds, of which 2^31 is one.
      const passed = round < 2 ** 31 ? firstRound - 1 : (2 ** 31) | 0;
      expect(flags).toEqual([
        [passed, passed],
        [passed, passed],
      ]);
    }
    await exactRound(a2as);
  });

  it("stays inside its regions, whatever a disagreeing rank sends", async () => {
    const memories: ArrayBufferLike[] = [];
    const config = smallConfig(2, { maxDispatchBytesPerToken: 64, maxTokensPerRank: 8 });
    const groups = createLocalGroup(2).map((group) => recording(group, memories));
    const a2as = await Promise.all(groups.map((group) => jsBackend.create(config, group)));
    const { regions } = planWorkspace(config);
    const recv = regions.find(({ name }) => name === "recv")!;
    const outside = (memory: ArrayBufferLike) =>
      regions
        .filter(({ memory: where, name }) => where === "window" && name === "combine")
        .map(({ offset, bytes }) => new Uint8Array(memory, offset, bytes).join());
    const before = memories.map(outside);
    const send = (rank: number, tokens: number, bytes: number, m: number) => {
      const ids = tensor("int32", [tokens, 1], new Array(tokens).fill(4 * (1 - rank)));
      const rows = tensor("uint8", [tokens, bytes], new Uint8Array(tokens * bytes).fill(0xab));
      return a2as[rank]!.dispatch({
        numLocalTokens: tokens,
        tokenSelectedExperts: ids,
        payloads: [rows],
        runtimeMaxTokensPerRank: m,
      });
    };
    const dispatches = [send(0, 8, 64, 8), send(1, 2, 3, 2)];
    for (const dispatch of dispatches) {
      await expect(dispatch.ready()).rejects.toMatchObject({ code: "ERR_MOE_A2A_MISMATCH" });
    }
    expect(memories.map(outside)).toEqual(before);
    const written = new Uint8Array(memories[1]!, recv.offset, recv.bytes).filter((byte) => byte === 0xab);
    expect(written).toHaveLength(8 * 64);
    await Promise.all(a2as.map((a2a) => a2a.reset()));
    const again = [send(0, 1, 3, 2), send(1, 2, 3, 2)];
    await Promise.all(again.map((dispatch) => dispatch.ready()));
    expect([...again[0]!.recvCounts.data]).toEqual([0, 2]);
  });
});

describe("types", () => {
  it("fit the API of core", async () => {
    expectTypeOf(jsBackend).toExtend<Backend<CpuTensor>>();
    expectTypeOf(jsBackend).toExtend<Backend>();
    expectTypeOf<MoeAllToAll<CpuTensor>>().toExtend<MoeAllToAll>();
    const { a2as } = await createLocal(1);
    const dispatch = dispatchIds(a2as[0]!, [0]);
    const report = await dispatch.ready();
    expectTypeOf(dispatch.recv).toEqualTypeOf<readonly CpuTensor[]>();
    expectTypeOf(report.waitMs).toEqualTypeOf<readonly number[]>();
    await a2as[0]!.close();
  });
});
