import { createLocalGroup, tensor } from "@moe-a2a/core";
import { afterEach, describe, expect, test } from "vitest";
import { createMoeAllToAll, MoeA2ADispatcher } from "../src/index.js";
import { CUDA_MANIFEST, type Installation, install } from "./installation.js";
import { configOf, dense, hiddenSize, makeTokens, randomFrom, runExperts } from "./world.js";

let installation: Installation | undefined;
afterEach(() => installation?.remove());

describe("createMoeAllToAll", () => {
  test("checks the config and the preference before anything is exchanged", async () => {
    const config = configOf();
    const [zero, one] = createLocalGroup(2);
    await expect(createMoeAllToAll({ ...config, topK: 0 }, zero!)).rejects.toMatchObject({
      code: "ERR_MOE_A2A_CONFIG",
      field: "topK",
    });
    await expect(createMoeAllToAll(config, zero!, { backend: "gpu" as "js" })).rejects.toMatchObject({
      code: "ERR_MOE_A2A_ARGUMENT",
      argument: "backend",
    });
    // Had rank 0 exchanged anything, its calls would now be ahead of rank 1's.
    const ranks = await Promise.all(
      [zero!, one!].map((g) => createMoeAllToAll(config, g, { backend: "js" })),
    );
    await Promise.all(
      ranks.map(async (a2a) => {
        const dispatcher = new MoeA2ADispatcher({ a2a, hiddenSize, dtype: "float32" });
        const tokens = makeTokens(randomFrom(a2a.epRank), 3, config);
        const received = await dispatcher.dispatch(tokens.hiddenStates, tokens.topkOutput);
        expect([...(await dispatcher.combine(runExperts(a2a, received))).data]).toEqual(dense(tokens));
        await a2a.close();
      }),
    );
  });

  test("names a rank that does not come, which meets the others at their next attempt", async () => {
    const config = configOf({ timeoutMs: 150 });
    const [zero, one] = createLocalGroup(2);
    await expect(createMoeAllToAll(config, zero!, { backend: "js" })).rejects.toMatchObject({
      code: "ERR_MOE_A2A_PEER_TIMEOUT",
      phase: "create",
      missingRanks: [1],
      kind: "timeout",
    });
    const ranks = await Promise.all(
      [one!, zero!].map((g) => createMoeAllToAll(config, g, { backend: "js" })),
    );
    await Promise.all(ranks.map((a2a) => a2a.close()));
  });

  test("makes several instances over one group, in order of creation", async () => {
    const groups = createLocalGroup(2);
    const small = configOf({ maxTokensPerRank: 2 });
    const large = configOf({ maxTokensPerRank: 4 });
    const made = await Promise.all(
      groups.map((group) =>
        Promise.all([
          createMoeAllToAll(small, group, { backend: "js" }),
          createMoeAllToAll(large, group, { backend: "js" }),
        ]),
      ),
    );
    for (const [a, b] of made) {
      expect([a.config.maxTokensPerRank, b.config.maxTokensPerRank]).toEqual([2, 4]);
      await a.close();
      await b.close();
    }
  });

  test("refuses preferences that contradict each other, on every rank", async () => {
    const backends = ["js", "cuda", "auto"] as const;
    const results = await Promise.allSettled(
      createLocalGroup(3).map((group, rank) =>
        createMoeAllToAll(configOf({ epSize: 3 }), group, { backend: backends[rank] }),
      ),
    );
    for (const result of results) {
      expect(result).toMatchObject({
        status: "rejected",
        reason: {
          code: "ERR_MOE_A2A_CONFIG",
          field: "backend",
          value: backends,
          message: expect.stringContaining('rank 0 for "js", rank 1 for "cuda", rank 2 for "auto"'),
        },
      });
    }
  });

  test("names the ranks that do not come, within the config's time limit", async () => {
    const [zero] = createLocalGroup(2);
    await expect(
      createMoeAllToAll(configOf({ timeoutMs: 50 }), zero!, { backend: "js" }),
    ).rejects.toMatchObject({
      code: "ERR_MOE_A2A_PEER_TIMEOUT",
      missingRanks: [1],
    });
  });

  test("refuses what another version of this package might send", async () => {
    const [zero, one] = createLocalGroup(2);
    const created = createMoeAllToAll(configOf(), zero!, { backend: "js" });
    await one!.exchange("moe-a2a:select-backend", tensor("uint8", [1], [9]).data);
    await expect(created).rejects.toMatchObject({ code: "ERR_MOE_A2A_MISMATCH", field: "backend" });
  });
});

