import { once } from "node:events";
import { readdir } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { joinProcessGroup } from "../src/index.js";
import {
  folder,
  freePort,
  joined,
  optionsFor,
  processes,
  rejected,
  secret,
  start,
} from "./process-groups.js";
import { RankProcess } from "./rank-process.js";

describe("process group", () => {
  it.each([2, 3, 5])("gathers among %i processes, and lets them end", async (size) => {
    const { ranks } = await joined(size);
    const all = <T>(call: (rank: RankProcess, r: number) => Promise<T>) => Promise.all(ranks.map(call));
    for (let call = 0; call < 3; call++) {
      const results = await all((rank, r) => rank.call("exchange", { key: "k", value: `${call}:${r}` }));
      for (const result of results) expect(result).toEqual(ranks.map((_, r) => `${call}:${r}`));
    }
    for (const [keys, bytes] of [
      [1, 0],
      [100, 3],
      [2, 2 ** 20],
      [1, 2 ** 20 + 1],
    ]) {
      expect(await all((rank) => rank.call("exchangeMany", { keys, bytes }))).toEqual(ranks.map(() => []));
    }
    expect(await all((rank) => rank.call("resources"))).toEqual(ranks.map(() => []));
    // An open group keeps no process, and neither does one that closes while peers do not.
    const exits = ranks.map(({ child }) => once(child, "exit"));
    await ranks[0]!.call("close");
    await all((rank) => rank.call("disconnect"));
    for (const exit of await Promise.all(exits)) expect(exit).toEqual([0, null]);
  });

  it("delivers all that was sent before a close, and an exit", async () => {
    const { ranks } = await joined(3);
    const exits = ranks.map(({ child }) => once(child, "exit"));
    const bytes = 24 * 2 ** 20;
    const lengths = ranks.map(async (rank) => {
      const result = await rank.call("exchangeAndClose", { bytes });
      await rank.call("disconnect");
      return result;
    });
    expect(await Promise.all(lengths)).toEqual(ranks.map(() => [bytes, bytes, bytes]));
    for (const exit of await Promise.all(exits)) expect(exit).toEqual([0, null]);
  });

  it("names the ranks that do not come to an exchange, on every rank that waits", async () => {
    const { ranks } = await joined(3);
    const results = await Promise.allSettled([
      ranks[0]!.call("exchange", { key: "k", value: "a", timeoutMs: 200 }),
      ranks[2]!.call("exchange", { key: "k", value: "c", timeoutMs: 20_000 }),
    ]);
    const verdict = {
      code: "ERR_MOE_A2A_PEER_TIMEOUT",
      phase: "exchange",
      missingRanks: [1],
      kind: "timeout",
    };
    expect(results).toEqual([rejected(verdict), rejected(verdict)]);
    // The group goes on.
    const later = ranks.map((rank, r) => rank.call("exchange", { key: "l", value: `${r}` }));
    for (const result of await Promise.all(later)) expect(result).toEqual(["0", "1", "2"]);
  });

  it.each([
    ["closes", "closed", 2],
    ["closes", "closed", 0],
    ["is killed", "lost", 2],
    ["is killed", "lost", 0],
  ])("tells the others at once when a rank %s (%s, rank %i)", async (how, kind, gone) => {
    const { ranks } = await joined(3);
    const others = ranks.filter((_, rank) => rank !== gone);
    const waiting = others.map((rank) => rank.call("exchange", { key: "k", value: "x", timeoutMs: 60_000 }));
    const settled = Promise.allSettled(waiting);
    await sleep(50);
    const start = performance.now();
    if (how === "closes") await ranks[gone]!.call("close");
    else ranks[gone]!.child.kill("SIGKILL");
    const verdict = { code: "ERR_MOE_A2A_PEER_TIMEOUT", phase: "exchange", missingRanks: [gone], kind };
    expect(await settled).toEqual([rejected(verdict), rejected(verdict)]);
    expect(performance.now() - start).toBeLessThan(2_000);
    // Those that come later learn it too.
    await expect(others[0]!.call("exchange", { key: "l", value: "x" })).rejects.toMatchObject(verdict);
    if (how === "closes") {
      await expect(ranks[gone]!.call("exchange", { key: "k", value: "x" })).rejects.toMatchObject({
        code: "ERR_MOE_A2A_STATE",
        state: "closed",
      });
    }
  });

  it("joins by the environment that torchrun sets", async () => {
    const env = { WORLD_SIZE: "2", MASTER_ADDR: "127.0.0.1", MASTER_PORT: String(await freePort()) };
    const ranks = await Promise.all(
      ["0", "1"].map((RANK) => RankProcess.start({ ...env, RANK, MOE_A2A_SECRET: secret })),
    );
    processes.push(...ranks);
    const groups = await Promise.all(ranks.map((rank) => rank.call("join")));
    expect(groups).toEqual([0, 1].map((rank) => ({ rank, size: 2 })));
  });

  it("works over Unix sockets, also where a killed rank 0 left its own, and leaves no files", async () => {
    const path = await folder();
    const options = { ...(await optionsFor(3)), address: `unix:${path}/group` };
    const [killed] = await start(1);
    killed!.call("join", { options: { ...options, rank: 0 } }).catch(() => {});
    while ((await readdir(path)).length === 0) await sleep(10);
    killed!.child.kill("SIGKILL");
    await once(killed!.child, "exit");
    expect(await readdir(path)).toEqual(["group"]);
    const { ranks } = await joined(3, options);
    const results = ranks.map((rank, r) => rank.call("exchange", { key: "k", value: `${r}` }));
    for (const result of await Promise.all(results)) expect(result).toEqual(["0", "1", "2"]);
    await Promise.all(ranks.map((rank) => rank.call("close")));
    expect(await readdir(path)).toEqual([]);
    const { ranks: again } = await joined(2, { ...options, size: 2 });
    // Ends by itself, without closing.
    await again[0]!.call("disconnect");
    await once(again[0]!.child, "exit");
    expect(await readdir(path)).toEqual([]);
  });

  it("is made of one rank without any socket", async () => {
    const group = await joinProcessGroup({ rank: 0, size: 1, address: "127.0.0.1:1", secret });
    expect(await group.exchange("k", new Uint8Array([7]))).toEqual([new Uint8Array([7])]);
    await group.close();
  });
});
