import { setTimeout as sleep } from "node:timers/promises";
import { DTYPES, typedArrayOf } from "@moe-a2a/core";
import { describe, expect, it } from "vitest";
import { wrap } from "../../src/index.js";
import { closeAll, createLocal, dispatch, gpus, native, noGpu, rowsOf, upload, why } from "./world.js";

describe.skipIf(noGpu)(`device tensors${why}`, () => {
  it.each(DTYPES)("of %s are written and read back", async (dtype) => {
    const a2as = await createLocal(1);
    const [a2a] = a2as as [(typeof a2as)[0]];
    using t = a2a.empty(dtype, [3, 5]);
    const bytes = new Uint8Array(15 * typedArrayOf(dtype).BYTES_PER_ELEMENT).map((_, i) => 31 * i);
    const data = new (typedArrayOf(dtype))(bytes.buffer);
    await a2a.write(t, data);
    const back = await a2a.read(t);
    expect(back).toEqual(data);
    expect(back.constructor).toBe(data.constructor);
    await closeAll(a2as);
  });

  it("larger than the pinned memory go piece by piece, several at once", async () => {
    const a2as = await createLocal(1);
    const [a2a] = a2as as [(typeof a2as)[0]];
    const elements = 3_000_017;
    const data = Int32Array.from({ length: elements }, (_, i) => i * 2654435761);
    const tensors = [0, 1, 2].map(() => a2a.empty("int32", [elements]));
    await Promise.all(
      tensors.map((t, i) =>
        a2a.write(
          t,
          data.map((x) => x + i),
        ),
      ),
    );
    const back = await Promise.all(tensors.map((t) => a2a.read(t)));
    for (const [i, read] of back.entries())
      expect(Buffer.compare(bytesOf(read), bytesOf(data.map((x) => x + i)))).toBe(0);
    for (const t of tensors) t.dispose();
    await closeAll(a2as);
  });

  it("are written and read while the rank resets", async () => {
    const a2as = await createLocal(2);
    const [a2a] = a2as as [(typeof a2as)[0]];
    const small = await upload(a2a, "float32", [1], [1]);
    using large = a2a.empty("uint8", [9 << 20]);
    // A round that the reset gives up: the other rank does not come.
    await dispatch(a2a, 1, 1);
    let isOver = false;
    const resets = Promise.all(a2as.map((each) => each.reset())).then(() => {
      isOver = true;
    });
    const copies: Promise<unknown>[] = [];
    for (let turn = 0; turn < 100 && !isOver; turn++) {
      copies.push(a2a.write(small, Float32Array.of(turn)), a2a.read(small));
      if (turn % 25 === 0) copies.push(a2a.read(large));
      await sleep(0);
    }
    await Promise.all([...copies, resets]);
    expect([...(await a2a.read(small))]).toEqual([copies.length ? expect.any(Number) : 1]);
    await closeAll(a2as);
  });

  it("are read while another copy waits for a peer that waits for this one", async () => {
    const a2as = await createLocal(2, { roundsInFlight: 2, timeoutMs: 20_000 });
    const inputs = await Promise.all(
      a2as.map(async (a2a) => ({
        numLocalTokens: 1,
        tokenSelectedExperts: await upload(a2a, "int32", [1, 1], [0]),
        payloads: [await upload(a2a, "float32", [1, 4], rowsOf(a2a.epRank, 1))],
      })),
    );
    const [a2a, peer] = a2as as [(typeof a2as)[0], (typeof a2as)[0]];
    const [mine, theirs] = inputs as [(typeof inputs)[0], (typeof inputs)[0]];
    const first = a2a.dispatch({ ...mine, lane: 0 });
    const other = peer.dispatch({ ...theirs, lane: 0 });
    await Promise.all([first.ready(), other.ready()]);
    // The peer combines once lane 1 was seen to work.
    const sums = a2a.read(first.combine(first.recv[0]!).output);
    const second = a2a.dispatch({ ...mine, lane: 1 });
    const received = a2a.read(second.recv[0]!);
    const answer = peer.dispatch({ ...theirs, lane: 1 });
    await Promise.all([second.ready(), answer.ready()]);
    expect([...(await received)].slice(0, 4)).toEqual(rowsOf(0, 1));
    await other.combine(other.recv[0]!).ready();
    expect([...(await sums)]).toEqual(rowsOf(0, 1));
    await closeAll(a2as);
  });

  it("of no elements have no memory", async () => {
    const a2as = await createLocal(1);
    const [a2a] = a2as as [(typeof a2as)[0]];
    const t = a2a.empty("float32", [0, 7]);
    expect(t.data).toBe(0n);
    await a2a.write(t, new Float32Array(0));
    expect(await a2a.read(t)).toEqual(new Float32Array(0));
    await closeAll(a2as);
  });

  it("give their memory back when they are disposed of, once, and are refused afterwards", async () => {
    const a2as = await createLocal(1);
    const [a2a] = a2as as [(typeof a2as)[0]];
    const before = native().heldBytes(a2a.device);
    const tensors = Array.from({ length: 20 }, () => a2a.empty("uint8", [1000]));
    expect(native().heldBytes(a2a.device)).toBeGreaterThanOrEqual(before + 20_000);
    for (const t of [...tensors, ...tensors]) t.dispose();
    expect(native().heldBytes(a2a.device)).toBe(before);
    await expect(a2a.read(tensors[0]!)).rejects.toMatchObject({ code: "ERR_MOE_A2A_ARGUMENT" });
    await closeAll(a2as);
  });

  it("are not used again before the work that uses them has passed", async () => {
    const a2as = await createLocal(1, { maxTokensPerRank: 4 });
    const [a2a] = a2as as [(typeof a2as)[0]];
    for (let turn = 0; turn < 50; turn++) {
      const ids = await upload(a2a, "int32", [4, 1], [0, 0, 0, 0]);
      const rows = await upload(a2a, "float32", [4, 4], new Array(16).fill(turn));
      const round = a2a.dispatch({ numLocalTokens: 4, tokenSelectedExperts: ids, payloads: [rows] });
      for (const t of [ids, rows]) (t as unknown as Disposable)[Symbol.dispose]();
      // Of the same size as the rows, so that it gets their memory as soon as it may.
      using other = a2a.empty("float32", [4, 4]);
      await a2a.write(other, new Float32Array(16).fill(-1));
      const combine = round.combine(round.recv[0]!);
      await combine.ready();
      expect([...(await a2a.read(combine.output))]).toEqual(new Array(16).fill(turn));
    }
    await closeAll(a2as);
  });

  it("that are forgotten are freed by the garbage collector", async () => {
    const a2as = await createLocal(1);
    const [a2a] = a2as as [(typeof a2as)[0]];
    const before = native().heldBytes(a2a.device);
    // Freed only as far as the collector feels like it, so there are many, and some of them have to go.
    for (let i = 0; i < 20_000; i++) a2a.empty("uint8", [512]);
    for (let i = 0; i < 100 && native().heldBytes(a2a.device) >= before + 20_000 * 512; i++) {
      Array.from({ length: 100_000 }, () => ({}));
      await sleep(10);
    }
    expect(native().heldBytes(a2a.device)).toBeLessThan(before + 20_000 * 512);
    await closeAll(a2as);
  });

  it("too large for the GPU are refused, and nothing else breaks", async () => {
    const a2as = await createLocal(1);
    const [a2a] = a2as as [(typeof a2as)[0]];
    expect(() => a2a.empty("float32", [2 ** 40])).toThrow(
      expect.objectContaining({ code: "ERR_MOE_A2A_ARGUMENT", argument: "shape" }),
    );
    const round = await dispatch(a2a, 1);
    expect((await round.ready()).tokensReceived).toBe(1);
    await closeAll(a2as);
  });

  it("of other libraries are wrapped, and checked", async () => {
    const a2as = await createLocal(1);
    const [a2a] = a2as as [(typeof a2as)[0]];
    using owner = a2a.empty("int32", [8]);
    await a2a.write(owner, Int32Array.of(0, 1, 2, 3, 4, 5, 6, 7));
    const middle = wrap(owner.data + 8n, "int32", [3]);
    expect(middle.device).toEqual({ type: "cuda", id: a2a.device });
    expect([...(await a2a.read(middle))]).toEqual([2, 3, 4]);
    const notOfAGpu = expect.objectContaining({ code: "ERR_MOE_A2A_ARGUMENT", argument: "address" });
    expect(() => wrap(0x1000n, "int32", [3])).toThrow(notOfAGpu);
    if (gpus > 1) expect(() => wrap(owner.data, "int32", [3], a2a.device + 1)).toThrow(notOfAGpu);
    expect(() => wrap(owner.data, "int32", [3], gpus)).toThrow(
      expect.objectContaining({ argument: "device" }),
    );
    await closeAll(a2as);
  });
});

function bytesOf({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}
