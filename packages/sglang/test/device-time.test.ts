import { tracingChannel } from "node:diagnostics_channel";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type CpuTensor, MoeA2AError, type MoeAllToAll } from "@moe-a2a/core";
import { afterEach, describe, expect, it } from "vitest";
import {
  COMBINE_CHANNEL,
  DISPATCH_CHANNEL,
  MoeA2ADispatcher,
  type PhaseMessage,
  startTrace,
} from "../src/index.js";
import { PhaseTrace } from "../src/observe/phase-trace.js";
import { now } from "../src/observe/subscribe.js";
import { configOf, createRanks, hiddenSize, makeTokens, randomFrom } from "./world.js";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

/** Phases that have arrived; those that begin are timed where `timed`. */
function listen(timed: boolean): PhaseMessage[] {
  const arrived: PhaseMessage[] = [];
  const nothing = (): void => {};
  const handlers = {
    start: (message: PhaseMessage) => {
      if (timed) message.timed = true;
    },
    end: nothing,
    asyncStart: nothing,
    asyncEnd: (message: PhaseMessage) => void arrived.push(message),
    error: nothing,
  };
  for (const name of [DISPATCH_CHANNEL, COMBINE_CHANNEL]) {
    const channel = tracingChannel<unknown, PhaseMessage>(name);
    channel.subscribe(handlers);
    cleanups.push(() => channel.unsubscribe(handlers));
  }
  return arrived;
}

const report = {
  round: 4,
  lane: 0,
  tokensSent: 3,
  tokensReceived: 0,
  droppedEntries: { padding: 0, invalidExpert: 0, inactiveRank: 0 },
  waitMs: [0, 2],
} as const;

/** A dispatch on a GPU that ran from 7 to 2 milliseconds ago. */
async function follow(ready: () => Promise<unknown> = async () => report) {
  const deviceTime = { start: now() - 7, end: now() - 2 };
  let asked = 0;
  const trace = PhaseTrace.start("dispatch", 1, 2)!;
  trace.enqueued({ tokens: 2, slots: 2, rowBytes: 10 });
  const phase = {
    ready,
    deviceTime: async () => {
      asked++;
      return deviceTime;
    },
  };
  trace.follow(phase, () => report);
  await sleep(5);
  return { asked, deviceTime };
}

describe("the time of a phase on its GPU", () => {
  it("is told to those who ask for it", async () => {
    const arrived = listen(true);
    const { deviceTime } = await follow();
    expect(arrived).toHaveLength(1);
    expect(arrived[0]).toMatchObject({ round: 4, deviceTime });
  });

  it("is not asked for where nobody wants it", async () => {
    const arrived = listen(false);
    expect((await follow()).asked).toBe(0);
    expect(arrived[0]).not.toHaveProperty("deviceTime");
  });

  it("is not waited for where the phase has failed", async () => {
    const arrived = listen(true);
    const error = new MoeA2AError("ERR_MOE_A2A_ABORTED", "no", { rank: 1, reason: "no" });
    expect((await follow(() => Promise.reject(error))).asked).toBe(0);
    expect(arrived[0]).toMatchObject({ error });
  });

  it.each([true, false])("has phases enqueued as timed ones where that is asked for: %s", async (timed) => {
    const [plain] = await createRanks(configOf({ epSize: 1 }));
    let inTimed = 0;
    const a2a = new Proxy(plain!, {
      get: (target, name) => {
        if (name === "timed")
          return (enqueue: () => unknown) => {
            inTimed++;
            return enqueue();
          };
        const value: unknown = Reflect.get(target, name);
        return typeof value === "function" ? value.bind(target) : value;
      },
    }) as MoeAllToAll<CpuTensor>;
    const dispatcher = new MoeA2ADispatcher({ a2a, hiddenSize, dtype: "float32" });
    const { hiddenStates, topkOutput } = makeTokens(randomFrom(1), 2, a2a.config);
    const round = async (): Promise<void> => {
      const received = await dispatcher.dispatch(hiddenStates, topkOutput);
      await dispatcher.combine({ format: "flashinfer", hiddenStates: received.hiddenStates });
    };
    await round();
    expect(inTimed).toBe(0);
    const arrived = listen(timed);
    await round();
    expect(inTimed).toBe(timed ? 2 : 0);
    expect(arrived).toHaveLength(2);
    await a2a.close();
  });

  it("is what a trace shows, with how long it was queued and until the host heard", async () => {
    const folder = await mkdtemp(join(tmpdir(), "moe-a2a-trace-"));
    cleanups.push(() => rm(folder, { recursive: true }));
    const file = join(folder, "trace.json");
    const trace = startTrace({ file });
    const { deviceTime } = await follow();
    trace.stop();
    const events = JSON.parse(`${(await readFile(file, "utf8")).trimEnd().replace(/,$/, "")}]`);
    const [phase] = events.filter(({ ph }: { ph: string }) => ph === "X");
    expect(phase).toMatchObject({ name: "dispatch", tid: 2, ts: Math.round(deviceTime.start * 1000) });
    expect(phase.ts + phase.dur).toBe(Math.round(deviceTime.end * 1000));
    expect(phase.args.queuedMs).toBeLessThan(0); // it was made up to have run before it was enqueued
    expect(phase.args.heardMs).toBeGreaterThanOrEqual(2);
  });
});
