import type { RankCase } from "../case.js";
import { expectError, rejects, throws } from "../check.js";
import { Flight } from "../flight.js";
import { each, rounds, setUp, vary } from "./common.js";

const padding = rounds(
  "ids: padding -1 is dropped and counted, tokens of padding alone combine to zeros",
  { ranks: 4, tokens: 8, experts: 9, topK: 4 },
  (round) => [
    round([8, 0, 5, 8], { routing: "padded" }),
    round([8, 8, 8, 8], { routing: (_, token) => (token % 2 ? [-1, -1, -1, -1] : [-1, 8, -1, 0]) }),
  ],
);

const dropped = rounds(
  "ids: those of no expert are dropped and counted where the config says so",
  { ranks: 4, tokens: 8, experts: 9, topK: 4, invalidExpert: "drop" },
  (round) => [
    round([8, 0, 5, 8], { routing: "wild" }),
    round(each(4, 6), { routing: (_, token) => [-2, 9, token, 2 ** 31 - 1] }),
    round(each(4, 2), { routing: () => [9, 9, -2, -(2 ** 31)] }),
  ],
);

const sanitised: RankCase[] = [2, 4, 8].flatMap((ranks) =>
  [-3, -1, 999].map((invalid) =>
    rounds(
      `ids: padding slots of the named payload hold ${invalid}, ${ranks} ranks`,
      { ranks, tokens: 6, topK: 3, experts: 2 * ranks + 1 },
      (round) => [
        round(
          each(ranks, 0).map((_, r) => (r * 5 + 1) % 7),
          { invalidTokenExpertId: invalid },
        ),
        round(each(ranks, 0), { invalidTokenExpertId: invalid }),
        round(each(ranks, 6), { invalidTokenExpertId: invalid, routing: "padded" }),
        round(each(ranks, 1), { invalidTokenExpertId: invalid, slots: 2 }),
      ],
    ),
  ),
);

const defaultId = rounds(
  "ids: padding slots of the named payload hold -1 by default, after fuller rounds too",
  { ranks: 3, tokens: 6 },
  (round) => [round([6, 6, 6]), round([1, 0, 2]), round([0, 0, 1]), round([0, 0, 0]), round([6, 5, 4])],
);

const otherPayload = rounds(
  "ids: the named payload may come anywhere and hold rows of any length",
  {
    ranks: 3,
    tokens: 4,
    topK: 3,
    payloads: [
      { dtype: "uint8", n: 5 },
      { dtype: "float8_e4m3fn", n: 3 },
      { dtype: "int32", n: 3, ids: true },
      { dtype: "uint8", n: 1 },
    ],
  },
  (round) => [round([4, 0, 2], { invalidTokenExpertId: 2 ** 31 - 1 }), round([0, 3, 1])],
);

/** An id that is no expert's is an error, which the rank that has it can correct. */
function refused(id: number): RankCase {
  const { config, round } = setUp({ ranks: 3, tokens: 4, experts: 7, topK: 3 });
  return {
    name: `ids: ${id} is an error that names rank, token, k and id`,
    ranks: 3,
    config,
    async run(context) {
      const { rank } = context;
      const a2a = await context.create();
      await context.play(a2a, context.round("before", round([4, 2, 4])));
      const good = context.round("good", round([4, 3, 1]));
      const input = await Flight.input(a2a, good, context.target);
      const expected = {
        fields: { rank: 1, token: 2, k: 1, id },
        says: ["rank 1", "[2, 1]", id, 6] as const,
      };
      if (rank === 1) {
        const bad = good.inputs[1]!.tokenSelectedExperts.data.slice() as Int32Array;
        bad[2 * 3 + 1] = id;
        await a2a.write(input.tokenSelectedExperts, bad);
      }
      if (context.target.traits.callsSeeMemory) {
        if (rank === 1) {
          throws("dispatch with the id", () => a2a.dispatch(input), "ERR_MOE_A2A_EXPERT_ID", expected);
        }
      } else {
        // Ids in device memory are seen by the device alone, and fail the round for everybody.
        await rejects("ready()", a2a.dispatch(input).ready(), "ERR_MOE_A2A_EXPERT_ID", expected);
        await a2a.reset();
      }
      await context.play(a2a, good, vary(context, 0));
      await context.play(a2a, context.round("after", round([0, 4, 2])));
    },
  };
}

const firstInvalid: RankCase = (() => {
  const { config, round } = setUp({ ranks: 2, tokens: 4, experts: 4, topK: 2 });
  return {
    name: "ids: of several that are no expert's, one is reported, and nothing was sent",
    ranks: 2,
    config,
    needs: { callsSeeMemory: true },
    async run(context) {
      const a2a = await context.create();
      const good = context.round("good", round([4, 4]));
      const input = await Flight.input(a2a, good, context.target);
      for (let attempt = 0; attempt < 3; attempt++) {
        const bad = good.inputs[context.rank]!.tokenSelectedExperts.data.slice() as Int32Array;
        bad[3] = 4 + attempt;
        bad[6] = -5;
        await a2a.write(input.tokenSelectedExperts, bad);
        try {
          a2a.dispatch(input);
        } catch (error) {
          const { token, k, id } = expectError("dispatch", error, "ERR_MOE_A2A_EXPERT_ID");
          const known = [`1 1 ${4 + attempt}`, "3 0 -5"].includes(`${token} ${k} ${id}`);
          if (!known) throw error;
        }
      }
      await context.play(a2a, good);
    },
  };
})();

/** What only the device sees is told to everybody: of several ids the first, wherever its block runs. */
const firstInvalidInMemory: RankCase = (() => {
  const tokens = 300;
  const { config, round } = setUp({ ranks: 3, tokens, experts: 9, topK: 4 });
  return {
    name: "ids: of several that are no expert's, the first in memory is reported on every rank",
    ranks: 3,
    config,
    needs: { callsSeeMemory: false },
    async run(context) {
      const a2a = await context.create();
      const good = context.round("good", round([tokens, 7, 0]));
      for (const [attempt, first] of [
        [0, 0],
        [31, 3],
        [32, 0],
        [271, 2],
      ].entries()) {
        context.at(`attempt ${attempt}`);
        const [token, k] = first as [number, number];
        const input = await Flight.input(a2a, good, context.target);
        if (context.rank === 0) {
          const bad = good.inputs[0]!.tokenSelectedExperts.data.slice() as Int32Array;
          bad[token * 4 + k] = 9 + attempt;
          for (let later = token + 1; later < tokens; later += 13) bad[later * 4 + (later % 4)] = -2 - later;
          await a2a.write(input.tokenSelectedExperts, bad);
        }
        const flight = await context.launch(a2a, good, { input });
        await rejects("ready()", flight.dispatch.ready(), "ERR_MOE_A2A_EXPERT_ID", {
          fields: { rank: 0, token, k, id: 9 + attempt },
          says: ["rank 0", `[${token}, ${k}]`],
        });
        await flight.expectNothing();
        await a2a.reset();
        await context.play(a2a, good, vary(context, attempt));
      }
    },
  };
})();

export const ids: readonly RankCase[] = [
  padding,
  dropped,
  ...sanitised,
  defaultId,
  otherPayload,
  ...[-2, 7, 2 ** 31 - 1, -(2 ** 31)].map(refused),
  firstInvalid,
  firstInvalidInMemory,
];
