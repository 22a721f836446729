import { subscribe, tracingChannel, unsubscribe } from "node:diagnostics_channel";
import { setTimeout as sleep } from "node:timers/promises";
import { type CpuTensor, MoeA2AError, type MoeAllToAll } from "@moe-a2a/core";
import { afterEach, describe, expect, it } from "vitest";
import { COMBINE_CHANNEL, DISPATCH_CHANNEL, MoeA2ADispatcher, type PhaseMessage } from "../src/index.js";
import { describePhase } from "../src/observe/debug-log.js";
import { PhaseTrace } from "../src/observe/phase-trace.js";
import { cleanUp, launch, script } from "./launcher.js";
import { configOf, createRanks, hiddenSize, makeTokens, randomFrom } from "./world.js";

const EVENTS = ["start", "end", "asyncStart", "asyncEnd", "error"] as const;

interface Heard {
  readonly event: string;
  readonly rank: number;
  /** As it was at the event. */
  readonly message: PhaseMessage;
}

let stop: (() => void) | undefined;
afterEach(() => stop?.());
afterEach(cleanUp);

/** All that the channels tell from now on. */
function listen(): Heard[] {
  const heard: Heard[] = [];
  const listeners = [DISPATCH_CHANNEL, COMBINE_CHANNEL].flatMap((name) =>
    EVENTS.map((event) => {
      const on = (message: unknown): void => {
        const copy = { ...(message as PhaseMessage) };
        heard.push({ event: `${copy.phase} ${event}`, rank: copy.rank, message: copy });
      };
      return [`tracing:${name}:${event}`, on] as const;
    }),
  );
  for (const [name, on] of listeners) subscribe(name, on);
  stop = () => {
    for (const [name, on] of listeners) unsubscribe(name, on);
  };
  return heard;
}

/** One round on every rank, with these numbers of tokens. */
async function playRound(ranks: readonly MoeAllToAll<CpuTensor>[], counts: readonly number[]): Promise<void> {
  const random = randomFrom(1);
  await Promise.all(
    ranks.map(async (a2a, rank) => {
      const dispatcher = new MoeA2ADispatcher({ a2a, hiddenSize, dtype: "float32" });
      const { hiddenStates, topkOutput } = makeTokens(random, counts[rank]!, a2a.config);
      const received = await dispatcher.dispatch(hiddenStates, topkOutput, { dpGlobalNumTokens: counts });
      await dispatcher.combine({ format: "flashinfer", hiddenStates: received.hiddenStates });
    }),
  );
}

