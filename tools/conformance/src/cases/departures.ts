import type { MoeAllToAll } from "@moe-a2a/core";
import type { Context, RankCase } from "../case.js";
import { fails, rejects } from "../check.js";
import { each, setUp, sleep } from "./common.js";

const ranks = 4;
const gone = 1;
const others = [0, 2, 3];
// Never reached: who leaves is noticed at once, and a case that waits it out fails by its deadline.
const { config, round } = setUp({ ranks, tokens: 4, topK: 3, timeoutMs: 120_000 });

const counts = [4, 1, 2, 3];

/** The ranks that remain go on without the one that left. */
async function goOn(context: Context, a2a: MoeAllToAll): Promise<void> {
  context.at(`reset without rank ${gone}`);
  await a2a.reset({ activeRanks: others });
  for (const [turn, tokens] of [each(ranks, 4), [3, 0, 0, 1], each(ranks, 0)].entries()) {
    context.at(`round ${turn} without rank ${gone}`);
    await context.play(a2a, context.round(`without/${turn}`, { ...round(tokens), active: others }));
  }
}

const told = (phase: "dispatch" | "combine" | "create" | "reset", kind: "closed" | "lost") => ({
  fields: { phase, kind, missingRanks: [gone] },
  says: [phase, `rank ${gone}`],
});

/** How a rank leaves: by closing its instance or its group, or because its thread ends. */
type Leave = "closes its instance" | "closes its group" | "exits" | "is terminated";

const ways: readonly Leave[] = ["closes its instance", "closes its group", "exits", "is terminated"];

/** Leaves after the others are known to wait for it; resolves only where the rank still runs. */
async function leave(context: Context, a2a: MoeAllToAll | undefined, how: Leave): Promise<void> {
  await context.barrier();
  await sleep(20);
  if (how === "closes its instance") await a2a?.close();
  else if (how === "closes its group") await context.group.close();
  else await context.die(how);
}

/** What cases of one way to leave have in common. */
function leaving(how: Leave) {
  const dies = how === "exits" || how === "is terminated";
  return {
    kind: dies ? ("lost" as const) : ("closed" as const),
    common: {
      ranks,
      config,
      ...(dies ? { dying: [gone], groups: ["threads", "processes"] as const } : {}),
    },
  };
}

function inDispatch(how: Leave): RankCase {
  const { kind, common } = leaving(how);
  return {
    ...common,
    name: `departures: a rank ${how} while the others wait in dispatch`,
    async run(context) {
      const a2a = await context.create();
      await context.play(a2a, context.round("before", round(counts)));
      if (context.rank === gone) return leave(context, a2a, how);
      const flight = await context.launch(a2a, context.round("fault", round(counts)));
      context.at("dispatch");
      const pending = rejects(
        "ready()",
        flight.dispatch.ready(),
        "ERR_MOE_A2A_PEER_TIMEOUT",
        told("dispatch", kind),
      );
      await context.barrier();
      await pending;
      await goOn(context, a2a);
    },
  };
}

function inCombine(how: Leave): RankCase {
  const { kind, common } = leaving(how);
  return {
    ...common,
    name: `departures: a rank ${how} while the others wait in combine`,
    async run(context) {
      const a2a = await context.create();
      const flight = await context.launch(a2a, context.round("fault", round(counts)), { out: true });
      await flight.arrive();
      if (context.rank === gone) return leave(context, a2a, how);
      await flight.offer();
      context.at("combine");
      const pending = rejects(
        "ready()",
        flight.combine!.ready(),
        "ERR_MOE_A2A_PEER_TIMEOUT",
        told("combine", kind),
      );
      await context.barrier();
      await pending;
      await flight.expectNaN();
      await goOn(context, a2a);
    },
  };
}

/** Its rows have been sent, so the dispatch succeeds; the round does not. */
function afterItsDispatch(how: Leave): RankCase {
  const { kind, common } = leaving(how);
  return {
    ...common,
    name: `departures: a rank ${how} right after its dispatch`,
    async run(context) {
      const a2a = await context.create();
      const made = context.round("fault", round(counts));
      if (context.rank === gone) {
        await context.launch(a2a, made);
        return leave(context, a2a, how);
      }
      await context.barrier();
      const flight = await context.launch(a2a, made, { out: true });
      context.at("round");
      await rejects("round", flight.complete(), "ERR_MOE_A2A_PEER_TIMEOUT", told("combine", kind));
      await flight.expectNaN();
      await goOn(context, a2a);
    },
  };
}

function inCreate(how: Leave): RankCase {
  const { kind, common } = leaving(how);
  return {
    ...common,
    name: `departures: a rank ${how} while the others wait in create()`,
    async run(context) {
      if (context.rank === gone) return leave(context, undefined, how);
      context.at("create");
      const pending = rejects("create()", context.create(), "ERR_MOE_A2A_PEER_TIMEOUT", told("create", kind));
      await context.barrier();
      await pending;
    },
  };
}

function inReset(how: Leave): RankCase {
  const { kind, common } = leaving(how);
  return {
    ...common,
    name: `departures: a rank ${how} while the others wait in reset()`,
    async run(context) {
      const a2a = await context.create();
      if (context.rank === gone) return leave(context, a2a, how);
      context.at("reset with all");
      const pending = rejects("reset()", a2a.reset(), "ERR_MOE_A2A_PEER_TIMEOUT", told("reset", kind));
      await context.barrier();
      await pending;
      await goOn(context, a2a);
      context.at("reset that names the rank again");
      await rejects("reset()", a2a.reset({ activeRanks: [0, 1, 2, 3] }), "ERR_MOE_A2A_PEER_TIMEOUT", {
        fields: { phase: "reset", missingRanks: [gone] },
      });
      await goOn(context, a2a);
    },
  };
}

/** Once a rank has what it wants, it may go: the others have heard from it in every phase. */
const afterLastRound: RankCase = {
  name: "departures: a rank that closes once its own combine is ready leaves the others' results intact",
  ranks,
  config,
  async run(context) {
    const a2a = await context.create();
    const flight = await context.launch(a2a, context.round("last", round(counts)));
    await flight.arrive();
    await flight.offer();
    await context.barrier();
    if (context.rank === gone) {
      await flight.finish();
      await a2a.close();
    }
    await context.barrier();
    if (context.rank !== gone) {
      await flight.finish();
      await fails(
        "the next round",
        async () => (await context.launch(a2a, context.round("next", round(counts)))).complete(),
        "ERR_MOE_A2A_PEER_TIMEOUT",
        told("dispatch", "closed"),
      );
      await goOn(context, a2a);
    }
  },
};

/** Two instances of a group: one going does not touch the other. */
const otherInstance: RankCase = {
  name: "departures: closing one instance leaves another of the same group alone",
  ranks,
  config,
  async run(context) {
    const first = await context.create();
    const second = await context.create();
    const flight = await context.launch(second, context.round("in flight", round(counts)));
    if (context.rank === gone) await first.close();
    await context.barrier();
    await flight.complete();
    await context.play(second, context.round("next", round([0, 4, 0, 1])));
    if (context.rank !== gone) await goOn(context, first);
  },
};

export const departures: readonly RankCase[] = [
  ...ways.flatMap((how) => [inDispatch(how), inCombine(how), afterItsDispatch(how), inReset(how)]),
  ...ways.slice(1).map(inCreate),
  afterLastRound,
  otherInstance,
];
