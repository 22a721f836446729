import type { CudaTensor } from "@moe-a2a/core";
import { describe, expect, it } from "vitest";
import type { CudaMoeAllToAll } from "../../src/index.js";
import { closeAll, createLocal, dispatch, noGpu, rowsOf, upload, why } from "./world.js";

const argument = (name: string) => expect.objectContaining({ code: "ERR_MOE_A2A_ARGUMENT", argument: name });

/** The first rows of a tensor's memory in another form. */
const as = (t: CudaTensor, shape: readonly number[], dtype: CudaTensor["dtype"] = t.dtype): CudaTensor => ({
  dtype,
  shape,
  device: t.device,
  data: t.data,
});

describe.skipIf(noGpu)(`tensors in memory of the plan${why}`, () => {
  it("are no output of a combine, of either lane", async () => {
    const a2as = await createLocal(1, { roundsInFlight: 2 });
    const [a2a] = a2as as [CudaMoeAllToAll];
    const other = await dispatch(a2a, 2, 0, { lane: 1 });
    const otherSums = other.combine(other.recv[0]!).output;
    const round = await dispatch(a2a, 2, 0, { lane: 0 });
    const expertOutput = await upload(a2a, "float32", [1, 8, 4], rowsOf(3, 8));
    for (const plan of [
      round.recv[0]!,
      other.recv[0]!,
      round.combineBuffer(4, "float32"),
      round.recvCounts,
      otherSums,
    ]) {
      expect(() => round.combine(expertOutput, { out: as(plan, [2, 4], "float32") })).toThrow(
        argument("out"),
      );
    }
    const combine = round.combine(expertOutput);
    await combine.ready();
    expect([...(await a2a.read(combine.output))]).toEqual(rowsOf(3, 2));
    await closeAll(a2as);
  });

  it("are no expert output where the sums go, however the arguments were before", async () => {
    const a2as = await createLocal(1);
    const [a2a] = a2as as [CudaMoeAllToAll];
    const input = async (tokens: number) => ({
      numLocalTokens: tokens,
      runtimeMaxTokensPerRank: 8,
      tokenSelectedExperts: await upload(a2a, "int32", [tokens, 1], new Array(tokens).fill(0)),
      payloads: [await upload(a2a, "float32", [tokens, 4], rowsOf(1, tokens))],
    });
    const [none, eight] = [await input(0), await input(8)];
    const first = a2a.dispatch(eight);
    const sums = as(first.combine(first.recv[0]!).output, [1, 8, 4]);
    // Without a token there are no sums, and nothing is shared.
    const empty = a2a.dispatch(none);
    await empty.combine(sums).ready();
    const second = a2a.dispatch(eight);
    expect(() => second.combine(sums)).toThrow(argument("expertOutput"));
    const out = a2a.empty("float32", [8, 4]);
    await second.combine(sums, { out }).ready();
    expect([...(await a2a.read(out))]).toEqual(rowsOf(1, 8));
    await closeAll(a2as);
  });

  it("are no input of a dispatch that writes them", async () => {
    const a2as = await createLocal(1, { maxExpertStats: 8 });
    const [a2a] = a2as as [CudaMoeAllToAll];
    const ids = await upload(a2a, "int32", [2, 1], [0, 0]);
    const rows = await upload(a2a, "float32", [2, 4], rowsOf(4, 2));
    const expertStats = await upload(a2a, "int32", [8], [1, 2, 3, 4, 5, 6, 7, 8]);
    const good = { numLocalTokens: 2, tokenSelectedExperts: ids, payloads: [rows], expertStats };
    const last = a2a.dispatch(good);
    const [received] = last.recv as [CudaTensor];
    const combine = last.combine(received);
    const shown = { counts: last.recvCounts, stats: last.expertStats! };
    for (const [name, change] of [
      ["payloads[1]", { payloads: [as(rows, [2, 0]), as(received, [2, 4])] }],
      ["tokenSelectedExperts", { tokenSelectedExperts: as(received, [2, 1], "int32") }],
      ["numLocalTokens", { numLocalTokens: as(shown.counts, [1]) }],
      ["expertStats", { expertStats: as(shown.stats, [8]) }],
    ] as const) {
      expect(() => a2a.dispatch({ ...good, ...change }), name).toThrow(argument(name));
    }
    // The sums of the round before are nobody else's.
    const next = a2a.dispatch({ ...good, payloads: [combine.output] });
    const again = next.combine(next.recv[0]!);
    await again.ready();
    expect([...(await a2a.read(again.output))]).toEqual(rowsOf(4, 2));
    await closeAll(a2as);
  });
});