describe("the tracing channels", () => {
  it("tell of each phase in order, and more with each event", async () => {
    const ranks = await createRanks(configOf());
    const heard = listen();
    await playRound(ranks, [3, 0]);
    const idle = heard.filter(({ rank }) => rank === 1);
    expect(idle.map(({ event }) => event)).toEqual(
      ["dispatch", "combine"].flatMap((phase) =>
        ["start", "end", "asyncStart", "asyncEnd"].map((event) => `${phase} ${event}`),
      ),
    );
    const [start, end, , arrived] = idle.map(({ message }) => message);
    expect(start).toEqual({ phase: "dispatch", rank: 1, epSize: 2, lane: 0 });
    expect(end).toMatchObject({ tokens: 0, slots: 3, rowBytes: 4 * hiddenSize + 2 * 8 });
    expect(arrived).toMatchObject({ round: 0, lane: 0, bytes: 0 });
    expect(arrived!.report!.waitMs).toHaveLength(2);
    const busy = heard.filter(({ rank }) => rank === 0).map(({ message }) => message);
    const { report, bytes } = busy[3]!;
    expect(bytes).toBe(report!.tokensSent * (4 * hiddenSize + 2 * 8));
    expect(busy.at(-1)).toMatchObject({ round: 0, bytes: report!.tokensSent * 4 * hiddenSize, tokens: 3 });
    await Promise.all(ranks.map((a2a) => a2a.close()));
  });

  it("tell of a call that was refused, and of a round that failed", async () => {
    const ranks = await createRanks(configOf({ timeoutMs: 50 }));
    const heard = listen();
    const [a2a] = ranks as [MoeAllToAll<CpuTensor>];
    const dispatcher = new MoeA2ADispatcher({ a2a, hiddenSize, dtype: "float32" });
    const { hiddenStates, topkOutput } = makeTokens(randomFrom(1), 2, a2a.config);
    expect(() => dispatcher.dispatchA(hiddenStates, topkOutput, { dpGlobalNumTokens: [1, 1] })).toThrow();
    expect(heard.map(({ event }) => event)).toEqual(["dispatch start", "dispatch error", "dispatch end"]);
    expect(heard.at(-1)!.message.error).toMatchObject({ code: "ERR_MOE_A2A_CAPACITY" });
    heard.length = 0;
    await expect(dispatcher.dispatch(hiddenStates, topkOutput)).rejects.toThrow();
    expect(heard.map(({ event }) => event)).toEqual(
      ["start", "end", "error", "asyncStart", "asyncEnd"].map((event) => `dispatch ${event}`),
    );
    expect(heard.at(-1)!.message.error).toMatchObject({ code: "ERR_MOE_A2A_PEER_TIMEOUT" });
    await Promise.all(ranks.map((rank) => rank.close()));
  });

  it("tell of a phase that fails on which lane it was, and of which round as far as that is known", async () => {
    const ranks = await createRanks(configOf({ timeoutMs: 50, roundsInFlight: 2 }));
    const heard = listen();
    const errors = () =>
      heard.filter(({ message }) => message.error !== undefined).map(({ message }) => message);
    const [a, b] = ranks.map(
      (a2a) => new MoeA2ADispatcher({ a2a, hiddenSize, dtype: "float32", lane: 1 }),
    ) as [MoeA2ADispatcher<CpuTensor>, MoeA2ADispatcher<CpuTensor>];
    const { hiddenStates, topkOutput } = makeTokens(randomFrom(1), 2, ranks[0]!.config);
    expect(() => a.dispatchA(hiddenStates, topkOutput, { dpGlobalNumTokens: [1, 1] })).toThrow();
    expect(errors().map(({ phase, lane }) => `${phase} on lane ${lane}`)).toEqual(
      Array(2).fill("dispatch on lane 1"),
    );
    heard.length = 0;
    for (const dispatcher of [a, b]) dispatcher.dispatchA(hiddenStates, topkOutput);
    const [received] = await Promise.all([a.dispatchB(), b.dispatchB()]);
    const combine = a.combine({ format: "flashinfer", hiddenStates: received.hiddenStates });
    await expect(combine).rejects.toMatchObject({ code: "ERR_MOE_A2A_PEER_TIMEOUT" });
    expect(errors()[0]).toMatchObject({ phase: "combine", lane: 1, round: 0 });
    await Promise.all(ranks.map((a2a) => a2a.close()));
  });

  it("tell of an arrival once, also where a hook had the call made again", async () => {
    const [a2a] = await createRanks(configOf({ epSize: 1 }));
    const heard = listen();
    const dispatcher = new MoeA2ADispatcher({ a2a: a2a!, hiddenSize, dtype: "float32" });
    const handle = dispatcher.registerPostDispatchHook(() => {
      throw new Error("not now");
    });
    const { hiddenStates, topkOutput } = makeTokens(randomFrom(1), 2, a2a!.config);
    await expect(dispatcher.dispatch(hiddenStates, topkOutput)).rejects.toThrow("not now");
    handle.remove();
    await dispatcher.dispatchB();
    expect(heard.filter(({ event }) => event === "dispatch asyncEnd")).toHaveLength(1);
    await a2a!.close();
  });

  it("begin with the next phase where somebody comes in the middle of one", async () => {
    const ranks = await createRanks(configOf());
    const [first, second] = ranks.map(
      (a2a) => new MoeA2ADispatcher({ a2a, hiddenSize, dtype: "float32" }),
    ) as [MoeA2ADispatcher<CpuTensor>, MoeA2ADispatcher<CpuTensor>];
    const { hiddenStates, topkOutput } = makeTokens(randomFrom(1), 1, ranks[0]!.config);
    for (const dispatcher of [first, second]) dispatcher.dispatchA(hiddenStates, topkOutput);
    const heard = listen();
    const received = await Promise.all([first.dispatchB(), second.dispatchB()]);
    await Promise.all(
      [first, second].map((dispatcher, rank) =>
        dispatcher.combine({ format: "flashinfer", hiddenStates: received[rank]!.hiddenStates }),
      ),
    );
    expect(heard.map(({ event }) => event).filter((event) => event.startsWith("dispatch"))).toEqual([]);
    expect(heard.at(-1)!.message).toMatchObject({ phase: "combine", round: 0 });
    await Promise.all(ranks.map((a2a) => a2a.close()));
  });

  it("have nobody who listens unless somebody does", async () => {
    await sleep(0);
    expect(tracingChannel(DISPATCH_CHANNEL).hasSubscribers).toBe(false);
    expect(tracingChannel(COMBINE_CHANNEL).hasSubscribers).toBe(false);
  });
});

describe("a phase that its caller does not wait for, as on a GPU", () => {
  const report = {
    round: 4,
    lane: 1,
    tokensSent: 3,
    tokensReceived: 0,
    droppedEntries: { padding: 0, invalidExpert: 0, inactiveRank: 0 },
    waitMs: [0, 2],
  } as const;
  const follow = async (ready: () => Promise<unknown>): Promise<Heard[]> => {
    const heard = listen();
    const trace = PhaseTrace.start("dispatch", 0, 2)!;
    trace.enqueued({ tokens: 2, slots: 2, rowBytes: 10 });
    trace.follow({ ready }, () => report);
    await sleep(0);
    return heard.slice(2);
  };

  it("is told of when the host hears of it", async () => {
    const [, end] = await follow(async () => report);
    expect(end).toMatchObject({ event: "dispatch asyncEnd", message: { round: 4, lane: 1, bytes: 30 } });
  });

  it("is told of when it fails, and raises nothing", async () => {
    const error = new MoeA2AError("ERR_MOE_A2A_ABORTED", "no", { rank: 1, reason: "no" });
    const heard = await follow(() => Promise.reject(error));
    expect(heard.map(({ event }) => event)).toEqual(
      ["error", "asyncStart", "asyncEnd"].map((event) => `dispatch ${event}`),
    );
    expect(heard[0]!.message.error).toBe(error);
  });

  it("is not told of where it is recorded for a graph", async () => {
    const error = new MoeA2AError("ERR_MOE_A2A_STATE", "part of a graph", { state: "captured" });
    expect(await follow(() => Promise.reject(error))).toEqual([]);
  });
});

