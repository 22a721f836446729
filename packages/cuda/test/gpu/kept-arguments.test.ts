import type { CudaTensor } from "@moe-a2a/core";
import { describe, expect, it } from "vitest";
import { closeAll, createLocal, noGpu, rowsOf, upload, why } from "./world.js";

const argument = (name: string) => expect.objectContaining({ code: "ERR_MOE_A2A_ARGUMENT", argument: name });

describe.skipIf(noGpu)(`arguments like the last ones${why}`, () => {
  /** An instance with rows for up to four tokens, each of which goes to expert 0. */
  async function start() {
    const [a2a] = (await createLocal(1, {
      maxTokensPerRank: 32,
      maxDispatchBytesPerToken: 32,
      maxExpertStats: 2,
    })) as [Awaited<ReturnType<typeof createLocal>>[0]];
    const input = async (tokens: number, slots = 8) => ({
      numLocalTokens: tokens,
      runtimeMaxTokensPerRank: slots,
      tokenSelectedExperts: await upload(a2a, "int32", [tokens, 1], new Array(tokens).fill(0)),
      payloads: [
        await upload(a2a, "float32", [tokens, 4], rowsOf(1, tokens)),
        await upload(a2a, "float32", [tokens, 4], rowsOf(2, tokens)),
      ],
    });
    const read = async (t: CudaTensor) => [...(await a2a.read(t))];
    return { a2a, input, read };
  }

  it("make the same round, and others another", async () => {
    const { a2a, input, read } = await start();
    const [two, three, fewer] = [await input(2), await input(3), await input(2, 4)];
    const counted = { ...two, numLocalTokens: await upload(a2a, "int32", [1], [1]) };
    const stats = { ...two, expertStats: await upload(a2a, "int32", [2], [7, 8]) };
    const outs = [a2a.empty("float32", [2, 4]), a2a.empty("float32", [3, 4])];
    for (const [i, given] of [
      two,
      two,
      three,
      two,
      fewer,
      fewer,
      counted,
      two,
      stats,
      stats,
      two,
    ].entries()) {
      const rows = given === three ? 3 : 2;
      for (const out of [undefined, outs[rows - 2]!, outs[rows - 2]!, undefined]) {
        const round = a2a.dispatch(given);
        const report = given === counted ? 1 : rows;
        expect(round.expertStats && (await read(round.expertStats)), `round ${i}`).toEqual(
          given === stats ? [7, 8] : undefined,
        );
        const second = round.recv[1]!;
        expect((await read(second)).slice(0, 4 * report)).toEqual(rowsOf(2, report));
        const combine = round.combine(round.recv[0]!, out ? { out } : {});
        expect((await round.ready()).tokensSent).toBe(report);
        if (out) expect(combine.output).toBe(out);
        else expect(combine.output).toBe(combine.output);
        expect(combine.output.shape).toEqual([rows, 4]);
        expect((await read(combine.output)).slice(0, 4 * report)).toEqual(rowsOf(1, report));
      }
    }
    await closeAll([a2a]);
  });

  it("are refused where they are wrong, whatever was right before", async () => {
    const { a2a, input } = await start();
    const two = await input(2);
    const out = a2a.empty("float32", [4, 4]);
    const at = (t: CudaTensor, bytes: bigint): CudaTensor => ({
      dtype: t.dtype,
      shape: [2, 4],
      device: t.device,
      data: t.data + bytes,
    });
    for (let i = 0; i < 3; i++) {
      const ids = { ...two.tokenSelectedExperts, shape: [2, 1], data: two.tokenSelectedExperts.data + 2n };
      expect(() => a2a.dispatch({ ...two, tokenSelectedExperts: ids })).toThrow(
        argument("tokenSelectedExperts"),
      );
      const round = a2a.dispatch(two);
      const buffer = round.combineBuffer(4, "float32");
      expect(() => round.combine(buffer, { out: at(out, 2n) })).toThrow(argument("out"));
      expect(() => round.combine(buffer, { out: at(buffer, 16n) })).toThrow(argument("out"));
      expect(() => round.combine({ ...buffer, data: buffer.data + 16n })).toThrow(argument("expertOutput"));
      await round.combine(buffer, { out: at(out, 0n) }).ready();
    }
    await closeAll([a2a]);
  });

  it("of a capture leave what an earlier dispatch shows as it was", async () => {
    const { a2a, input } = await start();
    const [wide, narrow] = [await input(2, 32), await input(2, 4)];
    const places = (of: { readonly recv: readonly CudaTensor[] }) => of.recv.map(({ data }) => data);
    const first = a2a.dispatch(wide);
    const expected = places(first);
    first.combine(first.recv[0]!);
    const second = a2a.dispatch(wide);
    await second.combine(second.combineBuffer(4, "float32")).ready();
    const graph = await a2a.capture(() => {
      const captured = a2a.dispatch(narrow);
      expect(places(captured)).not.toEqual(expected);
      captured.combine(captured.combineBuffer(4, "float32"));
    });
    expect(places(second)).toEqual(expected);
    graph.dispose();
    await closeAll([a2a]);
  });
});
