import { createLocalGroup } from "@moe-a2a/core";
import { describe, expect, it } from "vitest";
import { createStream, cudaBackend, wrap } from "../src/index.js";
import { peerProblem, platformProblem } from "../src/status.js";

const good = { driverVersion: 13000, runtimeVersion: 13000, deviceCount: 4, deviceError: 0 };

describe("what is missing on a machine", () => {
  it("is nothing where driver and GPUs are there", () => {
    expect(platformProblem(good)).toBeUndefined();
    expect(platformProblem({ ...good, driverVersion: 13020 })).toBeUndefined();
    // A newer minor version of the runtime runs on any driver of its major version.
    expect(platformProblem({ ...good, runtimeVersion: 13010 })).toBeUndefined();
  });

  it.each([
    ["CUDA_NO_DRIVER", { driverVersion: 0, deviceCount: 0, deviceError: 35 }, /no NVIDIA driver/, /580/],
    [
      "CUDA_DRIVER_TOO_OLD",
      { driverVersion: 12080, deviceCount: 0, deviceError: 35 },
      /knows CUDA 12\.8, and CUDA 13\.0 is needed/,
      /580/,
    ],
    [
      "CUDA_NO_DEVICE",
      { deviceCount: 0, deviceError: 100 },
      /shows no GPU/,
      /nvidia-smi|CUDA_VISIBLE_DEVICES/,
    ],
    ["CUDA_NO_DEVICE", { deviceCount: 0 }, /shows no GPU/, /nvidia-smi|CUDA_VISIBLE_DEVICES/],
    ["CUDA_ERROR", { deviceCount: 0, deviceError: 803 }, /error 803/, /nvidia-smi/],
  ])("is told as %s", (code, change, reason, hint) => {
    expect(platformProblem({ ...good, ...change })).toMatchObject({
      available: false,
      code,
      reason: expect.stringMatching(reason),
      hint: expect.stringMatching(hint),
    });
  });

  it("is access between two GPUs, which are named", () => {
    expect(peerProblem(4, () => true)).toBeUndefined();
    expect(peerProblem(1, () => false)).toBeUndefined();
    expect(peerProblem(4, (device, peer) => device !== 1 || peer !== 3)).toMatchObject({
      code: "CUDA_NO_PEER_ACCESS",
      reason: "GPU 1 cannot access the memory of GPU 3",
      hint: expect.stringContaining("CUDA_VISIBLE_DEVICES"),
    });
  });
});

describe.skipIf(cudaBackend.status().available)("without a GPU", () => {
  const config = {
    epSize: 1,
    numExperts: 1,
    topK: 1,
    maxTokensPerRank: 1,
    maxDispatchBytesPerToken: 1,
    maxCombineBytesPerToken: 4,
  };
  const unavailable = expect.objectContaining({
    code: "ERR_MOE_A2A_UNAVAILABLE",
    reason: expect.any(String),
    hint: expect.any(String),
  });

  it("status() says why and what to do, each time", () => {
    const status = cudaBackend.status();
    expect(status).toEqual({
      available: false,
      code: expect.stringMatching(/^CUDA_/),
      reason: expect.stringMatching(/./),
      hint: expect.stringMatching(/./),
    });
    expect(cudaBackend.status()).toEqual(status);
  });

  it("create() rejects with the same, after it has checked the config and the group", async () => {
    const [group] = createLocalGroup(1);
    await expect(cudaBackend.create(config, group!)).rejects.toEqual(unavailable);
    await expect(cudaBackend.create({ ...config, topK: 0 }, group!)).rejects.toMatchObject({ field: "topK" });
    await expect(cudaBackend.create({ ...config, epSize: 2, numExperts: 2 }, group!)).rejects.toMatchObject({
      field: "epSize",
    });
    await expect(cudaBackend.create(config, group!, { maxSms: 0 })).rejects.toMatchObject({
      argument: "options.maxSms",
    });
    await expect(cudaBackend.create(config, group!, { firstRound: -1 })).rejects.toMatchObject({
      argument: "options.firstRound",
    });
  });

  it("streams and foreign memory are refused with the same", () => {
    expect(() => createStream(0)).toThrow(unavailable);
    expect(() => wrap(0x1000n, "int32", [1])).toThrow(unavailable);
    expect(() => wrap(7 as never, "int32", [1])).toThrow(
      expect.objectContaining({ code: "ERR_MOE_A2A_ARGUMENT", argument: "address" }),
    );
    expect(() => wrap(0n, "int33" as never, [1])).toThrow(expect.objectContaining({ argument: "dtype" }));
    expect(() => wrap(0n, "int32", [-1])).toThrow(expect.objectContaining({ argument: "shape" }));
  });
});
