import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { networkInterfaces } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { joinProcessGroup, type ProcessGroupOptions } from "../src/index.js";
import {
  cleanups,
  frame,
  freePort,
  impostor,
  intrude,
  joined,
  magic,
  optionsFor,
  rejected,
  secret,
  start,
  take,
} from "./process-groups.js";
import type { RankProcess } from "./rank-process.js";

describe("joinProcessGroup()", () => {
  /** Joins in this process, rank by rank with options of its own; groups are closed in the end. */
  function joinHere(...all: readonly ProcessGroupOptions[]): Promise<PromiseSettledResult<number>[]> {
    return Promise.allSettled(
      all.map(async (options) => {
        const group = await joinProcessGroup(options);
        cleanups.push(() => group.close());
        return group.rank;
      }),
    );
  }

  it("names the absent ranks at the deadline, on every rank that is there", async () => {
    const options = { ...(await optionsFor(5)), timeoutMs: 400 };
    const verdict = { code: "ERR_MOE_A2A_PEER_TIMEOUT", phase: "create", round: 0, kind: "timeout" };
    const present = [0, 1, 3].map((rank) => ({ ...options, rank }));
    for (const result of await joinHere(...present)) {
      expect(result).toEqual(rejected({ ...verdict, missingRanks: [2, 4] }));
    }
    // A guest whose time is up first knows it from rank 0, and ends the wait of all.
    const [, ...others] = present.map((o) => ({ ...o, timeoutMs: 20_000 }));
    for (const result of await joinHere({ ...options, rank: 0, timeoutMs: 20_000 }, ...others.slice(1), {
      ...options,
      rank: 1,
    })) {
      expect(result).toEqual(rejected({ ...verdict, missingRanks: [2, 4] }));
    }
    expect(await joinHere(...[1, 2].map((rank) => ({ ...options, rank })))).toEqual(
      [1, 2].map(() => rejected({ ...verdict, missingRanks: [0] })),
    );
  });

  it("lets in who came while its event loop was busy until after its deadline", async () => {
    const options = await optionsFor(3);
    const [zero, ...others] = (await start(3)) as [RankProcess, ...RankProcess[]];
    const first = zero.call("joinBusy", {
      options: { ...options, rank: 0, timeoutMs: 1_000 },
      busyMs: 2_000,
    });
    await sleep(200);
    const rest = others.map((rank, i) => rank.call("join", { options: { ...options, rank: i + 1 } }));
    expect(await Promise.all([first, ...rest])).toEqual([0, 1, 2].map((rank) => ({ rank, size: 3 })));
  });

  it("refuses a second process of the same rank, and says so to all", async () => {
    const options = await optionsFor(4);
    const results = await joinHere(...[0, 1, 2, 2].map((rank) => ({ ...options, rank })));
    for (const result of results) {
      expect(result).toEqual(
        rejected({ code: "ERR_MOE_A2A_STATE", state: "joined", message: expect.stringMatching(/rank 2/) }),
      );
    }
  });

  it("refuses a rank of another size, and says so to all", async () => {
    const options = await optionsFor(3);
    const results = await joinHere(
      { ...options, rank: 0 },
      { ...options, rank: 1 },
      { ...options, rank: 2, size: 4 },
    );
    const values = [3, undefined, 4];
    for (const result of results) {
      expect(result).toEqual(rejected({ code: "ERR_MOE_A2A_MISMATCH", field: "size", values }));
    }
  });

  it("refuses a wrong secret, and goes on without", async () => {
    const options = await optionsFor(2);
    const zero = joinHere({ ...options, rank: 0 });
    const [wrong] = await joinHere({ ...options, rank: 1, secret: "another secret of thirty bytes" });
    expect(wrong).toEqual(rejected({ code: "ERR_MOE_A2A_ARGUMENT", argument: "secret" }));
    const one = joinHere({ ...options, rank: 1 });
    expect([...(await zero), ...(await one)]).toMatchObject([{ value: 0 }, { value: 1 }]);
  });

  it("is not disturbed by connections that send garbage, nothing, or leave", async () => {
    const options = await optionsFor(2);
    const zero = joinHere({ ...options, rank: 0 });
    const silent = await intrude(options);
    const garbage = await intrude(options);
    garbage.write(Buffer.alloc(2 ** 20, "GET / HTTP/1.1\r\n"));
    const early = await intrude(options);
    early.end("moe");
    const greeted = await intrude(options);
    greeted.write(Buffer.concat([Buffer.from("moe-a2a\n"), Buffer.alloc(32)]));
    expect((await once(greeted, "data"))[0]).toHaveLength(40);
    // A proof of the wrong bytes is answered by one byte, and nothing more.
    greeted.write(Buffer.alloc(32));
    expect(await once(greeted, "data")).toEqual([Buffer.of(0)]);
    await Promise.all([garbage, greeted].map((s) => s.closed || once(s, "close")));
    const one = joinHere({ ...options, rank: 1 });
    expect([...(await zero), ...(await one)]).toMatchObject([{ value: 0 }, { value: 1 }]);
    if (!silent.closed) await once(silent.resume(), "close");
  });

  it("refuses another version of the protocol, and says so to both", async () => {
    const options = await optionsFor(2);
    const zero = joinHere({ ...options, rank: 0 });
    const other = await impostor(options);
    other.write(frame(1, { version: 99, rank: 1, size: 2 }));
    const header = await take(other, 5);
    const told = JSON.parse((await take(other, header.readUInt32BE() - 1)).toString());
    const verdict = { code: "ERR_MOE_A2A_MISMATCH", field: "protocol version", values: [1, 99] };
    expect([header[4], told.code, told.details.values]).toEqual([6, verdict.code, verdict.values]);
    expect(await zero).toEqual([rejected(verdict)]);
  });

  it.each([
    ["a frame that is too long", Buffer.from([0xff, 0xff, 0xff, 0xff, 1])],
    ["a frame without type", Buffer.alloc(8)],
    ["a hello that is too long", frame(1, { version: 1, rank: 1, size: 2, more: "x".repeat(2 ** 16) })],
    ["no JSON", Buffer.from([0, 0, 0, 2, 1, 0x7b])],
    ["a hello without rank", frame(1, { version: 1 })],
    ["something before its hello", frame(4, {})],
  ])("drops a rank that sends %s, and goes on without", async (_, bytes) => {
    const options = await optionsFor(2);
    const zero = joinHere({ ...options, rank: 0 });
    const other = await impostor(options);
    other.write(bytes);
    await once(other.resume(), "close");
    const one = joinHere({ ...options, rank: 1 });
    expect([...(await zero), ...(await one)]).toMatchObject([{ value: 0 }, { value: 1 }]);
  });

  it("keeps for the group what a peer sends that knows of it first", async () => {
    const options = await optionsFor(3);
    const joining = [0, 1].map((rank) => joinProcessGroup({ ...options, rank }));
    const hello = frame(1, { version: 1, rank: 2, size: 3 });
    const toZero = await impostor(options);
    toZero.write(hello);
    let roster: [null, { place: { port: number }; purpose: string }, null] | undefined;
    while (!roster) {
      const header = await take(toZero, 5);
      const body = await take(toZero, header.readUInt32BE() - 1);
      if (header[4] === 3) roster = JSON.parse(body.toString());
    }
    const { place, purpose } = roster[1];
    const toOne = await impostor({ address: `127.0.0.1:${place.port}` }, purpose);
    const key = Buffer.from("exchange:k#0");
    const put = frame(7, Buffer.concat([Buffer.of(0, 0, 0, key.length), key, Buffer.of(2)]));
    toOne.write(Buffer.concat([hello, put]));
    await sleep(50);
    toZero.write(Buffer.concat([frame(4, Buffer.alloc(0)), put]));
    const groups = await Promise.all(joining);
    cleanups.push(...groups.map((group) => () => group.close()));
    const values = await Promise.all(groups.map((group) => group.exchange("k", Uint8Array.of(group.rank))));
    expect(values.map((all) => all.map(([value]) => value))).toEqual([
      [0, 1, 2],
      [0, 1, 2],
    ]);
  });

  it.each<[string, (mac: Buffer) => Buffer]>([
    ["makes a proof up", () => randomBytes(32)],
    ["sends the proof back that it got", (mac) => mac],
  ])("trusts no rank 0 that %s", async (_, answer) => {
    const server = createServer(async (socket) => {
      cleanups.push(() => socket.destroy());
      socket.on("error", () => {});
      await take(socket, 40);
      socket.write(Buffer.concat([magic, randomBytes(32)]));
      socket.write(Buffer.concat([Buffer.of(1), answer(await take(socket, 32))]));
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    cleanups.push(() => server.close());
    const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    expect(await joinHere({ rank: 1, size: 2, address, secret })).toEqual([
      rejected({ code: "ERR_MOE_A2A_ARGUMENT", argument: "secret" }),
    ]);
  });

  const hasIPv6 = Object.values(networkInterfaces()).some((all) => all?.some((i) => i.address === "::1"));
  it.each(["localhost", "127.0.0.3", "", ...(hasIPv6 ? ["[::1]"] : [])])("meets at %j", async (host) => {
    const options = { ...(await optionsFor(3)), address: `${host}:${await freePort()}` };
    const results = await joinHere(...[0, 1, 2].map((rank) => ({ ...options, rank })));
    expect(results).toMatchObject([{ value: 0 }, { value: 1 }, { value: 2 }]);
  });

  it("joins and closes again and again at one address", async () => {
    const options = await optionsFor(3);
    for (let i = 0; i < 20; i++) {
      const groups = await Promise.all([0, 1, 2].map((rank) => joinProcessGroup({ ...options, rank })));
      const values = await Promise.all(groups.map((group) => group.exchange("k", Uint8Array.of(i))));
      expect(values.flat().map(([value]) => value)).toEqual(new Array(9).fill(i));
      await Promise.all(groups.map((group) => group.close()));
    }
  });

  it("makes another group at the address of one that is still open, whoever comes first", async () => {
    const { ranks, options } = await joined(3);
    // Ranks other than 0 first: rank 0 has the earlier group, and sends them away for the moment.
    const early = ranks.slice(1).map((r, i) => r.call("join", { options: { ...options, rank: i + 1 } }));
    await sleep(300);
    const last = ranks[0]!.call("join", { options: { ...options, rank: 0 } });
    expect(await Promise.all([last, ...early])).toEqual(ranks.map((_, rank) => ({ rank, size: 3 })));
    const values = ranks.map((r, rank) => r.call("exchange", { key: "k", value: `${rank}` }));
    expect(await Promise.all(values)).toEqual(ranks.map(() => ["0", "1", "2"]));
  });

  it("refuses a rank that was lost and has started again, with the reason", async () => {
    const { ranks, options } = await joined(3);
    ranks[2]!.child.kill("SIGKILL");
    await expect(ranks[0]!.call("exchange", { key: "k", value: "0" })).rejects.toMatchObject({
      kind: "lost",
    });
    const [again] = await start(1);
    await expect(again!.call("join", { options: { ...options, rank: 2 } })).rejects.toMatchObject({
      code: "ERR_MOE_A2A_STATE",
      state: "lost",
      message: expect.stringMatching(/rank 2 of this group was lost.*make a new one of all ranks/),
    });
    // The others are not disturbed, and the address is free once rank 0 has left.
    await ranks[0]!.call("close");
    await ranks[1]!.call("close");
    const anew = [ranks[0]!, ranks[1]!, again!];
    const groups = anew.map((r, rank) => r.call("join", { options: { ...options, rank } }));
    expect(await Promise.all(groups)).toEqual(anew.map((_, rank) => ({ rank, size: 3 })));
  });

  it("gives up in the end on who proves too slowly, and on who takes nothing", async () => {
    const options = { ...(await optionsFor(2)), timeoutMs: 20_000 };
    const zero = joinHere({ ...options, rank: 0 });
    const slow = [await intrude(options), await intrude(options)];
    const drip = setInterval(() => slow[0]!.write("m"), 500);
    cleanups.push(() => clearInterval(drip));
    const dropped = slow.map((socket) => once(socket.resume(), "close"));
    const { ranks } = await joined(2);
    ranks[1]!.child.kill("SIGSTOP");
    const exit = once(ranks[0]!.child, "exit");
    await ranks[0]!.call("sendAndClose", { bytes: 64 * 2 ** 20 });
    await ranks[0]!.call("disconnect");
    await Promise.all(dropped);
    expect(await exit).toEqual([0, null]);
    const one = joinHere({ ...options, rank: 1 });
    expect([...(await zero), ...(await one)]).toMatchObject([{ value: 0 }, { value: 1 }]);
  });

  it("lets a rank come again that ended while others were still missing", async () => {
    const options = await optionsFor(3);
    const zero = joinHere({ ...options, rank: 0 });
    const [killed] = await start(1);
    killed!.call("join", { options: { ...options, rank: 1 } }).catch(() => {});
    await sleep(200);
    killed!.child.kill("SIGKILL");
    await once(killed!.child, "exit");
    await sleep(50);
    const others = joinHere({ ...options, rank: 1 }, { ...options, rank: 2 });
    expect([...(await zero), ...(await others)]).toMatchObject([{ value: 0 }, { value: 1 }, { value: 2 }]);
  });

  it("says that the address is taken, without naming it", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    cleanups.push(() => server.close());
    const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    const error = await joinProcessGroup({ rank: 0, size: 2, address, secret }).catch((e) => e);
    expect(error).toMatchObject({ code: "ERR_MOE_A2A_ARGUMENT", argument: "address" });
    expect(error.message).toMatch(/EADDRINUSE/);
    expect(error.message).not.toContain("127.0.0.1");
    expect(error.cause).toBeUndefined();
  });

  const good = { rank: 0, size: 2, address: "127.0.0.1:29500", secret };
  it.each<[string, unknown]>([
    ["options", 7],
    ["options", null],
    ["rank", { ...good, rank: -1 }],
    ["rank", { ...good, rank: 2 }],
    ["rank", { ...good, rank: "0" }],
    ["rank", { ...good, rank: undefined }],
    ["size", { ...good, size: 0 }],
    ["size", { ...good, size: 65 }],
    ["size", { ...good, size: undefined }],
    ["address", { ...good, address: 29500 }],
    ["address", { ...good, address: "localhost" }],
    ["address", { ...good, address: "localhost:0" }],
    ["address", { ...good, address: "localhost:65536" }],
    ["address", { ...good, address: "::1:29500" }],
    ["address", { ...good, address: "unix:relative" }],
    ["address", { ...good, address: `unix:/${"x".repeat(100)}` }],
    ["address", { ...good, address: undefined }],
    ["secret", { ...good, secret: "fifteen bytes.." }],
    ["secret", { ...good, secret: new Uint8Array(15) }],
    ["secret", { ...good, secret: 7 }],
    ["secret", { ...good, secret: undefined }],
    ["options.timeoutMs", { ...good, timeoutMs: 0 }],
  ])("refuses a wrong %s: %j", async (argument, options) => {
    const error = await joinProcessGroup(options as ProcessGroupOptions).catch((e) => e);
    expect(error).toMatchObject({ code: "ERR_MOE_A2A_ARGUMENT", argument });
    expect(error.message).not.toMatch(/fifteen|29500/);
  });
});
