import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type Channel,
  type CpuTensor,
  checkConfig,
  type Group,
  type GroupInternals,
  groupInternalsOf,
  joinProcessGroup,
  type MoeAllToAll,
  type MoeAllToAllConfig,
  tensor,
} from "@moe-a2a/core";
import { afterEach, describe, expect, it } from "vitest";
import { type JsCreateOptions, jsBackend } from "../src/index.js";
import { encodeDispatch, encodeFailure, encodeWords, MESSAGE } from "../src/wire/messages.js";
import { expectNoUnhandledRejections } from "./unhandled.js";
import { dispatchIds, exactRound, smallConfig } from "./world.js";

expectNoUnhandledRejections();

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** Process groups whose ranks all live here, over real sockets. */
async function groupsOf(size: number): Promise<Group[]> {
  const folder = mkdtempSync(join(tmpdir(), "moe-a2a-"));
  cleanups.push(() => rmSync(folder, { recursive: true }));
  const options = { size, address: `unix:${folder}/g`, secret: "a secret of the tests, 32 bytes." };
  const groups = await Promise.all(
    Array.from({ length: size }, (_, rank) => joinProcessGroup({ ...options, rank })),
  );
  cleanups.push(...groups.map((group) => () => group.close()));
  return groups;
}

interface Pair {
  readonly a2a: MoeAllToAll<CpuTensor>;
  /** What rank 0 has sent to rank 1. */
  readonly received: { readonly type: number; readonly body: Buffer }[];
  readonly channel: Channel;
  readonly peer: GroupInternals;
  readonly groups: readonly Group[];
}

const gatherOptions = { timeoutMs: 5_000, phase: "create", where: "test" } as const;

/** An instance as rank 0, and as rank 1 whatever the test does. */
async function pair(
  change: Partial<MoeAllToAllConfig> = {},
  { options, early }: { options?: JsCreateOptions; early?: (channel: Channel) => void } = {},
): Promise<Pair> {
  const groups = await groupsOf(2);
  const config = checkConfig(smallConfig(2, { timeoutMs: 5_000, ...change }));
  const peer = groupInternalsOf(groups[1]!)!;
  const channel = peer.openChannel!(peer.nextInstance());
  const received: Pair["received"] = [];
  channel.listen((_, type, body) => void received.push({ type, body: Buffer.from(body) }));
  const creating = jsBackend.create(config, groups[0]!, options);
  const meet = (): Promise<unknown> =>
    peer.gatherings.gather("create:0", { config, firstRound: options?.firstRound ?? 0 }, gatherOptions);
  if (early) {
    // Its channel is open by now.
    await sleep(50);
    early(channel);
  }
  await Promise.all([creating, meet()]);
  return { a2a: await creating, received, channel, peer, groups };
}

/** All rows of one dispatch or combine, as they have come in any number of messages. */
function rowsOf(received: Pair["received"], headBytes: number): Buffer {
  const first = received.findIndex(({ type }) => type === MESSAGE.dispatch);
  const parts = received
    .slice(first)
    .filter(({ type }) => type === MESSAGE.dispatch || type === MESSAGE.more);
  return Buffer.concat(parts.map(({ body }, i) => body.subarray(i === 0 ? headBytes : 4)));
}

const DISPATCH_HEAD = 8 * 4;
const LARGE = 3_000_001;

/** A dispatch of one row, for rank 1, far larger than what a socket takes at once. */
function sendLarge(a2a: MoeAllToAll<CpuTensor>, bytes = LARGE) {
  const payload = tensor("uint8", [1, bytes]);
  payload.data.set(Buffer.alloc(bytes, "a row that stays as it was;"));
  const dispatch = a2a.dispatch({
    numLocalTokens: 1,
    tokenSelectedExperts: tensor("int32", [1, 1], [4]),
    payloads: [payload],
    runtimeMaxTokensPerRank: 1,
  });
  return { dispatch, payload, expected: Buffer.from(payload.data) };
}

const large = { maxDispatchBytesPerToken: LARGE, maxTokensPerRank: 1, timeoutMs: 60_000 };

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 500 && !condition(); i++) await sleep(10);
  expect(condition()).toBe(true);
}

