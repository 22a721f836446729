import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { emptyIpc, exportIpc, type IpcExport, importIpc, wrap } from "../../src/index.js";
import { closeAll, createLocal, dispatch, exactRound, gpus, noGpu, smallConfig, why } from "./world.js";

const worker = fileURLToPath(new URL("../workers/gpu-ipc.mjs", import.meta.url));

interface Answer {
  readonly read: Float32Array;
  readonly device: unknown;
  readonly data: bigint;
}

/** What a process says of these tensors, on this GPU of its. */
async function inAnotherProcess(device: number, rows: IpcExport, out: IpcExport): Promise<Answer> {
  // So that bytes arrive as bytes.
  const child = fork(worker, { serialization: "advanced", execArgv: [] });
  const exited = once(child, "exit");
  const failed = exited.then(([code, signal]) => {
    throw new Error(`the process ended with ${code ?? signal} and said nothing`);
  });
  child.send({ config: smallConfig(1), device, rows, out });
  const [answer] = await Promise.race([once(child, "message"), failed]);
  expect((await exited)[0]).toBe(0);
  return answer as Answer;
}

const numbers = (count: number): Float32Array => Float32Array.from({ length: count }, (_, i) => i + 0.5);

describe.skipIf(noGpu)(`tensors of other processes${why}`, () => {
  it("are read, sent and written to there, on the same GPU and on another", async () => {
    const a2as = await createLocal(1);
    const [a2a] = a2as as [(typeof a2as)[0]];
    await using rows = await emptyIpc("float32", [3, 4], a2a.device);
    await using out = await emptyIpc("float32", [3, 4], a2a.device);
    await a2a.write(rows, numbers(12));
    for (const device of new Set([a2a.device, gpus - 1])) {
      await a2a.write(out, new Float32Array(12).fill(-1));
      const answer = await inAnotherProcess(device, await exportIpc(rows), await exportIpc(out));
      expect(answer.device).toEqual({ type: "cuda", id: device });
      expect([...answer.read]).toEqual([...numbers(12)]);
      expect(answer.data).toBe(0n); // closed by then
      expect([...(await a2a.read(out))]).toEqual([...numbers(12)]);
    }
    await exactRound(a2as);
    await closeAll(a2as);
  });

  it("may lie in the middle of an allocation, and several in one", async () => {
    const a2as = await createLocal(1);
    const [a2a] = a2as as [(typeof a2as)[0]];
    await using whole = await emptyIpc("float32", [8, 4], a2a.device);
    await a2a.write(whole, numbers(32));
    const rows = await exportIpc(wrap(whole.data + 16n, "float32", [2, 4]));
    const out = await exportIpc(wrap(whole.data + 80n, "float32", [2, 4]));
    expect(rows).toMatchObject({ byteOffset: 16, dtype: "float32", shape: [2, 4] });
    expect(rows.handle).toHaveLength(64);
    expect(out.byteOffset).toBe(80);
    expect([...(await inAnotherProcess(a2a.device, rows, out)).read]).toEqual([...numbers(12).slice(4)]);
    const expected = numbers(32);
    expected.copyWithin(20, 4, 12);
    expect([...(await a2a.read(whole))]).toEqual([...expected]);
    await closeAll(a2as);
  });

  it("of no rows need no memory", async () => {
    await using none = await emptyIpc("bfloat16", [0, 7], 0);
    expect(none.data).toBe(0n);
    const exported = await exportIpc(none);
    expect(exported.handle).toHaveLength(0);
    await using opened = await importIpc(exported, 0);
    expect(opened).toMatchObject({ shape: [0, 7], dtype: "bfloat16", data: 0n });
  });

  it("are refused where the memory cannot be exported, or is none, and nothing else breaks", async () => {
    const a2as = await createLocal(1);
    const [a2a] = a2as as [(typeof a2as)[0]];
    const refused = (argument: string, message: string) =>
      expect.objectContaining({
        code: "ERR_MOE_A2A_ARGUMENT",
        argument,
        message: expect.stringContaining(message),
      });
    using pooled = a2a.empty("float32", [4]);
    await expect(exportIpc(pooled)).rejects.toEqual(refused("t", "emptyIpc()"));
    const round = await dispatch(a2a, 2);
    await expect(exportIpc(round.recv[0]!)).rejects.toEqual(refused("t", "cannot export"));
    await round.combine(round.recv[0]!).ready();

    const shared = await emptyIpc("uint8", [16], a2a.device);
    const past = wrap(shared.data + BigInt(2 ** 21 - 8), "uint8", [16]);
    await expect(exportIpc(past)).rejects.toEqual(refused("t", "of an allocation of 2097152"));
    await expect(exportIpc({ ...past, device: { type: "cuda", id: gpus } })).rejects.toEqual(
      refused("t", "the visible GPUs"),
    );
    await Promise.all([shared.close(), shared.close()]);
    expect(shared.data).toBe(0n);
    await expect(exportIpc(shared)).rejects.toEqual(refused("t", "closed"));
    await expect(emptyIpc("uint8", [2 ** 50], a2a.device)).rejects.toMatchObject({
      code: "ERR_MOE_A2A_CUDA",
      call: "cudaMalloc",
    });

    const nobodys = { handle: new Uint8Array(64), byteOffset: 0, dtype: "uint8", shape: [16] } as const;
    await expect(importIpc(nobodys, a2a.device)).rejects.toMatchObject({
      code: "ERR_MOE_A2A_CUDA",
      call: "cudaIpcOpenMemHandle",
    });
    await expect(importIpc(nobodys, gpus)).rejects.toMatchObject({ argument: "device" });
    await exactRound(a2as);
    await closeAll(a2as);
  });
});
