import type { RankCase } from "../case.js";
import { CheckFailure, same } from "../check.js";
import { setUp } from "./common.js";

const ranks = 3;
const late = 1;
const { config, round } = setUp({ ranks, tokens: 4, timeoutMs: 20_000 });

/** Checks that a wait is abandoned with the very reason that was given. */
async function abandoned(what: string, wait: Promise<unknown>, reason: unknown): Promise<void> {
  try {
    await wait;
  } catch (error) {
    if (error === reason) return;
    throw error;
  }
  throw new CheckFailure(`${what}: the wait ended although its signal was aborted first`);
}

const beforeAndMeanwhile: RankCase = {
  name: "signals: an AbortSignal abandons only that wait, and the round goes on",
  ranks,
  config,
  async run(context) {
    const { rank } = context;
    const a2a = await context.create();
    for (const turn of [0, 1]) {
      const made = context.round(turn, round([4, turn, 2]));
      const reason = new Error("had enough");
      if (rank === late) {
        // The others have given up waiting when it comes.
        await context.barrier();
        const flight = await context.launch(a2a, made);
        await flight.arrive();
        await context.barrier();
        await flight.offer();
        await flight.finish();
        continue;
      }
      const flight = await context.launch(a2a, made);
      const { dispatch } = flight;
      context.at("abandon the dispatch");
      await abandoned(
        "ready() with an aborted signal",
        dispatch.ready({ signal: AbortSignal.abort(reason) }),
        reason,
      );
      const dispatchAbort = new AbortController();
      const dispatchWait = abandoned("ready()", dispatch.ready({ signal: dispatchAbort.signal }), reason);
      const other = dispatch.ready();
      dispatchAbort.abort(reason);
      await dispatchWait;
      await context.barrier();
      const report = await flight.arrive();
      same("report of the wait that went on", await other, report);

      await flight.offer();
      context.at("abandon the combine");
      const combine = flight.combine!;
      await abandoned(
        "ready() with an aborted signal",
        combine.ready({ signal: AbortSignal.abort(reason) }),
        reason,
      );
      const combineAbort = new AbortController();
      const combineWait = abandoned("ready()", combine.ready({ signal: combineAbort.signal }), reason);
      combineAbort.abort(reason);
      await combineWait;
      await context.barrier();
      await flight.finish();
    }
  },
};

const unused: RankCase = {
  name: "signals: one that is never aborted, or only afterwards, changes nothing",
  ranks,
  config,
  async run(context) {
    const a2a = await context.create();
    const controller = new AbortController();
    const { signal } = controller;
    for (const turn of [0, 1, 2]) {
      const flight = await context.launch(a2a, context.round(turn, round([4, turn, 2])));
      await flight.dispatch.ready({ signal });
      await flight.arrive();
      await flight.offer();
      await flight.combine!.ready({ signal });
      if (turn === 2) controller.abort();
      await flight.finish();
    }
    await context.play(a2a, context.round("after", round([0, 1, 2])));
  },
};

const defaultReason: RankCase = {
  name: "signals: without a reason of its own, the wait ends with the signal's AbortError",
  ranks,
  config,
  async run(context) {
    const a2a = await context.create();
    const made = context.round(0, round([4, 0, 2]));
    if (context.rank !== late) {
      const flight = await context.launch(a2a, made);
      const controller = new AbortController();
      const wait = flight.dispatch.ready({ signal: controller.signal }).catch((error: unknown) => error);
      controller.abort();
      const error = await wait;
      same("name of the error", (error as Error).name, "AbortError");
      same("the error is the signal's reason", error === controller.signal.reason, true);
      await context.barrier();
      await flight.complete();
    } else {
      await context.barrier();
      await context.play(a2a, made);
    }
  },
};

export const signals: readonly RankCase[] = [beforeAndMeanwhile, unused, defaultReason];
