import type { RankCase } from "../case.js";
import { each, setUp, sleep } from "../cases/common.js";
import { check } from "../check.js";

const RANKS = 4;
/** How late each rank is in its turn; long next to what everything else takes, but nothing depends on that. */
const DELAY_MS = 120;

const { config, round } = setUp({ ranks: RANKS, tokens: 3, timeoutMs: 30_000 });

/** Each rank is late in turn, and the others' reports have to say who it was, and how long they waited at least. */
export const waits: readonly RankCase[] = [false, true].map((blocks) => ({
  name: `waits: reports point at the rank that is late, each in turn${blocks ? ", in ranks that block" : ""}`,
  ranks: RANKS,
  config,
  ...(blocks ? { blocks } : {}),
  async run(context) {
    const a2a = await context.create();
    for (const idle of [false, true]) {
      for (let late = 0; late < RANKS; late++) {
        context.at(`rank ${late} is late${idle ? ", without a token" : ""}`);
        const made = context.round(`${idle}/${late}`, round(each(RANKS, idle ? 0 : 3)));
        if (context.rank === late) {
          // The others have all dispatched, and wait.
          await context.barrier();
          await sleep(DELAY_MS);
          await context.play(a2a, made);
          continue;
        }
        const flight = await context.launch(a2a, made, { sync: blocks });
        const soon = blocks ? undefined : flight.arrive();
        await context.barrier();
        const { waitMs } = await (soon ?? flight.arrive());
        check(
          waitMs[late] === Math.max(...waitMs),
          `rank ${late} was the last, but waits by rank are ${waitMs}`,
        );
        // A rank that blocks looks for the first time after the barrier, and a kernel may start later than its call
        // returns. Timers are off by a millisecond.
        const inCall = context.target.traits.gatedByReady;
        const least = blocks ? 0 : inCall ? DELAY_MS - 2 : DELAY_MS / 2;
        check(
          (waitMs[late] as number) > least,
          `rank ${late} came ${DELAY_MS} ms late, but waits are ${waitMs}`,
        );
        await flight.offer();
        await flight.finish();
      }
    }
  },
}));