const INDEX = JSON.stringify(new URL("../dist/index.js", import.meta.url).href);
const CORE = JSON.stringify(new URL("../../core/dist/index.js", import.meta.url).href);

/** A rank that has as many tokens as its number, for two rounds. */
const RANK = `
  import { joinProcessGroup, tensor } from ${CORE};
  import { combineBytesPerToken, createMoeAllToAll, dispatchBytesPerToken, MoeA2ADispatcher } from ${INDEX};
  const group = await joinProcessGroup();
  const form = { hiddenSize: 4, dtype: "float32" };
  const a2a = await createMoeAllToAll({
    epSize: group.size, numExperts: group.size, topK: 1, maxTokensPerRank: 4,
    maxDispatchBytesPerToken: dispatchBytesPerToken({ ...form, topK: 1 }),
    maxCombineBytesPerToken: combineBytesPerToken(form),
  }, group, { backend: "js" });
  const dispatcher = new MoeA2ADispatcher({ a2a, ...form });
  for (let i = 0; i < 2; i++) {
    const topk = { topkIds: tensor("int32", [group.rank, 1]), topkWeights: tensor("float32", [group.rank, 1]) };
    const { hiddenStates } = await dispatcher.dispatch(tensor("float32", [group.rank, 4]), topk);
    await dispatcher.combine({ format: "flashinfer", hiddenStates });
  }
  await a2a.close();
  await group.close();
`;

describe("NODE_DEBUG=moe-a2a", () => {
  it("writes a line for each phase", async () => {
    const { code, stderr } = await launch(["run", "--ranks", "2", await script(RANK)], {
      NODE_DEBUG: "moe-a2a",
    });
    expect(code).toBe(0);
    expect(stderr).toMatch(
      /\[1\] MOE-A2A \d+: rank 1 dispatch 0 on lane 0, 1 tokens in 4 slots, 24 bytes, 1 rows sent, 0 received, /,
    );
    expect(stderr.match(/rank [01] (dispatch|combine) [01] on lane 0/g)).toHaveLength(8);
  });

  it("says why a phase failed", () => {
    const message: PhaseMessage = { phase: "combine", rank: 2, epSize: 4, error: new Error("gone") };
    expect(describePhase(message, 1.234)).toBe("rank 2 combine, 1.23 ms, failed: Error: gone");
  });
});

describe("a trace", () => {
  interface Event {
    readonly name: string;
    readonly ph: string;
    readonly tid: number;
    readonly ts: number;
    readonly dur: number;
    readonly args: Readonly<Record<string, unknown>>;
  }

  it("has a row for each rank, of all processes in one file", async () => {
    const { readFile } = await import("node:fs/promises");
    const path = await script(RANK);
    const file = `${path}.json`;
    const before = Date.now() * 1000;
    const { code, stderr } = await launch(["run", "--ranks", "3", "--trace", file, path]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const text = await readFile(file, "utf8");
    // Chrome's array form leaves the end open, for programs that are cut off.
    const events = JSON.parse(`${text.trimEnd().replace(/,$/, "")}]`) as Event[];
    const names = events.filter(({ name }) => name === "thread_name").map(({ args }) => args.name);
    expect(names.sort()).toEqual(["rank 0", "rank 1", "rank 2"]);
    const phases = events.filter(({ ph }) => ph === "X");
    expect(phases).toHaveLength(3 * 2 * 2);
    for (const rank of [0, 1, 2]) {
      const own = phases.filter(({ tid }) => tid === 2 * rank).sort((a, b) => a.ts - b.ts);
      expect(own.map(({ name, args }) => `${name} ${args.round}`)).toEqual([
        "dispatch 0",
        "combine 0",
        "dispatch 1",
        "combine 1",
      ]);
      expect(own[0]!.args).toMatchObject({ tokens: rank, tokensSent: rank });
      for (const { ts, dur } of own) {
        expect(ts).toBeGreaterThan(before);
        expect(ts + dur).toBeLessThanOrEqual(Date.now() * 1000 + 1000);
      }
    }
  });

  it("that cannot be written is a warning, and no more", async () => {
    const path = await script(RANK);
    const { code, stderr } = await launch(["run", "--ranks", "1", "--trace", "/no/such/folder/x.json", path]);
    expect(code).toBe(0);
    expect(stderr).toMatch(/MoeA2AWarning: the trace cannot be written: ENOENT/);
  });
});