describe("ranks on worker threads, each with what it can have", () => {
  /** A CUDA package that can run on the threads whose environment says so; its collective is the CPU's. */
  const CUDA = {
    "package.json": CUDA_MANIFEST,
    "index.js": `
      import { jsBackend } from "@moe-a2a/js";
      const status = () =>
        process.env.CUDA_HERE === "1"
          ? { available: true, devices: [{ type: "cuda", id: 0, name: "test" }] }
          : { available: false, code: "CUDA_NO_DEVICE", reason: "no device", hint: "use another host" };
      const create = (config, group) => jsBackend.create(config, group);
      export const cudaBackend = { name: "cuda", status, create };
    `,
  };

  /** Creates on one thread per rank; [preference, whether CUDA can run there] by rank. */
  const program = (ranks: readonly (readonly [string, boolean])[]): string => `
    import { subscribe } from "node:diagnostics_channel";
    import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
    import { createThreadGroup, joinThreadGroup } from "@moe-a2a/core";
    import { createMoeAllToAll } from "@moe-a2a/sglang";

    const ranks = ${JSON.stringify(ranks)};
    if (isMainThread) {
      const tickets = createThreadGroup(ranks.length);
      const workers = ranks.map(([preference, here], rank) => new Worker(new URL(import.meta.url), {
        workerData: { ticket: tickets[rank], preference },
        env: { CUDA_HERE: here ? "1" : "0", NODE_NO_WARNINGS: "1" },
      }));
      const told = await Promise.all(workers.map((worker) => new Promise((resolve, reject) => {
        worker.on("message", resolve);
        worker.on("error", reject);
      })));
      for (const worker of workers) worker.postMessage("all have told");
      console.log(JSON.stringify(told));
    } else {
      const messages = [], warnings = [];
      subscribe("moe-a2a:select-backend", (message) => messages.push(message));
      process.on("warning", ({ code }) => warnings.push(code));
      const group = joinThreadGroup(workerData.ticket);
      const config = {
        epSize: ranks.length, numExperts: 4, topK: 1, maxTokensPerRank: 1,
        maxDispatchBytesPerToken: 16, maxCombineBytesPerToken: 16, timeoutMs: 10_000,
      };
      let a2a, code;
      try {
        a2a = await createMoeAllToAll(config, group, { backend: workerData.preference });
      } catch (e) {
        code = e.code;
      }
      await new Promise(setImmediate);
      const [{ backend, reason, rank, rejected }] = messages;
      parentPort.postMessage({ backend, reason, rank, rejected: rejected.map((r) => r.status.code), code, warnings });
      await new Promise((resolve) => parentPort.once("message", resolve));
      await a2a?.close();
      await group.close();
    }
  `;
  const create = async (...ranks: (readonly [string, boolean])[]): Promise<unknown> => {
    installation = await install(CUDA);
    return await installation.run(program(ranks));
  };

  test("CUDA where every rank can have it", async () => {
    const reason = "cuda can run on every rank";
    expect(await create(["auto", true], ["auto", true])).toEqual(
      [0, 1].map((rank) => ({ backend: "cuda", reason, rank, rejected: [], warnings: [] })),
    );
  });

  test("JS on all where one cannot; those that pass CUDA over say so, and the process warns once", async () => {
    const reason = "js on every rank, as cuda cannot run on rank 1 (no device)";
    const told = { backend: "js", reason, warnings: [] };
    expect(await create(["auto", true], ["auto", false], ["auto", true])).toEqual([
      { ...told, rank: 0, rejected: ["CUDA_NOT_ON_ALL_RANKS"], warnings: ["MOE_A2A_CUDA_UNUSABLE"] },
      { ...told, rank: 1, rejected: ["CUDA_NO_DEVICE"] },
      { ...told, rank: 2, rejected: ["CUDA_NOT_ON_ALL_RANKS"] },
    ]);
  });

  test("JS on all where one rank asks for it, without a warning", async () => {
    const told = { backend: "js", reason: "js was asked for by rank 1", rejected: [], warnings: [] };
    expect(await create(["auto", true], ["js", true])).toEqual([
      { ...told, rank: 0 },
      { ...told, rank: 1 },
    ]);
  });

  test("UNAVAILABLE on all where a rank insists on CUDA and one cannot have it", async () => {
    const reason = "rank 0 asked for cuda, and cuda cannot run on rank 1 (no device)";
    const told = { reason, code: "ERR_MOE_A2A_UNAVAILABLE", warnings: [] };
    expect(await create(["cuda", true], ["auto", false])).toEqual([
      { ...told, rank: 0, rejected: ["CUDA_NOT_ON_ALL_RANKS"] },
      { ...told, rank: 1, rejected: ["CUDA_NO_DEVICE"] },
    ]);
  });
});
