import type { TensorData } from "@moe-a2a/core";
import type { RankCase } from "../case.js";
import { check, rejects, same, sameBytes, throws } from "../check.js";
import { Flight } from "../flight.js";
import { setUp } from "./common.js";

const ranks = 3;
const { config, round } = setUp({ ranks, tokens: 4, maxExpertStats: 2, timeoutMs: 20_000 });
const busy = round([3, 0, 4], { stats: 2 });
const next = round([0, 4, 1], { stats: 2 });

const common = { ranks, config } as const;

const noFreeLane: RankCase[] = ([1, 2] as const).map((roundsInFlight) => ({
  ...common,
  name: `state: dispatch without a free lane, ${roundsInFlight} in all`,
  config: { ...config, roundsInFlight },
  async run(context) {
    const a2a = await context.create();
    const flights: Flight[] = [];
    for (let lane = 0; lane < roundsInFlight; lane++) {
      flights.push(await context.launch(a2a, context.round(lane, busy)));
    }
    const made = context.round("next", next);
    const input = await Flight.input(a2a, made, context.target);
    const refuse = (when: string) =>
      throws(`dispatch ${when}`, () => a2a.dispatch(input), "ERR_MOE_A2A_STATE", {
        says: [`rank ${context.rank}`, "lane 0", "combine"],
      });
    refuse("while the dispatch is under way");
    for (const flight of flights) await flight.arrive();
    refuse("after ready()");
    for (const flight of flights) {
      await flight.offer();
      await flight.finish();
    }
    for (let lane = 0; lane < roundsInFlight; lane++) await context.play(a2a, made);
  },
}));

const beforeReady: RankCase = {
  ...common,
  needs: { gatedByReady: true },
  name: "state: nothing can be read or combined before ready()",
  async run(context) {
    const a2a = await context.create();
    const { rank } = context;
    const made = context.round(0, busy);
    const flight = await context.launch(a2a, made);
    const { dispatch } = flight;
    const rows = a2a.empty("bfloat16", [ranks, 4, 8]);
    const reads: Record<string, () => unknown> = {
      recv: () => dispatch.recv,
      recvCounts: () => dispatch.recvCounts,
      expertStats: () => dispatch.expertStats,
      "combineBuffer()": () => dispatch.combineBuffer(8, "bfloat16"),
      "combine()": () => dispatch.combine(rows),
    };
    for (const [what, read] of Object.entries(reads)) {
      throws(what, read, "ERR_MOE_A2A_STATE", { says: [`rank ${rank}`, what.replace("()", ""), "ready()"] });
      check(
        !Object.hasOwn(dispatch, what),
        `${what} is a property of the object itself, which printing would read`,
      );
    }
    await flight.arrive();
    await flight.offer();
    throws("output before ready()", () => flight.combine!.output, "ERR_MOE_A2A_STATE", {
      says: [`rank ${rank}`, "output", "ready()"],
    });
    await flight.finish();
    await context.play(a2a, context.round(1, next));
  },
};

const combineTwice: RankCase = {
  ...common,
  name: "state: a dispatch combines once",
  async run(context) {
    const a2a = await context.create();
    const flight = await context.launch(a2a, context.round(0, busy));
    await flight.arrive();
    await flight.offer();
    const rows = a2a.empty("bfloat16", [ranks, 4, 8]);
    const again = () => flight.dispatch.combine(rows);
    throws("combine again, under way", again, "ERR_MOE_A2A_STATE", { says: ["once"] });
    await flight.finish();
    throws("combine again, afterwards", again, "ERR_MOE_A2A_STATE", { says: ["once"] });
    await context.play(a2a, context.round(1, next));
  },
};

const readyAgain: RankCase = {
  ...common,
  name: "state: ready() may be called again, also several times at once",
  async run(context) {
    const a2a = await context.create();
    const flight = await context.launch(a2a, context.round(0, busy));
    const reports = await Promise.all([flight.dispatch.ready(), flight.dispatch.ready(), flight.arrive()]);
    same("reports", reports[1], reports[0]);
    same("report of a later call", await flight.dispatch.ready(), reports[0]);
    if (context.canBlock) same("report of readySync()", flight.dispatch.readySync(), reports[0]);
    await flight.offer();
    await Promise.all([flight.combine!.ready(), flight.combine!.ready()]);
    if (context.canBlock) flight.combine!.readySync();
    await flight.finish();
    await context.play(a2a, context.round(1, next));
  },
};

