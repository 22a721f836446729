import type { MissingKind, MoeAllToAll } from "@moe-a2a/core";
import type { Context, RankCase } from "../case.js";
import { check, fails, rejects, throws } from "../check.js";
import { each, setUp, sleep } from "./common.js";
import { sticky } from "./failing.js";

const ranks = 4;
const gone = 2;
const others = [0, 1, 3];

/** Time limit of cases that wait for it to pass, and of those in which it must not matter. */
const SHORT = 400;
const LONG = 50_000;

const { config, round } = setUp({ ranks, tokens: 4, topK: 3, timeoutMs: SHORT });
const patient = { ...config, timeoutMs: LONG };

/** What a rank that waits for `gone` must be told. */
const missing = (phase: "create" | "dispatch" | "combine" | "reset", kind: MissingKind = "timeout") => ({
  fields: { phase, kind, missingRanks: [gone] },
  says: [phase, `rank ${gone}`, ...(kind === "timeout" ? [SHORT] : [])],
});

/** After a fault: first without the rank, then with it, each time with exact rounds. */
async function recover(context: Context, a2a: MoeAllToAll): Promise<void> {
  await context.barrier();
  if (context.rank !== gone) {
    context.at(`reset without rank ${gone}`);
    await a2a.reset({ activeRanks: others, timeoutMs: LONG });
    for (const counts of [each(ranks, 4), [0, 3, 0, 1], each(ranks, 0)]) {
      await context.play(a2a, context.round(`without/${counts}`, { ...round(counts), active: others }));
    }
  }
  await context.barrier();
  context.at("reset with all");
  await a2a.reset({ activeRanks: [0, 1, 2, 3], timeoutMs: LONG });
  for (const counts of [each(ranks, 4), [0, 3, 0, 1]]) {
    await context.play(a2a, context.round(`with/${counts}`, round(counts)));
  }
}

const neverDispatches: RankCase = {
  name: "faults: a rank that never dispatches is named by all others, which go on without it, then with it",
  ranks,
  config,
  async run(context) {
    const a2a = await context.create();
    await context.play(a2a, context.round("before", round([1, 2, 3, 4])));
    const made = context.round("fault", round([4, 1, 2, 0]));
    await context.barrier();
    if (context.rank !== gone) {
      const flight = await context.launch(a2a, made);
      context.at("dispatch without the rank");
      await rejects("ready()", flight.dispatch.ready(), "ERR_MOE_A2A_PEER_TIMEOUT", missing("dispatch"));
      await flight.expectNothing();
      await sticky(context, a2a, round(each(ranks, 1)), "ERR_MOE_A2A_PEER_TIMEOUT");
    }
    await context.barrier();
    if (context.rank === gone) {
      context.at("come too late");
      // The others have given up; it must not pass for a round.
      await fails(
        "a dispatch that comes too late",
        async () => (await context.launch(a2a, made)).dispatch.ready(),
        "ERR_MOE_A2A_PEER_TIMEOUT",
        { fields: { phase: "dispatch", missingRanks: [gone] } },
      );
    }
    await recover(context, a2a);
  },
};

const neverCombines: RankCase = {
  name: "faults: a rank that never combines is named by all others, whose outputs are NaN",
  ranks,
  config,
  async run(context) {
    const a2a = await context.create();
    const flight = await context.launch(a2a, context.round("fault", round([4, 1, 2, 3])), { out: true });
    await flight.arrive();
    await context.barrier();
    if (context.rank !== gone) {
      await flight.offer();
      context.at("combine without the rank");
      await rejects("ready()", flight.combine!.ready(), "ERR_MOE_A2A_PEER_TIMEOUT", missing("combine"));
      await flight.expectNaN();
      if (context.target.traits.gatedByReady) {
        throws("output of a failed combine", () => flight.combine!.output, "ERR_MOE_A2A_STATE", {
          says: ["failed"],
        });
      }
      await sticky(context, a2a, round(each(ranks, 1)), "ERR_MOE_A2A_PEER_TIMEOUT");
    }
    await context.barrier();
    if (context.rank === gone) {
      context.at("combine too late");
      // It heard from everyone, so its own combine may succeed; the next phase does not.
      const late = flight.offer().then(() => flight.finish());
      const failed = await late.then(
        () => undefined,
        (error: unknown) => error,
      );
      if (failed === undefined) await flight.compareOutput();
      await fails(
        "the next phase of the late rank",
        async () =>
          (await context.launch(a2a, context.round("next", round(each(ranks, 1))))).dispatch.ready(),
        "ERR_MOE_A2A_PEER_TIMEOUT",
        { fields: { phase: "combine", missingRanks: [gone] } },
      );
    }
    await recover(context, a2a);
  },
};

