import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { afterEach, describe, expect, it } from "vitest";
import { groupInternalsOf } from "../src/group/internals.js";
import { createThreadGroup, joinThreadGroup } from "../src/index.js";
import { RankWorker } from "./rank-worker.js";

const workers: RankWorker[] = [];

async function start(
  size: number,
  ranks: readonly number[] = [...Array(size).keys()],
): Promise<RankWorker[]> {
  const tickets = createThreadGroup(size);
  const started = await Promise.all(ranks.map((rank) => RankWorker.start(tickets[rank]!)));
  workers.push(...started);
  return started;
}

afterEach(async () => {
  await Promise.all(workers.splice(0).map(({ worker }) => worker.terminate()));
});

describe("thread group", () => {
  it("all-gathers by rank, call after call with the same key", async () => {
    const ranks = await start(3);
    for (let call = 0; call < 3; call++) {
      const results = await Promise.all(
        ranks.map((rank, r) => rank.call("exchange", { key: "k", value: `${call}:${r}` })),
      );
      for (const result of results) expect(result).toEqual([`${call}:0`, `${call}:1`, `${call}:2`]);
    }
  });

  it("reaches ranks that join after the others have put their values", async () => {
    const tickets = createThreadGroup(2);
    const first = await RankWorker.start(tickets[0]!);
    workers.push(first);
    const early = first.call("exchange", { key: "k", value: "early" });
    const second = await RankWorker.start(tickets[1]!);
    workers.push(second);
    await expect(second.call("exchange", { key: "k", value: "late" })).resolves.toEqual(["early", "late"]);
    await expect(early).resolves.toEqual(["early", "late"]);
  });

  it("names the ranks that do not come, on every rank that waits", async () => {
    const ranks = await start(3, [0, 2]);
    const results = await Promise.allSettled([
      ranks[0]!.call("exchange", { key: "k", value: "a", timeoutMs: 200 }),
      ranks[1]!.call("exchange", { key: "k", value: "c", timeoutMs: 20_000 }),
    ]);
    for (const result of results) {
      expect(result).toMatchObject({
        status: "rejected",
        reason: { code: "ERR_MOE_A2A_PEER_TIMEOUT", missingRanks: [1], kind: "timeout" },
      });
    }
  });

  it.each([
    ["close", "closed"],
    ["leave", "lost"],
    ["crash", "lost"],
    ["terminate", "lost"],
  ])("tells the others at once when a rank does %s", async (how, kind) => {
    const ranks = await start(3);
    const waiting = [0, 1].map((r) =>
      ranks[r]!.call("exchange", { key: "k", value: "x", timeoutMs: 60_000 }),
    );
    const settled = Promise.allSettled(waiting);
    const gone = new Promise((resolve) => ranks[2]!.worker.once("exit", resolve));
    if (how === "terminate") await ranks[2]!.worker.terminate();
    else {
      await ranks[2]!.call(how);
      if (how !== "close") await gone;
    }
    for (const result of await settled) {
      expect(result).toMatchObject({
        status: "rejected",
        reason: { code: "ERR_MOE_A2A_PEER_TIMEOUT", missingRanks: [2], kind },
      });
    }
  });

  it("notices the end of a worker that was started before the group was made", async () => {
    const script = `
      const { joinThreadGroup } = await import(${JSON.stringify(new URL("../dist/index.js", import.meta.url).href)});
      const { parentPort } = await import("node:worker_threads");
      parentPort.on("message", (ticket) => parentPort.postMessage(joinThreadGroup(ticket).rank));
    `;
    const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(script)}`));
    const [first, second] = createThreadGroup(2);
    const group = joinThreadGroup(first!);
    worker.postMessage(second);
    expect(await once(worker, "message")).toEqual([1]);
    const lost = expect(group.exchange("k", new Uint8Array(1), { timeoutMs: 60_000 })).rejects.toMatchObject({
      kind: "lost",
      missingRanks: [1],
    });
    await worker.terminate();
    await lost;
    await group.close();
  });

  it("counts what was posted in time, also where this thread was too busy to look", async () => {
    const [first, second] = createThreadGroup(2);
    const group = joinThreadGroup(first!);
    const peer = await RankWorker.start(second!);
    workers.push(peer);
    const theirs = peer.call("exchange", { key: "k", value: "theirs", timeoutMs: 20_000 });
    const mine = group.exchange("k", new TextEncoder().encode("mine"), { timeoutMs: 100 });
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300);
    expect((await mine).map((value) => new TextDecoder().decode(value))).toEqual(["mine", "theirs"]);
    await theirs;
    await group.close();
  });

  it("completes for slower ranks when one takes part and closes at once", async () => {
    for (let attempt = 0; attempt < 5; attempt++) {
      const ranks = await start(4);
      const calls = ranks.map((rank) => rank.call("exchangeAndClose", { key: "k", count: 20 }));
      for (const count of await Promise.all(calls)) expect(count).toBe(20);
    }
  });

  it("admits each rank once", async () => {
    const tickets = createThreadGroup(2);
    const group = joinThreadGroup(tickets[0]!);
    expect(() => joinThreadGroup(tickets[0]!)).toThrowError(
      /rank 0 of this group has joined on thread \d+ already/,
    );
    await group.close();
    expect(() => joinThreadGroup(tickets[0]!)).toThrowError(/rank 0 of this group has closed already/);
  });

  it("takes ranks on one thread too", async () => {
    const groups = createThreadGroup(2).map((ticket) => joinThreadGroup(structuredClone(ticket)));
    const results = await Promise.all(groups.map((group, r) => group.exchange("k", Uint8Array.of(r, r))));
    expect(results[0]).toEqual([Uint8Array.of(0, 0), Uint8Array.of(1, 1)]);
    expect(results[1]).toEqual(results[0]);
    await Promise.all(groups.map((group) => group.close()));
  });

  it("lets the process end while idle, and keeps it alive while it waits", async () => {
    const script = `
      const { joinThreadGroup } = await import(${JSON.stringify(new URL("../dist/index.js", import.meta.url).href)});
      const { workerData, parentPort } = await import("node:worker_threads");
      const group = joinThreadGroup(workerData.ticket);
      if (workerData.wait) await group.exchange("k", new Uint8Array(1), { timeoutMs: 300 }).catch((e) => parentPort.postMessage(e.code));
    `;
    const url = new URL(`data:text/javascript,${encodeURIComponent(script)}`);
    const [first, second] = createThreadGroup(2);
    const idle = new Worker(url, { workerData: { ticket: first, wait: false } });
    expect((await once(idle, "exit"))[0]).toBe(0);
    const messages: unknown[] = [];
    const waiting = new Worker(url, { workerData: { ticket: second, wait: true } });
    waiting.on("message", (message) => messages.push(message));
    await once(waiting, "exit");
    expect(messages).toEqual(["ERR_MOE_A2A_PEER_TIMEOUT"]);
  });

  it.each([
    null,
    3,
    {},
    { kind: "moe-a2a.thread-ticket" },
    { ...createThreadGroup(2)[0]!, rank: 2 },
    { ...createThreadGroup(2)[0]!, rank: -1 },
    { ...createThreadGroup(2)[0]!, control: new SharedArrayBuffer(8) },
  ])("refuses %j for a ticket", (ticket) => {
    expect(() => joinThreadGroup(ticket as never)).toThrowError(/takes a ticket of createThreadGroup/);
  });

  it("refuses a ticket over a buffer that is none, and reads a ticket's fields once", async () => {
    const [ticket] = createThreadGroup(1);
    for (const bytes of [0, 3, 65, 128]) {
      const control = new SharedArrayBuffer(bytes);
      expect(() => joinThreadGroup({ ...ticket!, control })).toThrowError(/takes a ticket/);
    }
    let reads = 0;
    const changing = Object.defineProperty({ ...ticket! }, "rank", {
      get: () => (reads++ === 0 ? 0 : () => {}),
    });
    const group = joinThreadGroup(changing);
    expect(group.rank).toBe(0);
    await group.close();
  });

  it.each([0, 65, 1.5, "2", undefined])("refuses the size %s", (size) => {
    expect(() => createThreadGroup(size as never)).toThrowError(/must be an integer from 1 to 64/);
  });
});

describe("a thread group that this rank has closed", () => {
  it("still answers what is asked of its gatherings, though nothing comes any more", async () => {
    const group = joinThreadGroup(createThreadGroup(2)[0]!);
    const { gatherings } = groupInternalsOf(group)!;
    await group.close();
    expect(gatherings.hasBegun("k", [0, 1])).toBe(false);
    expect(gatherings.failure("k", [0, 1])).toBeUndefined();
    await expect(
      gatherings.gather("k", 1, { where: "test", phase: "create", timeoutMs: 1000 }),
    ).rejects.toMatchObject({
      code: "ERR_MOE_A2A_STATE",
      state: "closed",
    });
  });
});
