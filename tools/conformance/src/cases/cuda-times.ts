import { oracleCombine } from "@moe-a2a/core";
import type { RankCase } from "../case.js";
import { check, sameOutput } from "../check.js";
import { Flight } from "../flight.js";
import { each, setUp } from "./common.js";

const ranks = 4;
const { config, round } = setUp({ ranks, tokens: 6, topK: 3, timeoutMs: 10_000 });

const TURNS = 12;
/** A GPU that processes share may be another one's whenever the clocks are compared, which is tried ten times a second. */
const MOST_TURNS = 600;

/** Clocks are compared to some ten microseconds; a machine that does other things as well adds to that. */
const TOLERANCE_MS = 1;

const now = (): number => performance.timeOrigin + performance.now();

/** Ranks on all GPUs, threads and processes of the machine tell one story. */
const oneClock: RankCase = {
  name: "times: no rank's dispatch ends before the last rank has begun it",
  ranks,
  config,
  needs: { cuda: true },
  async run(context) {
    const a2a = await context.create();
    const { timed, deviceTime } = context.target.cuda!;
    let isTimed = false;
    let areTimed = false;
    for (let turn = 0; turn < TURNS || (!areTimed && turn < MOST_TURNS); turn++) {
      context.at(`turn ${turn}`);
      const counts = each(ranks, 0).map((_, r) => ((r + turn) % 3 ? (r * 5 + turn) % 7 : 0));
      const made = context.round(turn, round(counts, { slots: 6 }));
      const input = await Flight.input(a2a, made, context.target);
      const before = now();
      const dispatch = timed(a2a, () => a2a.dispatch(input));
      const combine = timed(a2a, () => dispatch.combine(dispatch.recv[0]!));
      await combine.ready();
      const times = [await deviceTime(dispatch), await deviceTime(combine)];
      const after = now();
      const [sent, summed] = times;
      if (sent && summed) {
        const moments = [before, sent.start, sent.end, summed.start, summed.end, after];
        const inOrder = moments.every((at, i) => i === 0 || at > moments[i - 1]! - TOLERANCE_MS);
        check(inOrder, `not in order: ${moments.map((at) => (at - before).toFixed(3))} ms`);
        isTimed = true;
      }
      const expertOutputs = made.dispatched.map((d) => d!.recv[0]!);
      const expected = oracleCombine({ dispatched: made.dispatched, expertOutputs })[context.rank]!;
      sameOutput("output", await a2a.read(combine.output), expected);
      const begun = Math.max(...(await context.gather(sent?.start ?? 0)));
      areTimed = (await context.gather(Number(isTimed))).every((timed) => timed === 1);
      if (!sent) continue;
      const early = begun - sent.end;
      check(early < TOLERANCE_MS, `the dispatch ends ${early.toFixed(3)} ms before the last rank begins`);
    }
    check(isTimed, `none of ${MOST_TURNS} rounds has times`);
  },
};

export const cudaTimes: readonly RankCase[] = [oneClock];
