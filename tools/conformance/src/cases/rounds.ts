import type { Context, RankCase } from "../case.js";
import { check, same } from "../check.js";
import type { Flight } from "../flight.js";
import { Random } from "../random.js";
import type { RoundSpec } from "../round.js";
import { each, rounds, setUp, vary } from "./common.js";

/** Rounds whose counts, m, payloads and routing change each time, from a seed. */
function changing(
  seed: string,
  count: number,
  ranks: number,
  tokens: number,
  round: (counts: readonly number[], over?: Partial<RoundSpec>) => RoundSpec,
): RoundSpec[] {
  const random = new Random(seed);
  return Array.from({ length: count }, () => {
    const counts = each(ranks, 0).map(() => (random.oneIn(3) ? 0 : random.int(1, tokens)));
    const most = Math.max(...counts);
    return round(counts, {
      slots: random.int(most, tokens),
      routing: random.pick(["distinct", "padded", "repeated"] as const),
      invalidTokenExpertId: random.pick([undefined, -3, 77]),
    });
  });
}

const many: RankCase[] = [
  rounds(
    "rounds: 200 with changing counts and changing m on 4 ranks",
    { ranks: 4, tokens: 6, experts: 7, topK: 3 },
    (round) => changing("many", 200, 4, 6, round),
  ),
  rounds(
    "rounds: 120 with changing counts and changing m on 7 ranks",
    { ranks: 7, tokens: 4, experts: 16, topK: 5, dtype: "float16" },
    (round) => changing("seven", 120, 7, 4, round),
  ),
];

/** Two rounds in flight; each rank takes their steps in an order of its own. */
function twoLanes(explicit: boolean): RankCase {
  const ranks = 4;
  const { config, round } = setUp({ ranks, tokens: 5, topK: 3, roundsInFlight: 2, maxExpertStats: 2 });
  return {
    name: `rounds: two in flight, out of phase, lanes ${explicit ? "named" : "in turn"}`,
    ranks,
    config,
    async run(context) {
      const a2a = await context.create();
      const specs = changing("lanes", 60, ranks, 5, (counts, over) => round(counts, { ...over, stats: 2 }));
      const order = new Random("order", context.rank);
      for (let turn = 0; turn < specs.length; turn += 2) {
        context.at(`rounds ${turn} and ${turn + 1}`);
        const lanes = explicit && turn % 4 ? ([1, 0] as const) : ([0, 1] as const);
        const flights: Flight[] = [];
        for (const [i, lane] of lanes.entries()) {
          const made = context.round(turn + i, specs[turn + i]!);
          flights.push(
            await context.launch(a2a, made, { ...vary(context, turn + i), ...(explicit ? { lane } : {}) }),
          );
        }
        const inOrder = () => (order.oneIn(2) ? flights : [...flights].reverse());
        if (order.oneIn(2)) {
          for (const flight of inOrder()) await flight.arrive();
          for (const flight of inOrder()) await flight.offer();
        } else {
          for (const flight of inOrder()) {
            await flight.arrive();
            await flight.offer();
          }
        }
        for (const flight of inOrder()) await flight.finish();
        if (explicit)
          same(
            "lanes",
            flights.map((f) => f.report!.lane),
            [...lanes],
          );
        else
          same(
            "lanes",
            flights.map((f) => f.report!.lane),
            [0, 1],
          );
      }
    },
  };
}

/** One rank finishes a phase and starts the next while another has not looked at the first. */
const ahead: RankCase = (() => {
  const ranks = 3;
  const { config, round } = setUp({ ranks, tokens: 4, hidden: 64, topK: 3 });
  return {
    name: "rounds: a rank one phase ahead disturbs nobody",
    ranks,
    config,
    async run(context) {
      const { rank } = context;
      const a2a = await context.create();
      const specs = changing("ahead", 12, ranks, 4, (counts, over) => round(counts, { ...over, slots: 4 }));
      let flight = await context.launch(a2a, context.round(0, specs[0]!));
      for (const [turn, _] of specs.entries()) {
        const slow = turn % ranks;
        context.at(`dispatch ${turn}, rank ${slow} slow`);
        await context.barrier();
        if (rank !== slow) {
          // Arrived, and results offered, before the slow rank looks at its dispatch.
          await flight.arrive();
          await flight.offer();
        }
        await context.barrier();
        if (rank === slow) {
          await flight.arrive();
          await flight.offer();
        }
        context.at(`combine ${turn}, rank ${slow} slow`);
        await context.barrier();
        const next = specs[turn + 1];
        const made = next && context.round(turn + 1, next);
        const finished = flight;
        if (rank !== slow) {
          // Finished, and the next round dispatched, before the slow rank looks at its combine.
          await finished.finish();
          if (made) flight = await context.launch(a2a, made);
        }
        await context.barrier();
        if (rank === slow) {
          // What it received is still there, although the others have sent the next round.
          await finished.compareStillThere();
          await finished.finish();
          if (made) flight = await context.launch(a2a, made);
        }
      }
    },
  };
})();

