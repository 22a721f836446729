import type { Context, RankCase } from "../case.js";
import { expectError, rejects, same } from "../check.js";
import type { Flight } from "../flight.js";
import { each, setUp } from "./common.js";

const ranks = 4;
const { config, round } = setUp({ ranks, tokens: 5, topK: 3, maxExpertStats: 2, timeoutMs: 20_000 });

/** How far a rank takes a round before it resets. */
type Step = "nothing" | "dispatched" | "arrived" | "offered";

/** Steps by rank. Nobody arrives unless all have dispatched. */
const mixtures: readonly (readonly Step[])[] = [
  ["dispatched", "dispatched", "dispatched", "dispatched"],
  ["nothing", "dispatched", "nothing", "dispatched"],
  ["arrived", "dispatched", "arrived", "dispatched"],
  ["offered", "arrived", "dispatched", "offered"],
  ["offered", "offered", "offered", "arrived"],
  ["nothing", "nothing", "nothing", "dispatched"],
];

/** What a reset finds half done must never turn up later. */
const midRound: RankCase[] = ([1, 2] as const).map((roundsInFlight) => ({
  name: `resets: in the middle of rounds, each rank at another step, ${roundsInFlight} lane${roundsInFlight === 1 ? "" : "s"}`,
  ranks,
  config: { ...config, roundsInFlight },
  async run(context: Context) {
    const a2a = await context.create();
    for (const [turn, steps] of mixtures.entries()) {
      context.at(`mixture ${turn}`);
      const flights: Flight[] = [];
      for (let lane = 0; lane < roundsInFlight; lane++) {
        const step = steps[(context.rank + lane) % ranks]!;
        // With two lanes each has the mixture, shifted; "nothing" is then a round that others wait for in vain.
        if (step === "nothing") break;
        const spec = round([5, turn, 0, 2], { stats: 2 });
        flights.push(
          await context.launch(a2a, context.round(`given up/${turn}/${lane}`, spec), {
            inPlace: turn % 2 === 0,
          }),
        );
        if (step === "dispatched" || steps.includes("nothing")) continue;
        await flights[lane]!.arrive();
        if (step === "offered") await flights[lane]!.offer();
      }
      // It may have arrived just before it was given up.
      const pending = flights
        .filter((flight) => !flight.report)
        .map((flight) =>
          flight.dispatch
            .ready()
            .catch((error: unknown) => expectError("given-up dispatch", error, "ERR_MOE_A2A_STATE")),
        );
      context.at(`reset after mixture ${turn}`);
      const reset = a2a.reset();
      await Promise.all(pending);
      await reset;
      for (let after = 0; after < 3; after++) {
        context.at(`round ${after} after mixture ${turn}`);
        const counts = each(ranks, 0).map((_, r) => (r + turn + after) % 4);
        await context.play(a2a, context.round(`after/${turn}/${after}`, round(counts, { stats: 2 })));
      }
    }
  },
}));

/** The others give up a round that one rank still waits in. */
const leftOutWhileWaiting: RankCase = {
  name: "resets: a rank that is left out while it waits is told at once, and does no harm",
  ranks,
  config,
  async run(context) {
    const { rank } = context;
    const gone = 1;
    const active = [0, 2, 3];
    const a2a = await context.create();
    await context.play(a2a, context.round("before", round([5, 5, 5, 5])));
    const made = context.round("given up", round([5, 5, 5, 5]));
    if (rank === gone) {
      const flight = await context.launch(a2a, made, { out: true });
      context.at("wait for ranks that go on without this one");
      const pending = rejects("ready()", flight.dispatch.ready(), "ERR_MOE_A2A_STATE", {
        says: [`rank ${gone}`, "reset()"],
      });
      await context.barrier();
      await pending;
    } else {
      await context.barrier();
      await a2a.reset({ activeRanks: active });
      for (const counts of [
        [5, 0, 1, 5],
        [0, 0, 0, 0],
        [2, 0, 5, 0],
      ]) {
        await context.play(a2a, context.round(`without/${counts}`, { ...round(counts), active }));
      }
    }
    await context.barrier();
    context.at("come back");
    await a2a.reset({ activeRanks: [0, 1, 2, 3] });
    same("activeRanks", [...a2a.activeRanks], [0, 1, 2, 3]);
    await context.play(a2a, context.round("after", round([1, 2, 3, 4])));
  },
};

/** A rank that is left out between its dispatch and its combine offers nothing to those that went on. */
const leftOutBeforeCombine: RankCase = {
  name: "resets: a rank that is left out before its combine cannot offer results any more",
  ranks,
  config,
  async run(context) {
    const { rank } = context;
    const gone = 3;
    const active = [0, 1, 2];
    const a2a = await context.create();
    const flight = await context.launch(a2a, context.round("given up", round([5, 5, 5, 5])), { out: true });
    await flight.arrive();
    await context.barrier();
    if (rank !== gone) await a2a.reset({ activeRanks: active });
    await context.barrier();
    if (rank === gone) {
      await rejects(
        "combine of a left-out rank",
        flight.offer().then(() => flight.combine!.ready()),
        "ERR_MOE_A2A_STATE",
      );
    } else await context.play(a2a, context.round("without", { ...round([5, 5, 5, 0]), active }));
    await context.barrier();
    await a2a.reset({ activeRanks: [0, 1, 2, 3] });
    await context.play(a2a, context.round("after", round([1, 2, 3, 4])));
  },
};

export const resets: readonly RankCase[] = [...midRound, leftOutWhileWaiting, leftOutBeforeCombine];