describe("rows that peers have not taken yet", () => {
  it.each<[string, (pair: Pair) => unknown]>([
    ["abort()", ({ a2a }) => a2a.abort("enough")],
    ["reset()", ({ a2a }) => void a2a.reset({ timeoutMs: 500 }).catch(() => {})],
    ["close()", ({ a2a }) => a2a.close()],
    ["close() of the group", ({ groups }) => groups[0]!.close()],
  ])("are sent as they were though %s gives their memory back", async (_, giveUp) => {
    const both = await pair(large);
    const { dispatch, payload, expected } = sendLarge(both.a2a);
    void giveUp(both);
    payload.data.fill(0xee);
    structuredClone(payload.data.buffer, { transfer: [payload.data.buffer as ArrayBuffer] });
    await until(() => rowsOf(both.received, DISPATCH_HEAD).length === LARGE);
    expect(rowsOf(both.received, DISPATCH_HEAD).equals(expected)).toBe(true);
    await expect(dispatch.ready()).rejects.toMatchObject({ code: expect.stringMatching(/ABORTED|STATE/) });
    await sleep(1);
  });

  it("are sent as they were though their peer has left, for which ready() does not wait", async () => {
    const bytes = 20 * LARGE;
    const { a2a, received, channel } = await pair({ ...large, maxDispatchBytesPerToken: bytes });
    const { dispatch, payload, expected } = sendLarge(a2a, bytes);
    const head = { maxTokens: 1, rowBytes: [bytes], statsLength: 0 };
    channel.send(0, MESSAGE.dispatch, encodeDispatch(0, 0, 0, head, 0));
    channel.send(0, MESSAGE.closed, Buffer.alloc(0));
    await dispatch.ready();
    expect(rowsOf(received, DISPATCH_HEAD).length).toBeLessThan(bytes);
    payload.data.fill(0xee);
    structuredClone(payload.data.buffer, { transfer: [payload.data.buffer as ArrayBuffer] });
    await until(() => received.reduce((sum, { body }) => sum + body.length, 0) > bytes);
    expect(rowsOf(received, DISPATCH_HEAD).equals(expected)).toBe(true);
  });

  it("are zeros where their memory was transferred away too early, and nothing of this process", async () => {
    const { a2a, received } = await pair(large);
    const { payload, expected } = sendLarge(a2a);
    structuredClone(payload.data.buffer, { transfer: [payload.data.buffer as ArrayBuffer] });
    await until(() => rowsOf(received, DISPATCH_HEAD).length === LARGE);
    const rows = rowsOf(received, DISPATCH_HEAD);
    const kept = rows.findIndex((byte, i) => byte !== expected[i]);
    expect(rows.subarray(kept).every((byte) => byte === 0)).toBe(true);
  });

  it("keep nobody waiting once the peer is lost", async () => {
    const { a2a, channel } = await pair(large);
    const { dispatch } = sendLarge(a2a);
    channel.send(0, 99, Buffer.alloc(0));
    await expect(dispatch.ready()).rejects.toMatchObject({ kind: "lost", missingRanks: [1] });
    await a2a.reset({ activeRanks: [0] });
    await a2a
      .dispatch({
        numLocalTokens: 0,
        tokenSelectedExperts: tensor("int32", [0, 1]),
        payloads: [tensor("uint8", [0, 1])],
      })
      .ready();
  });
});