/** Without slots a combine exchanges nothing, so that a rank may be a whole round ahead of one that has not looked. */
const aheadOfEmpty: RankCase = (() => {
  const ranks = 3;
  const { config, round } = setUp({ ranks, tokens: 4, topK: 3, maxExpertStats: 4 });
  return {
    name: "rounds: a rank ahead of a round without slots disturbs nobody",
    ranks,
    config,
    async run(context) {
      const { rank } = context;
      const a2a = await context.create();
      for (let turn = 0; turn < 9; turn++) {
        const slow = turn % ranks;
        context.at(`turn ${turn}, rank ${slow} slow`);
        const empty = context.round(`empty/${turn}`, round(each(ranks, 0), { slots: 0, stats: 4 }));
        const next = context.round(`next/${turn}`, round([3, turn % 5, 0], { slots: 4, stats: turn % 4 }));
        const flight = await context.launch(a2a, empty);
        await context.barrier();
        let following: Flight | undefined;
        if (rank !== slow) {
          await flight.complete();
          following = await context.launch(a2a, next);
        }
        await context.barrier();
        if (rank === slow) {
          await flight.complete();
          following = await context.launch(a2a, next);
        }
        await following?.complete();
      }
    },
  };
})();

/** Round numbers that pass the end of 31 and of 32 bits. */
const wraps: RankCase[] = [2 ** 31 - 4, 2 ** 32 - 4].flatMap((firstRound) =>
  ([1, 2] as const).map((roundsInFlight) => {
    const { config, round } = setUp({ ranks: 3, tokens: 3, roundsInFlight });
    return {
      name: `rounds: numbers from ${firstRound} on, ${roundsInFlight} lane${roundsInFlight === 1 ? "" : "s"}`,
      ranks: 3,
      config,
      async run(context: Context) {
        const a2a = await context.create({}, { firstRound });
        const specs = changing("wrap", 20, 3, 3, round);
        const next = [firstRound, firstRound];
        for (const [turn, spec] of specs.entries()) {
          context.at(`round ${turn}`);
          const flight = await context.launch(a2a, context.round(turn, spec), vary(context, turn));
          const report = await flight.arrive();
          same("report.round", report.round, next[report.lane]!++);
          await flight.offer();
          await flight.finish();
          // A reset must not lose its way at the wrap either.
          if (turn === 9) await a2a.reset();
        }
      },
    };
  }),
);

/** Two instances of one group, used in a different order on each rank. */
const instances: RankCase = (() => {
  const ranks = 4;
  const one = setUp({ ranks, tokens: 5, topK: 3 });
  const two = setUp({ ranks, tokens: 3, experts: 9, topK: 2, dtype: "float32", hidden: 5 });
  return {
    name: "rounds: two instances at once",
    ranks,
    config: one.config,
    async run(context) {
      const first = await context.create();
      const second = await context.create(two.config);
      const a = changing("first", 30, ranks, 5, one.round);
      const b = changing("second", 30, ranks, 3, two.round);
      for (let turn = 0; turn < 30; turn++) {
        context.at(`round ${turn}`);
        const rounds = [
          { a2a: first, made: context.round(`a${turn}`, a[turn]!) },
          { a2a: second, made: context.round(`b${turn}`, b[turn]!, two.config) },
        ];
        if ((context.rank + turn) % 2) rounds.reverse();
        const flights: Flight[] = [];
        for (const { a2a, made } of rounds)
          flights.push(await context.launch(a2a, made, vary(context, turn)));
        await Promise.all(flights.map((flight) => flight.complete()));
      }
      // One goes, the other stays.
      await second.close();
      await context.play(first, context.round("last", one.round([5, 0, 2, 1])));
    },
  };
})();

const churn: RankCase = (() => {
  const ranks = 3;
  const tokens = 16;
  const { config, round } = setUp({
    ranks,
    tokens,
    maxDispatchBytesPerToken: 32_768,
    maxCombineBytesPerToken: 16_384,
  });
  const turns = 48;
  return {
    name: `rounds: create and close ${turns} times without growth`,
    ranks,
    config,
    async run(context) {
      let before = 0;
      for (let turn = 0; turn < turns; turn++) {
        context.at(`turn ${turn}`);
        const a2a = await context.create();
        await context.play(a2a, context.round(turn, round([turn % 5, 0, 3])));
        const { totalBytes } = a2a.plan;
        await context.barrier();
        if (turn % 3) await a2a.close();
        else await a2a[Symbol.asyncDispose]();
        await context.barrier();
        if (turn === 7) before = await context.target.memoryInUse();
        if (turn === turns - 1) {
          const grown = (await context.target.memoryInUse()) - before;
          const created = totalBytes * (turns - 8);
          check(
            grown < created / 4,
            `memory in use grew by ${grown} bytes after instances of ${created} bytes were closed`,
          );
        }
      }
    },
  };
})();

export const manyRounds: readonly RankCase[] = [
  ...many,
  twoLanes(false),
  twoLanes(true),
  ahead,
  aheadOfEmpty,
  ...wraps,
  instances,
  churn,
];
