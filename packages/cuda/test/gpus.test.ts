import { describe, expect, it } from "vitest";
import { toFacts } from "../src/gpus.js";
import { cudaBackend, inspectGpus } from "../src/index.js";
import { addon, native, skipped } from "./native.js";

const platform = { driverVersion: 13020, runtimeVersion: 13000, deviceCount: 2, deviceError: 0 };
const gpu = {
  name: "NVIDIA H200",
  pciBusId: "0000:1B:00.0",
  uuid: "00112233445566778899aabbccddeeff",
  computeMajor: 9,
  computeMinor: 0,
  multiprocessors: 132,
  totalBytes: 2 ** 37,
};

describe("what the driver says of the GPUs", () => {
  it("is told in words and numbers", () => {
    const facts = toFacts({
      platform,
      driverRelease: "580.95.05",
      devices: [
        { ...gpu, freeBytes: 2 ** 36 },
        { ...gpu, freeBytes: -1 },
      ],
      peers: Uint8Array.of(3, 1, 0, 3),
    });
    expect(facts).toMatchObject({ driver: "580.95.05", driverCuda: "13.2", runtimeCuda: "13.0" });
    expect(facts.devices[0]).toEqual({
      id: 0,
      name: "NVIDIA H200",
      pciBusId: "0000:1b:00.0",
      uuid: gpu.uuid,
      computeCapability: "9.0",
      multiprocessors: 132,
      memoryBytes: 2 ** 37,
      freeBytes: 2 ** 36,
    });
    expect(facts.devices[1]).toMatchObject({ id: 1, freeBytes: undefined });
    expect(facts.peers).toEqual([
      [
        { access: true, atomics: true },
        { access: true, atomics: false },
      ],
      [
        { access: false, atomics: false },
        { access: true, atomics: true },
      ],
    ]);
  });

  it("is little where there is no driver", () => {
    const none = { ...platform, driverVersion: 0, deviceCount: 0, deviceError: 35 };
    expect(
      toFacts({ platform: none, driverRelease: "", devices: [], peers: new Uint8Array(0) }),
    ).toMatchObject({ driver: undefined, driverCuda: undefined, devices: [], peers: [] });
  });
});

it.skipIf(native)("the GPUs cannot be asked about without the addon", async () => {
  await expect(inspectGpus()).rejects.toMatchObject({
    code: "ERR_MOE_A2A_UNAVAILABLE",
    hint: expect.stringMatching(/./),
  });
});

describe.skipIf(!native)(`the GPUs are asked about${skipped}`, () => {
  it("wherever the addon loads, also by several at once", async () => {
    const [first, second] = await Promise.all([inspectGpus(), inspectGpus()]);
    expect(second).toBe(first);
    expect(first.runtimeCuda).toMatch(/^\d+\.\d+$/);
    expect(await inspectGpus()).not.toBe(first);
  });

  it("and there are none where the backend finds none", async () => {
    const status = cudaBackend.status();
    const { devices, peers } = await inspectGpus();
    if (!status.available && status.code !== "CUDA_NO_PEER_ACCESS")
      expect({ devices, peers }).toEqual({ devices: [], peers: [] });
    else expect(devices.length).toBeGreaterThan(0);
  });

  it("one at a time by the addon, and told once", async () => {
    expect(() => addon().inspected()).toThrow("inspect() comes first");
    const running = inspectGpus();
    expect(() => addon().inspect()).toThrow("are being inspected");
    await running;
    expect(() => addon().inspected()).toThrow("inspect() comes first");
  });
});