describe("a peer that lies", () => {
  const words = (...values: number[]) => encodeWords(values);
  const shape = { maxTokens: 4, rowBytes: [4], statsLength: 0 };
  const verdict = (value: unknown) => encodeFailure(0, [-1, -1], Buffer.from(JSON.stringify(value)));
  const details = { phase: "dispatch", round: 0, missingRanks: [1], kind: "timeout" };
  const lies: [string, number, Uint8Array][] = [
    ["a type that is none", 0, words()],
    ["a type beyond all", 255, words(1, 2, 3)],
    ["a dispatch that is cut off", MESSAGE.dispatch, words(0, 0, 0, 4)],
    ["a lane that is none", MESSAGE.dispatch, encodeDispatch(1, 0, 0, shape, 0)],
    ["a lane below all", MESSAGE.dispatch, encodeDispatch(-1, 0, 0, shape, 0)],
    ["more slots than there are", MESSAGE.dispatch, encodeDispatch(0, 0, 0, { ...shape, maxTokens: 5 }, 0)],
    ["more rows than slots", MESSAGE.dispatch, encodeDispatch(0, 0, 0, { ...shape, maxTokens: 1 }, 2)],
    ["a negative count", MESSAGE.dispatch, encodeDispatch(0, 0, 0, shape, -1)],
    [
      "too many payloads",
      MESSAGE.dispatch,
      encodeDispatch(0, 0, 0, { ...shape, rowBytes: new Array(9).fill(1) }, 0),
    ],
    [
      "rows that are too long",
      MESSAGE.dispatch,
      encodeDispatch(0, 0, 0, { ...shape, rowBytes: [10, 11] }, 0),
    ],
    [
      "statistics that are too long",
      MESSAGE.dispatch,
      encodeDispatch(0, 0, 0, { ...shape, statsLength: 1 }, 0),
    ],
    [
      "more bytes than rows",
      MESSAGE.dispatch,
      Buffer.concat([encodeDispatch(0, 0, 0, shape, 1), Buffer.alloc(5)]),
    ],
    ["rows of nothing", MESSAGE.more, words(0, 1)],
    ["results that are too long", MESSAGE.combine, words(0, 0, 0, 5, 0, 0)],
    ["results of no dtype", MESSAGE.combine, words(0, 0, 0, 4, 3, 0)],
    ["too many results", MESSAGE.combine, words(0, 0, 0, 4, 0, 5)],
    ["a failure that is cut off", MESSAGE.failure, words(0, 0)],
    ["a verdict that is too long", MESSAGE.failure, encodeFailure(0, [0, 0], Buffer.alloc(5_000, " "))],
    ["a verdict that is no JSON", MESSAGE.failure, encodeFailure(0, [0, 0], Buffer.from("{"))],
    ["a verdict of no code", MESSAGE.failure, verdict({ message: "", details })],
    ["a verdict of another code", MESSAGE.failure, verdict({ code: "ERR_MOE_A2A_X", message: "", details })],
    [
      "a verdict without details",
      MESSAGE.failure,
      verdict({ code: "ERR_MOE_A2A_PEER_TIMEOUT", message: "", details: {} }),
    ],
    [
      "a verdict with details of another kind",
      MESSAGE.failure,
      verdict({
        code: "ERR_MOE_A2A_PEER_TIMEOUT",
        message: "",
        details: { ...details, missingRanks: "all" },
      }),
    ],
    ["a generation that is cut off", MESSAGE.generation, Buffer.alloc(3)],
    ["a reset before the first", MESSAGE.meeting, words(-1)],
  ];

  it.each(lies)("with %s is lost, and nobody else notices", async (_, type, body) => {
    const { a2a, channel } = await pair();
    channel.send(0, type, body);
    const { tokenSelectedExperts, payloads } = {
      tokenSelectedExperts: tensor("int32", [0, 1]),
      payloads: [tensor("float32", [0, 1])],
    };
    const dispatch = a2a.dispatch({ numLocalTokens: 0, tokenSelectedExperts, payloads });
    const lost = { code: "ERR_MOE_A2A_PEER_TIMEOUT", kind: "lost", missingRanks: [1] };
    await expect(dispatch.ready()).rejects.toMatchObject(lost);
    await a2a.reset({ activeRanks: [0] });
    await exactRound([a2a]);
  });

  it("before anybody listens is lost, too", async () => {
    const early = (channel: Channel): void => {
      channel.send(0, MESSAGE.meeting, words(-1));
      channel.send(0, MESSAGE.meeting, words(7));
    };
    const { a2a } = await pair({}, { early });
    await expect(a2a.reset()).rejects.toMatchObject({ kind: "lost", missingRanks: [1] });
  });

  it("about the next reset takes no honest rank with it", async () => {
    const { a2a, channel, received, peer } = await pair();
    channel.send(0, MESSAGE.meeting, words(2 ** 31 - 1));
    await sleep(20);
    const key = `reset:0:${2 ** 31 - 1}`;
    const resetting = expect(a2a.reset()).rejects.toMatchObject({ code: "ERR_MOE_A2A_ABORTED" });
    await sleep(20);
    peer.gatherings.giveUp(
      key,
      Object.assign(new Error("no"), { code: "ERR_MOE_A2A_ABORTED", rank: 1 }) as never,
    );
    await resetting;
    await sleep(20);
    const told = received
      .filter(({ type }) => type === MESSAGE.meeting)
      .map(({ body }) => body.readInt32LE());
    expect(told.every((number) => number >= 0)).toBe(true);
  });

  it.each<[string, unknown]>([
    ["nothing", null],
    ["a number", 5],
    ["no config", { firstRound: 0 }],
    ["a config that is none", { config: null, firstRound: 0 }],
    ["bytes", Uint8Array.of(1, 2, 3)],
  ])("at create, with %s, is lost", async (_, value) => {
    for (const isEarly of [true, false]) {
      const groups = await groupsOf(2);
      const peer = groupInternalsOf(groups[1]!)!;
      const telling = (): Promise<unknown> =>
        peer.gatherings.gather("create:0", value, gatherOptions).catch(() => {});
      if (isEarly) void telling();
      await sleep(20);
      const creating = expect(jsBackend.create(smallConfig(2), groups[0]!)).rejects.toMatchObject({
        code: "ERR_MOE_A2A_PEER_TIMEOUT",
        phase: "create",
        kind: "lost",
        missingRanks: [1],
      });
      await sleep(20);
      if (!isEarly) void telling();
      await creating;
    }
  });

  const meeting = { nextRounds: [0], generation: 0, activeRanks: [0, 1] };
  it.each<[string, unknown]>([
    ["nothing", null],
    ["text", "reset"],
    ["no rounds", { ...meeting, nextRounds: undefined }],
    ["rounds of another number of lanes", { ...meeting, nextRounds: [0, 0] }],
    ["a round that is none", { ...meeting, nextRounds: ["0"] }],
    ["a round beyond all", { ...meeting, nextRounds: [2 ** 60] }],
    ["a generation that is none", { ...meeting, generation: 0.5 }],
    ["no ranks", { ...meeting, activeRanks: "0,1" }],
    ["ranks that are none", { ...meeting, activeRanks: [{}, 1] }],
  ])("at a reset, with %s, is lost, before others come or after", async (_, value) => {
    for (const isEarly of [true, false]) {
      const { a2a, peer } = await pair();
      const options = { ...gatherOptions, phase: "reset", series: { name: "reset:0", number: 0 } } as const;
      const telling = (): Promise<unknown> =>
        peer.gatherings.gather("reset:0:0", value, options).catch(() => {});
      if (isEarly) void telling();
      await sleep(20);
      const resetting = expect(a2a.reset()).rejects.toMatchObject({
        code: "ERR_MOE_A2A_PEER_TIMEOUT",
        phase: "reset",
        kind: "lost",
        missingRanks: [1],
      });
      await sleep(20);
      if (!isEarly) void telling();
      await resetting;
    }
  });
});

