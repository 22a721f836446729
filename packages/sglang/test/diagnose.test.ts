import { type Backend, type MoeAllToAll, planWorkspace } from "@moe-a2a/core";
import { jsBackend } from "@moe-a2a/js";
import { describe, expect, it } from "vitest";
import { playExactRound } from "../src/diagnose/exact-round.js";
import { lookAtGpus } from "../src/diagnose/gpus.js";
import { isInRange } from "../src/diagnose/installed.js";
import { normalPciBusId, pickMatrix, readDevices, readMatrix } from "../src/diagnose/nvidia-smi.js";
import { type Diagnosis, diagnose } from "../src/index.js";
import { CUDA_MANIFEST, install } from "./installation.js";
import { configOf } from "./world.js";

const PROGRAM = `
  import { diagnose } from "@moe-a2a/sglang";
  console.log(JSON.stringify(await diagnose()));
`;

/** What `diagnose()` finds in a project with these files of `@moe-a2a/cuda`. */
async function diagnoseWith(cuda?: Readonly<Record<string, string>>): Promise<Diagnosis> {
  const project = await install(cuda);
  try {
    return (await project.run(PROGRAM)) as Diagnosis;
  } finally {
    await project.remove();
  }
}

describe("diagnose()", () => {
  it("finds a CPU backend whose round is exact", async () => {
    const { backends, system } = await diagnose();
    const js = backends.find(({ name }) => name === "js");
    expect(js?.round).toMatchObject({ exact: true, ranks: 3, problem: undefined });
    expect(system.node).toBe(process.versions.node);
  });

  it("works out the memory of a config, and allocates none of it", async () => {
    const config = configOf({ epSize: 64, numExperts: 64, maxTokensPerRank: 100_000 });
    const { memory } = await diagnose({ config });
    expect(memory?.plan).toEqual(planWorkspace(config));
    expect(memory?.processPlan).toEqual(planWorkspace(config, { sharedMemory: false }));
  });

  it("says where a rank would not fit", async () => {
    const { ok, problems } = await diagnose({ config: configOf({ maxTokensPerRank: 2 ** 31 - 1 }) });
    expect(ok).toBe(false);
    expect(problems.join()).toMatch(/a rank takes \d+ bytes, and (this machine|GPU 0) has \d+; lower max/);
  });

  it("rejects what it cannot be asked", async () => {
    await expect(diagnose({ backend: "tpu" as "js" })).rejects.toMatchObject({ argument: "backend" });
    await expect(diagnose({ timeoutMs: 0 })).rejects.toMatchObject({ argument: "timeoutMs" });
    await expect(diagnose({ config: configOf({ epSize: 0 }) })).rejects.toMatchObject({ field: "epSize" });
  });

  it("has no problem where there is no CUDA package", async () => {
    const { ok, problems, packages, backends } = await diagnoseWith();
    expect({ ok, problems }).toEqual({ ok: true, problems: [] });
    expect(packages.find(({ name }) => name === "@moe-a2a/cuda")).toEqual({ name: "@moe-a2a/cuda" });
    expect(backends[0]).toMatchObject({ name: "cuda", status: { code: "CUDA_NOT_INSTALLED" } });
  });

  it("has one where the CUDA package is of another version", async () => {
    const manifest = JSON.stringify({ ...JSON.parse(CUDA_MANIFEST), version: "0.0.1" });
    const { ok, problems } = await diagnoseWith({
      "package.json": manifest,
      "index.js": "export const cudaBackend = { status() {}, create() {} };",
    });
    expect(ok).toBe(false);
    expect(problems[0]).toMatch(/^@moe-a2a\/cuda has version 0\.0\.1, and .*npm i @moe-a2a\/cuda@/);
    expect(problems[1]).toMatch(/^cuda cannot run: /);
  });

  it("has one where the CUDA package does not load, and none where there is no GPU", async () => {
    const broken = await diagnoseWith({ "package.json": CUDA_MANIFEST, "index.js": "throw new Error('no')" });
    expect(broken.problems).toHaveLength(1);
    const status = '{ available: false, code: "CUDA_NO_DEVICE", reason: "none", hint: "buy one" }';
    const without = await diagnoseWith({
      "package.json": CUDA_MANIFEST,
      "index.js": `export const cudaBackend = { status: () => (${status}), create() {} };`,
    });
    expect(without).toMatchObject({ ok: true, problems: [] });
  });
});