const neverCreates: RankCase = {
  name: "faults: a rank that does not come to create() is named, and may come to the next one",
  ranks,
  config,
  async run(context) {
    if (context.rank !== gone) {
      context.at("create without the rank");
      await rejects("create()", context.create(), "ERR_MOE_A2A_PEER_TIMEOUT", missing("create"));
    }
    await context.barrier();
    context.at("create with all");
    const a2a = await context.create({ timeoutMs: LONG });
    await context.play(a2a, context.round("after", round([4, 1, 2, 3])));
  },
};

const neverResets: RankCase = {
  name: "faults: a rank that does not come to reset() is named, and may come to the next one",
  ranks,
  config: patient,
  async run(context) {
    const a2a = await context.create();
    await context.play(a2a, context.round("before", round([1, 2, 3, 4])));
    await context.barrier();
    if (context.rank !== gone) {
      context.at("reset without the rank");
      const reset = a2a.reset({ timeoutMs: SHORT });
      await rejects("reset()", reset, "ERR_MOE_A2A_PEER_TIMEOUT", missing("reset"));
      await sticky(context, a2a, round(each(ranks, 1)), "ERR_MOE_A2A_PEER_TIMEOUT");
    }
    await recover(context, a2a);
  },
};

const lateButInTime: RankCase = {
  name: "faults: a rank that comes late, but in time, is waited for, and the report says how long",
  ranks,
  config: { ...config, timeoutMs: 10_000 },
  async run(context) {
    const { rank } = context;
    const a2a = await context.create();
    const made = context.round("late", round([4, 0, 2, 1]));
    // The late rank dispatches after the others are known to wait for it.
    if (rank === gone) {
      await context.barrier();
      await sleep(200);
      await context.play(a2a, made);
    } else {
      const flight = await context.launch(a2a, made);
      const arrived = flight.arrive();
      await context.barrier();
      const { waitMs } = await arrived;
      check((waitMs[gone] as number) >= 100, `rank ${gone} came 200 ms late, but waitMs is ${waitMs}`);
      await flight.offer();
      await flight.finish();
    }
    const next = context.round("late results", round([1, 4, 3, 0]));
    const flight = await context.launch(a2a, next);
    await flight.arrive();
    if (rank === gone) await sleep(200);
    await flight.offer();
    await flight.finish();
  },
};

/** More ranks than fit a word: whom the first to notice names, the others name too. */
const manyMissing: RankCase = (() => {
  const many = setUp({ ranks: 64, tokens: 1, timeoutMs: 1500 });
  const absent = [0, 31, 32, 63];
  const present = each(64, 0).flatMap((_, r) => (absent.includes(r) ? [] : [r]));
  return {
    name: "faults: several of 64 ranks that never dispatch are all named",
    ranks: 64,
    config: many.config,
    groups: ["local"],
    async run(context) {
      const a2a = await context.create();
      if (!absent.includes(context.rank)) {
        const made = context.round("fault", many.round(each(64, 1)));
        const flight = await context.launch(a2a, made);
        await rejects("ready()", flight.dispatch.ready(), "ERR_MOE_A2A_PEER_TIMEOUT", {
          fields: { phase: "dispatch", kind: "timeout", missingRanks: absent },
          says: ["0, 31, 32, 63", 1500],
        });
        await a2a.reset({ activeRanks: present, timeoutMs: LONG });
        await context.play(a2a, context.round("after", { ...many.round(each(64, 1)), active: present }));
      }
    },
  };
})();

/** Verdicts are the same for a thread that blocks. */
const whileBlocking: RankCase = {
  name: "faults: readySync() ends with the same verdicts",
  ranks,
  config,
  blocks: true,
  async run(context) {
    const a2a = await context.create();
    await context.barrier();
    if (context.rank !== gone) {
      const flight = await context.launch(a2a, context.round("dispatch", round([4, 1, 2, 3])));
      const ready = () => flight.dispatch.readySync();
      throws("readySync()", ready, "ERR_MOE_A2A_PEER_TIMEOUT", missing("dispatch"));
    }
    await context.barrier();
    await a2a.reset({ timeoutMs: LONG });
    const flight = await context.launch(a2a, context.round("combine", round([4, 1, 2, 3])), { out: true });
    await flight.arrive();
    await context.barrier();
    if (context.rank !== gone) {
      await flight.offer();
      throws(
        "readySync()",
        () => flight.combine!.readySync(),
        "ERR_MOE_A2A_PEER_TIMEOUT",
        missing("combine"),
      );
      await flight.expectNaN();
    }
    await recover(context, a2a);
  },
};

export const faults: readonly RankCase[] = [
  neverDispatches,
  neverCombines,
  neverCreates,
  neverResets,
  lateButInTime,
  manyMissing,
  whileBlocking,
];
