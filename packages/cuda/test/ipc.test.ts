import { describe, expect, it } from "vitest";
import { cudaBackend, emptyIpc, exportIpc, importIpc } from "../src/index.js";

const tensor = { dtype: "float32", shape: [2, 3], device: { type: "cuda", id: 0 }, data: 4096n } as const;
const exported = { handle: new Uint8Array(64), byteOffset: 0, dtype: "float32", shape: [2, 3] } as const;

describe("memory for other processes", () => {
  it.each([
    ["dtype", () => emptyIpc("float33" as never, [1], 0)],
    ["shape", () => emptyIpc("float32", [-1], 0)],
    ["dtype", () => exportIpc(undefined as never)],
    ["t", () => exportIpc({ ...tensor, data: 5 as never })],
    ["t", () => exportIpc({ ...tensor, device: { type: "cpu", id: 0 } as never })],
    ["shape", () => exportIpc({ ...tensor, shape: [1.5] })],
    ["dtype", () => importIpc(null as never, 0)],
    ["handle", () => importIpc({ ...exported, handle: new Uint8Array(63) }, 0)],
    ["handle", () => importIpc({ ...exported, handle: "text" as never }, 0)],
    ["handle", () => importIpc({ ...exported, handle: [...exported.handle] as never, shape: [0] }, 0)],
    ["byteOffset", () => importIpc({ ...exported, byteOffset: -4 }, 0)],
    ["byteOffset", () => importIpc({ ...exported, byteOffset: 4n as never }, 0)],
  ])("is refused for a wrong %s, whatever there is", async (argument, call) => {
    await expect(call()).rejects.toMatchObject({ code: "ERR_MOE_A2A_ARGUMENT", argument });
  });

  it.skipIf(cudaBackend.status().available)("is not to be had without a GPU", async () => {
    for (const call of [emptyIpc("float32", [2], 0), exportIpc(tensor), importIpc(exported, 0)])
      await expect(call).rejects.toMatchObject({ code: "ERR_MOE_A2A_UNAVAILABLE" });
  });
});
