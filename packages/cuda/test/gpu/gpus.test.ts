import { describe, expect, it } from "vitest";
import { cudaBackend, inspectGpus } from "../../src/index.js";
import { gpus, native, noGpu, why } from "./world.js";

describe.skipIf(noGpu)(`the GPUs${why}`, () => {
  it("are those of status(), with all that there is to know of them", async () => {
    const status = cudaBackend.status();
    const { driver, driverCuda, devices, peers } = await inspectGpus();
    expect(driver).toMatch(/^\d{3,}\.\d+/);
    expect(Number.parseInt(driverCuda!, 10)).toBeGreaterThanOrEqual(13);
    expect(status).toMatchObject({ devices: devices.map(({ id, name }) => ({ id, name })) });
    for (const {
      id,
      memoryBytes,
      freeBytes,
      multiprocessors,
      computeCapability,
      pciBusId,
      uuid,
    } of devices) {
      expect(memoryBytes).toBe(native().device(id).totalBytes);
      expect(freeBytes).toBeGreaterThan(0);
      expect(freeBytes).toBeLessThan(memoryBytes);
      expect(multiprocessors).toBeGreaterThan(1);
      expect(computeCapability).toMatch(/^\d+\.\d$/);
      expect(pciBusId).toMatch(/^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f]$/);
      expect(uuid).toBe(native().device(id).uuid);
    }
    expect(new Set(devices.map(({ uuid }) => uuid)).size).toBe(gpus);
    // The backend runs only where all reach all.
    for (const [id, row] of peers.entries()) {
      expect(row).toHaveLength(gpus);
      expect(row.every(({ access }) => access)).toBe(true);
      expect(row[id]).toEqual({ access: true, atomics: true });
    }
  });
});
