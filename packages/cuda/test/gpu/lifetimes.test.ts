import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { createThreadGroup, joinThreadGroup } from "@moe-a2a/core";
import { describe, expect, it } from "vitest";
import { cudaBackend } from "../../src/index.js";
import { createLocal, dispatch, exactRound, noGpu, smallConfig, why } from "./world.js";

const worker = fileURLToPath(new URL("../workers/gpu-rank.mjs", import.meta.url));

describe.skipIf(noGpu)(`lifetimes${why}`, () => {
  it("instances come and go, several at once", async () => {
    for (let turn = 0; turn < 5; turn++) {
      const instances = await Promise.all([
        createLocal(2),
        createLocal(3),
        createLocal(1, { roundsInFlight: 2 }),
      ]);
      for (const a2as of instances) await exactRound(a2as);
      await Promise.all(instances.flat().map((a2a) => a2a.close()));
    }
  });

  it("close() in the middle of a round gives it up and ends, whoever is missing", async () => {
    const a2as = await createLocal(2);
    const [first, second] = a2as as [(typeof a2as)[0], (typeof a2as)[0]];
    const round = await dispatch(first, 2, 1);
    const pending = expect(round.ready()).rejects.toMatchObject({
      code: "ERR_MOE_A2A_STATE",
      state: "closed",
    });
    await first.close();
    await first.close();
    await pending;
    expect(() => round.recv).toThrow(expect.objectContaining({ state: "closed" }));
    // It was sent all the same.
    expect(await (await dispatch(second, 1, 0)).ready()).toMatchObject({ tokensReceived: 2 });
    await second.close();
  });

  it("a rank that waits for one that closes hears of it at once", async () => {
    const a2as = await createLocal(2);
    const [first, second] = a2as as [(typeof a2as)[0], (typeof a2as)[0]];
    const waiting = (await dispatch(second, 1, 0)).ready();
    await sleep(50);
    const before = performance.now();
    await Promise.all([
      first.close(),
      expect(waiting).rejects.toMatchObject({
        code: "ERR_MOE_A2A_PEER_TIMEOUT",
        kind: "closed",
        missingRanks: [0],
      }),
    ]);
    expect(performance.now() - before).toBeLessThan(2_000);
    await second.close();
  });

  it.each(["terminate", "exit"] as const)(
    "a thread that ends by %s in mid-round harms nobody",
    async (how) => {
      const [mine, theirs] = createThreadGroup(2);
      const peer = new Worker(worker, { workerData: { ticket: theirs, config: smallConfig(2) } });
      const ended = once(peer, "exit");
      const command = async (name: string) => {
        const done = once(peer, "message");
        peer.postMessage(name);
        await done;
      };
      const created = once(peer, "message");
      const group = joinThreadGroup(mine!);
      const a2a = await cudaBackend.create(smallConfig(2), group);
      await created;
      const theirRound = command("round");
      const round = await dispatch(a2a, 1, 1);
      await round.combine(round.recv[0]!).ready();
      await theirRound;

      await command("dispatch");
      if (how === "terminate") void peer.terminate();
      else peer.postMessage("exit");
      await ended;
      // What it had sent before has arrived, or not; then it is missing.
      const last = await dispatch(a2a, 1, 1);
      const combine = last.combine(last.recv[0]!);
      await expect(combine.ready()).rejects.toMatchObject({
        code: "ERR_MOE_A2A_PEER_TIMEOUT",
        kind: "lost",
        missingRanks: [1],
      });
      await a2a.reset({ activeRanks: [0] });
      expect(await (await dispatch(a2a, 3, 0)).ready()).toMatchObject({ tokensReceived: 3 });
      await a2a.close();
      await group.close();
    },
  );

  it.each(["terminate", "exit"] as const)(
    "a thread that ends by %s while its replays are being enqueued harms nobody",
    async (how) => {
      const [mine, theirs] = createThreadGroup(2);
      const peer = new Worker(worker, { workerData: { ticket: theirs, config: smallConfig(2) } });
      const ended = once(peer, "exit");
      const created = once(peer, "message");
      const group = joinThreadGroup(mine!);
      const a2a = await cudaBackend.create(smallConfig(2), group);
      await created;
      const replaying = once(peer, "message");
      peer.postMessage("replays");
      await replaying;
      if (how === "terminate") void peer.terminate();
      else peer.postMessage("exit");
      await ended;
      await a2a.reset({ activeRanks: [0] });
      expect(await (await dispatch(a2a, 3, 0)).ready()).toMatchObject({ tokensReceived: 3 });
      await a2a.close();
      await group.close();
    },
  );

  it("many threads come and go with instances of their own", async () => {
    for (let turn = 0; turn < 3; turn++) {
      const workers = createThreadGroup(3).map(
        (ticket) => new Worker(worker, { workerData: { ticket, config: smallConfig(3) } }),
      );
      const ends = workers.map((each) => once(each, "exit"));
      await Promise.all(workers.map((each) => once(each, "message")));
      for (const each of workers) each.postMessage("close");
      expect((await Promise.all(ends)).flat()).toEqual([0, 0, 0]);
    }
  });
});