describe("diagnose() with a CUDA package that can be asked about GPUs", () => {
  const gpu = {
    id: 0,
    name: "NVIDIA H200",
    pciBusId: "0000:1b:00.0",
    uuid: "00112233445566778899aabbccddeeff",
    computeCapability: "9.0",
    multiprocessors: 132,
    memoryBytes: 2 ** 37,
  };
  const facts = {
    driver: "580.95.05",
    driverCuda: "13.0",
    devices: [gpu],
    peers: [[{ access: true, atomics: true }]],
  };
  const status = '{ available: false, code: "CUDA_NO_PEER_ACCESS", reason: "none", hint: "none" }';
  const entry = (inspect: string): string => `
    export const cudaBackend = { status: () => (${status}), create() {} };
    export const inspectGpus = ${inspect};
  `;

  it("takes them from there, also where the backend cannot run", async () => {
    const { gpus, ok } = await diagnoseWith({
      "package.json": CUDA_MANIFEST,
      "index.js": entry(`async () => (${JSON.stringify(facts)})`),
    });
    const { uuid: _, ...device } = gpu;
    expect(gpus).toMatchObject({ source: "cuda", driver: "580.95.05", cuda: "13.0", devices: [device] });
    expect(gpus).toMatchObject({ links: [], peerAccess: [], peerAtomics: [] });
    expect(ok).toBe(false);
  });

  it("goes on where that fails, whatever is thrown", async () => {
    for (const inspect of ["async () => { throw new Error('no'); }", "() => { throw 7; }", "'no function'"]) {
      const { gpus } = await diagnoseWith({ "package.json": CUDA_MANIFEST, "index.js": entry(inspect) });
      expect(gpus.source).not.toBe("cuda");
    }
  });
});

describe("the exact round", () => {
  /** The CPU backend, with something changed in each of its ranks. */
  const spoilt = (spoil: (a2a: MoeAllToAll) => Partial<MoeAllToAll>): Backend => ({
    name: "js",
    status: () => jsBackend.status(),
    create: async (...args) => {
      const a2a = (await jsBackend.create(...args)) as MoeAllToAll;
      const changed = spoil(a2a);
      return new Proxy(a2a, {
        get: (target, name) => {
          const value = Reflect.get(name in changed ? changed : target, name) as unknown;
          return typeof value === "function" ? value.bind(target) : value;
        },
      });
    },
  });

  it.each([1, 2, 8])("passes on %d ranks", async (ranks) => {
    expect(await playExactRound(jsBackend, ranks, 5000)).toMatchObject({ exact: true, ranks });
  });

  it("notices one wrong bit of a result", async () => {
    const backend = spoilt((a2a) => ({
      read: async (t) => {
        const data = (await a2a.read(t)) as Float32Array;
        // Only results have two dimensions.
        if (t.shape.length === 2 && data.length > 5) data[5]! += 1;
        return data;
      },
    }));
    const round = await playExactRound(backend, 3, 5000);
    expect(round.exact).toBe(false);
    expect(round.problem).toMatch(/^rank 0: element 5 of the result is \d+, and should be \d+$/);
  });

  it("tells of a round that fails", async () => {
    const backend = spoilt((a2a) => ({
      dispatch: (input) => {
        if (a2a.epRank === 1) a2a.abort("no");
        return a2a.dispatch(input);
      },
    }));
    const round = await playExactRound(backend, 3, 5000);
    expect(round.problem).toMatch(/^ERR_MOE_A2A_(ABORTED|STATE): /);
  });
});

