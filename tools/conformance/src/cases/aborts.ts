import { describe, type MoeAllToAll } from "@moe-a2a/core";
import type { Context, RankCase } from "../case.js";
import { check, fails, rejects } from "../check.js";
import { Flight } from "../flight.js";
import { each, setUp, sleep } from "./common.js";
import { sticky } from "./failing.js";

const ranks = 4;
const gone = 2;
// Never reached: an abort ends all waiting at once.
const { config, round } = setUp({ ranks, tokens: 4, topK: 3, timeoutMs: 50_000 });

/** Goes on after a fault on all ranks at once. */
async function resetAll(context: Context, a2a: MoeAllToAll): Promise<void> {
  await context.barrier();
  context.at("reset");
  await a2a.reset();
  await context.play(a2a, context.round("after the reset", round([4, 0, 1, 2])));
}

/** Phases in which a rank calls abort() while the others wait. */
const inPhases: RankCase[] = (["dispatch", "combine"] as const).flatMap((phase) =>
  [1, 2].map((lanes) => ({
    name: `aborts: abort() in ${phase}, ${lanes} lane${lanes === 1 ? "" : "s"}, reaches all ranks with its reason`,
    ranks,
    config: { ...config, roundsInFlight: lanes as 1 | 2 },
    async run(context: Context) {
      const { rank } = context;
      const a2a = await context.create();
      const flight = await context.launch(a2a, context.round("fault", round([4, 1, 2, 3])), { out: true });
      const second =
        lanes === 2 ? await context.launch(a2a, context.round("second", round([1, 1, 1, 1]))) : undefined;
      const expected = {
        fields: { rank: gone, reason: "out of memory" },
        says: [`rank ${gone}`, "out of memory"],
      };
      // A dispatch that starts after the abort would throw.
      await context.barrier();
      if (phase === "combine") {
        await flight.arrive();
        if (rank !== gone) await flight.offer();
      }
      if (rank === gone) {
        a2a.abort("out of memory");
        await sticky(context, a2a, round(each(ranks, 1)), "ERR_MOE_A2A_ABORTED");
        await fails("this rank's own round", flight.complete(), "ERR_MOE_A2A_ABORTED", expected);
      } else if (phase === "combine") {
        await rejects("combine", flight.combine!.ready(), "ERR_MOE_A2A_ABORTED", expected);
        await flight.expectNaN();
      } else {
        // All have dispatched, so that the dispatch may still succeed; the round does not.
        await fails("round", flight.complete(), "ERR_MOE_A2A_ABORTED", expected);
      }
      if (second) await fails("second round", second.complete(), "ERR_MOE_A2A_ABORTED", expected);
      await resetAll(context, a2a);
    },
  })),
);

const abortWhileWaiting: RankCase = {
  name: "aborts: abort() of a rank that has not dispatched ends the others' waiting",
  ranks,
  config,
  async run(context) {
    const a2a = await context.create();
    const reason = { code: 7, why: "no more requests" };
    if (context.rank === gone) {
      await context.barrier();
      await sleep(30);
      a2a.abort(reason);
      const error = await fails(
        "this rank's next dispatch",
        async () =>
          a2a.dispatch(await Flight.input(a2a, context.round(0, round(each(ranks, 1))), context.target)),
        "ERR_MOE_A2A_ABORTED",
        { fields: { rank: gone } },
      );
      if (error.reason !== reason) throw error;
    } else {
      const flight = await context.launch(a2a, context.round(0, round(each(ranks, 1))));
      const pending = rejects("ready()", flight.dispatch.ready(), "ERR_MOE_A2A_ABORTED", {
        fields: { rank: gone },
        says: [`rank ${gone}`, "no more requests"],
      });
      await context.barrier();
      await pending;
    }
    await resetAll(context, a2a);
  },
};

/** What other ranks are told of a reason, where it is no text or a long one. */
const reasons: readonly [given: unknown, isTold: (text: string) => boolean][] = [
  [new Error("disk full"), (text) => text === "disk full"],
  [42, (text) => text === "42"],
  ["x".repeat(5000), (text) => text.length > 50 && /^x+…?$/.test(text)],
  ["é√😀".repeat(500), (text) => text.length > 50 && "é√😀".repeat(500).startsWith(text.replace(/…$/, ""))],
];

/** What a rank was told: nothing counts as an empty text, and anything but a text as wrong. */
function textOf(reason: unknown): string {
  if (reason === undefined) return "";
  check(typeof reason === "string", `the reason is ${describe(reason)}, not a text`);
  return reason;
}

const anyReason: RankCase = {
  name: "aborts: a reason of any kind and length reaches the others as text",
  ranks,
  config,
  async run(context) {
    const a2a = await context.create();
    for (const [turn, [reason, isTold]] of reasons.entries()) {
      context.at(`reason ${turn}`);
      if (context.rank === gone) {
        await context.barrier();
        a2a.abort(reason);
      } else {
        const flight = await context.launch(a2a, context.round(turn, round(each(ranks, 1))));
        const pending = rejects("ready()", flight.dispatch.ready(), "ERR_MOE_A2A_ABORTED", {
          fields: { rank: gone },
          says: [`rank ${gone}`],
        });
        await context.barrier();
        const error = await pending;
        check(
          isTold(textOf(error.reason)),
          `reason ${turn}: the others were told ${JSON.stringify(error.reason)}`,
        );
      }
      await context.barrier();
      await a2a.reset();
    }
    await context.play(a2a, context.round("after", round([4, 0, 1, 2])));
  },
};

const nobodyAsks: RankCase = {
  name: "aborts: failed rounds that nobody asks about raise no unhandled rejection",
  ranks,
  config,
  async run(context) {
    const a2a = await context.create();
    if (context.rank !== gone) await context.launch(a2a, context.round("unasked", round([4, 1, 2, 3])));
    await context.barrier();
    if (context.rank === gone) a2a.abort();
    await sleep(50);
    await resetAll(context, a2a);
    const flight = await context.launch(a2a, context.round("unasked combine", round([4, 1, 2, 3])), {
      out: true,
    });
    await flight.arrive();
    await flight.offer();
    if (context.rank === gone) a2a.abort(new Error("an error as reason"));
    await sleep(50);
    await resetAll(context, a2a);
  },
};

export const aborts: readonly RankCase[] = [...inPhases, abortWhileWaiting, anyReason, nobodyAsks];