const blocking: RankCase = {
  ranks,
  config,
  name: "state: readySync() blocks where a thread may block, and is refused elsewhere",
  async run(context) {
    const a2a = await context.create();
    if (context.canBlock) {
      for (let turn = 0; turn < 10; turn++) {
        await context.play(a2a, context.round(turn, turn % 2 ? next : busy), { sync: true });
      }
      return;
    }
    const flight = await context.launch(a2a, context.round(0, busy));
    if (!context.target.traits.gatedByReady) {
      // The device does the waiting, so ranks that share a thread may block it once all have enqueued their part.
      await context.barrier();
      flight.dispatch.readySync();
      await flight.arrive();
      await flight.offer();
      await context.barrier();
      flight.combine!.readySync();
      return flight.finish();
    }
    const says = [`rank ${context.rank}`, "readySync()", "ready()"];
    throws("Dispatch.readySync()", () => flight.dispatch.readySync(), "ERR_MOE_A2A_STATE", { says });
    await flight.arrive();
    await flight.offer();
    throws("Combine.readySync()", () => flight.combine!.readySync(), "ERR_MOE_A2A_STATE", { says });
    await flight.finish();
  },
};

const afterClose: RankCase = {
  ...common,
  name: "state: after close() nothing is allowed but close()",
  async run(context) {
    const a2a = await context.create();
    const made = context.round(0, busy);
    await context.play(a2a, made);
    const input = await Flight.input(a2a, made, context.target);
    await context.barrier();
    await a2a.close();
    const says = [`rank ${context.rank}`, "closed"];
    const fields = { state: "closed" };
    throws("dispatch()", () => a2a.dispatch(input), "ERR_MOE_A2A_STATE", { says, fields });
    throws("abort()", () => a2a.abort(), "ERR_MOE_A2A_STATE", { says, fields });
    await rejects("reset()", a2a.reset(), "ERR_MOE_A2A_STATE", { says, fields });
    await a2a.close();
    await a2a[Symbol.asyncDispose]();
  },
};

const closeWhileWaiting: RankCase = {
  ...common,
  name: "state: close() and reset() give up this rank's own rounds in flight",
  async run(context) {
    const a2a = await context.create();
    // Rank 0 alone dispatches; the others have not come yet.
    if (context.rank === 0) {
      const made = context.round("alone", busy);
      const input = await Flight.input(a2a, made, context.target);
      const flight = await context.launch(a2a, made);
      const pending = rejects("ready() across reset()", flight.dispatch.ready(), "ERR_MOE_A2A_STATE", {
        says: ["rank 0", "reset()"],
      });
      const reset = a2a.reset();
      throws("dispatch() during reset()", () => a2a.dispatch(input), "ERR_MOE_A2A_STATE", {
        says: ["reset()"],
      });
      await rejects("reset() during reset()", a2a.reset(), "ERR_MOE_A2A_STATE", { says: ["reset()"] });
      await Promise.all([pending, reset]);
    } else await a2a.reset();
    await context.play(a2a, context.round("after", next));
    await context.barrier();
    if (context.rank === 0) {
      const flight = await context.launch(a2a, context.round("last", busy));
      const pending = rejects("ready() across close()", flight.dispatch.ready(), "ERR_MOE_A2A_STATE", {
        says: ["rank 0", "close()"],
      });
      await a2a.close();
      await pending;
    }
  },
};

const memoryAgain: RankCase = {
  ranks,
  config,
  name: "state: inputs may be overwritten once the dispatch is ready, and outputs last until the next combine",
  async run(context) {
    const a2a = await context.create();
    let before: { readonly flight: Flight; readonly bytes: TensorData } | undefined;
    for (let turn = 0; turn < 6; turn++) {
      const made = context.round(turn, turn % 2 ? next : busy);
      const input = await Flight.input(a2a, made, context.target);
      const flight = await context.launch(a2a, made, { input });
      await flight.arrive();
      for (const t of [input.tokenSelectedExperts, ...input.payloads, input.expertStats!]) {
        const data = await a2a.read(t);
        new Uint8Array(data.buffer).fill(0x55);
        await a2a.write(t, data);
      }
      // The output of the round before is memory of the plan, which only the next combine takes again.
      if (before) {
        sameBytes("output of the round before", await a2a.read(before.flight.combine!.output), before.bytes);
      }
      await flight.offer();
      await flight.finish();
      before = { flight, bytes: await a2a.read(flight.combine!.output) };
    }
  },
};

export const state: readonly RankCase[] = [
  ...noFreeLane,
  beforeReady,
  combineTwice,
  readyAgain,
  blocking,
  memoryAgain,
  afterClose,
  closeWhileWaiting,
];