describe("what nvidia-smi says", () => {
  it("is read: the driver and the GPUs", () => {
    const text =
      "0, 00000000:1B:00.0, NVIDIA H200, 580.95.05, 9.0, 143771, 143000\n" +
      "1, 00000000:43:00.0, NVIDIA H200, 580.95.05, 9.0, 143771, 1\n";
    const { driver, devices } = readDevices(text);
    expect(driver).toBe("580.95.05");
    expect(devices).toHaveLength(2);
    expect(devices[1]).toEqual({
      id: 1,
      name: "NVIDIA H200",
      pciBusId: "0000:43:00.0",
      computeCapability: "9.0",
      multiprocessors: undefined,
      memoryBytes: 143771 * 2 ** 20,
      freeBytes: 2 ** 20,
    });
    expect(readDevices("NVIDIA-SMI has failed\n")).toEqual({ driver: undefined, devices: [] });
  });

  it("is read: links and peer access, without the columns of CPUs and the legend", () => {
    const links = [
      "\t\u001b[4mGPU0\tGPU1\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\u001b[0m",
      "GPU0\t X \tNV18\t0-47\t0\t\tN/A",
      "GPU1\tNV18\t X \t0-47\t0\t\tN/A",
      "",
      "Legend:",
      "  X    = Self",
    ].join("\n");
    expect(readMatrix(links, 2)).toEqual([
      ["X", "NV18"],
      ["NV18", "X"],
    ]);
    const access = " \tGPU0\tGPU1\t\n GPU0\tX\tNS\t\n GPU1\tNS\tX\t\n\nLegend:\n  NS = Not supported\n";
    expect(readMatrix(access, 2)[0]).toEqual(["X", "NS"]);
    expect(readMatrix("", 2)).toEqual([]);
  });

  it("is put into the order in which CUDA shows the GPUs, without those that it hides", () => {
    const matrix = [
      ["X", "NV1", "NV2"],
      ["NV3", "X", "NV4"],
      ["NV5", "NV6", "X"],
    ];
    const known = ["00000000:1B:00.0", "00000000:43:00.0", "00010000:52:00.0"];
    expect(pickMatrix(matrix, known, ["10000:52:00.0", "0000:1b:00.0"])).toEqual([]);
    expect(pickMatrix(matrix, known, ["00010000:52:00.0", "0000:1b:00.0"])).toEqual([
      ["X", "NV5"],
      ["NV2", "X"],
    ]);
    expect(pickMatrix([], known, ["0000:1b:00.0"])).toEqual([]);
    expect(normalPciBusId("00000000:1B:00.0\n")).toBe("0000:1b:00.0");
  });
});

describe("what CUDA says of the GPUs", () => {
  const gpu = (id: number) => ({
    id,
    name: "NVIDIA H200",
    pciBusId: `0000:0${id}:00.0`,
    uuid: "0123456789abcdef0123456789abcdef",
    computeCapability: "9.0",
    multiprocessors: 132,
    memoryBytes: 2 ** 37,
    freeBytes: id === 0 ? 2 ** 36 : undefined,
  });
  const peers = [
    [
      { access: true, atomics: true },
      { access: true, atomics: false },
    ],
    [
      { access: false, atomics: false },
      { access: true, atomics: true },
    ],
  ];

  it("is taken as it is", async () => {
    const found = await lookAtGpus(async () => ({
      driver: "580.95.05",
      driverCuda: "13.0",
      devices: [gpu(0), gpu(1)],
      peers,
    }));
    expect(found).toMatchObject({ source: "cuda", driver: "580.95.05", cuda: "13.0" });
    expect(found.devices[1]).toEqual({ ...gpu(1), uuid: undefined });
    expect(found.peerAccess).toEqual([
      ["X", "OK"],
      ["NS", "X"],
    ]);
    expect(found.peerAtomics).toEqual([
      ["X", "NS"],
      ["NS", "X"],
    ]);
  });

  it("is not missed where it cannot be had, or is that there are none", async () => {
    const without = await lookAtGpus();
    expect(without.source).not.toBe("cuda");
    expect(await lookAtGpus(() => Promise.reject(new Error("no")))).toEqual(without);
    const none = { driver: undefined, driverCuda: "13.0", devices: [], peers: [] };
    expect(await lookAtGpus(async () => none)).toEqual({ ...without, cuda: "13.0" });
  });
});

it.each([
  ["20.19.0", true],
  ["20.20.2", true],
  ["20.18.9", false],
  ["22.0.0", true],
  ["18.30.0", false],
])("Node %s is new enough: %s", (version, expected) => {
  expect(isInRange(version, ">=20.19")).toBe(expected);
});