describe("two ranks that lose one another", () => {
  it("fail for all, and a rank that hears both goes on with either", async () => {
    const groups = await groupsOf(3);
    const config = smallConfig(3, { timeoutMs: 60_000 });
    const a2as = await Promise.all(groups.map((group) => jsBackend.create(config, group)));
    await exactRound(a2as);
    // Rank 1 tells rank 0 what nobody gathers; rank 2 does not look at it.
    const { gatherings } = groupInternalsOf(groups[1]!)!;
    void gatherings.gather("exchange:k#0", 5, { ...gatherOptions, ranks: [0, 1] }).catch(() => {});
    const lostOne = { kind: "lost", missingRanks: [1] };
    await expect(groups[0]!.exchange("k", Uint8Array.of(0))).rejects.toMatchObject(lostOne);
    const waits = await Promise.allSettled(a2as.map((a2a) => dispatchIds(a2a, [0, 4, 8]).ready()));
    const lost = (missingRanks: unknown) => ({
      status: "rejected",
      reason: expect.objectContaining({ code: "ERR_MOE_A2A_PEER_TIMEOUT", kind: "lost", missingRanks }),
    });
    expect(waits.slice(0, 2)).toEqual([lost([1]), lost([0])]);
    // It may have heard from both before they noticed.
    if (waits[2]!.status === "rejected") expect([[lost([0])], [lost([1])]]).toContainEqual([waits[2]]);
    await expect(a2as[0]!.reset()).rejects.toMatchObject(lostOne);
    const rest = [a2as[0]!, a2as[2]!];
    await Promise.all(rest.map((a2a) => a2a.reset({ activeRanks: [0, 2] })));
    for (let round = 0; round < 3; round++) await exactRound(rest);
    // Rank 1 has heard from rank 2 that it is left out; with that one alone it may go on.
    expect(() => dispatchIds(a2as[1]!, [0])).toThrowError(expect.objectContaining({ state: "leftOut" }));
    const others = [a2as[1]!, a2as[2]!];
    await Promise.all(others.map((a2a) => a2a.reset({ activeRanks: [1, 2] })));
    await exactRound(others);
    expect(() => dispatchIds(a2as[0]!, [0])).toThrowError(expect.objectContaining({ state: "leftOut" }));
  });
});
