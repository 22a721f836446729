import type { DispatchInput, ErrorCode, MoeAllToAll, Tensor } from "@moe-a2a/core";
import type { Context, RankCase } from "../case.js";
import { type Expected, throws } from "../check.js";
import { Flight } from "../flight.js";
import { setUp } from "./common.js";

const ranks = 3;
const tokens = 4;
const { config, round } = setUp({ ranks, tokens, experts: 7, topK: 2, maxExpertStats: 3, timeoutMs: 50_000 });
const bytes = config.maxDispatchBytesPerToken;

/** Makes tensors of this instance. */
type Make = MoeAllToAll["empty"];

/** A call that must be refused: what is wrong with it, and what the error has to be. */
interface Mistake {
  readonly name: string;
  /** Where it is a mistake; default everywhere. */
  readonly needs?: RankCase["needs"];
  /** Of an input of 3 tokens in a round of 4 slots. */
  readonly change: (make: Make, good: DispatchInput) => Record<string, unknown>;
  readonly code: ErrorCode;
  /** Field `argument`, or `value` and `limit`. */
  readonly fields: Record<string, unknown>;
  readonly says: readonly (string | number | RegExp)[];
}

const argument = (
  name: string,
  which: string,
  says: Mistake["says"],
  change: Mistake["change"],
): Mistake => ({
  name,
  change,
  code: "ERR_MOE_A2A_ARGUMENT",
  fields: { argument: which },
  says: [which, ...says],
});

const capacity = (
  name: string,
  value: number,
  limit: number,
  says: Mistake["says"],
  change: Mistake["change"],
) => ({
  name,
  change,
  code: "ERR_MOE_A2A_CAPACITY" as const,
  fields: { value, limit },
  says: [value, limit, ...says],
});

/** The tensor with something else about it. Tensors need not own their fields, so that spreading them would not do. */
const like = ({ dtype, shape, device, data }: Tensor, over: Record<string, unknown>): unknown => ({
  dtype,
  shape,
  device,
  data,
  ...over,
});

const ids = "tokenSelectedExperts";
const payload =
  (change: (make: Make, good: readonly Tensor[]) => readonly unknown[]): Mistake["change"] =>
  (make, { payloads }) => ({ payloads: change(make, payloads) });

const mistakes: readonly Mistake[] = [
  capacity("L > m", 3, 2, ["numLocalTokens", "runtimeMaxTokensPerRank"], () => ({
    runtimeMaxTokensPerRank: 2,
  })),
  capacity("L > M", 5, 4, ["numLocalTokens", "maxTokensPerRank"], (make) => ({
    numLocalTokens: 5,
    tokenSelectedExperts: make("int32", [5, 2]),
  })),
  capacity("m > M", 5, 4, ["runtimeMaxTokensPerRank", "config.maxTokensPerRank"], () => ({
    runtimeMaxTokensPerRank: 5,
  })),
  ...[-1, 1.5, Number.NaN, "3", null, undefined].map((value) =>
    argument(
      `numLocalTokens ${typeof value === "string" ? `"${value}"` : value}`,
      "numLocalTokens",
      [String(value)],
      () => ({
        numLocalTokens: value,
      }),
    ),
  ),
  {
    ...argument("numLocalTokens in memory", "numLocalTokens", ["an object"], (make) => ({
      numLocalTokens: make("int32", [1]),
    })),
    needs: { countInMemory: false },
  },
  ...[-1, 1.5, "4"].map((value) =>
    argument(`runtimeMaxTokensPerRank ${value}`, "runtimeMaxTokensPerRank", [String(value)], () => ({
      runtimeMaxTokensPerRank: value,
    })),
  ),
  argument("ids of int64", ids, ["int64", "int32"], (make) => ({ [ids]: make("int64", [3, 2]) })),
  argument("ids of another top K", ids, [/\[3, 3\]/, /\[3, 2\]/], (make) => ({
    [ids]: make("int32", [3, 3]),
  })),
  argument("ids in one dimension", ids, [/\[6\]/, /\[3, 2\]/], (make) => ({ [ids]: make("int32", [6]) })),
  argument("ids of another number of tokens", ids, [/\[4, 2\]/, /\[3, 2\]/], (make) => ({
    [ids]: make("int32", [4, 2]),
  })),
  argument("no ids", ids, ["undefined"], () => ({ [ids]: undefined })),
  argument("ids that are no tensor", ids, ["an array of 2", "not a tensor"], () => ({ [ids]: [0, 1] })),
  argument("ids of another device", ids, ["device"], (make) => ({
    [ids]: like(make("int32", [3, 2]), { device: { type: "tpu", id: 0 } }),
  })),
  {
    ...argument("ids with fewer elements than their shape", ids, [5, /\[3, 2\]/], (make) => ({
      [ids]: like(make("int32", [5, 1]), { shape: [3, 2] }),
    })),
    needs: { tensorsKnowTheirLength: true },
  },
  argument(
    "no payloads",
    "payloads",
    ["0", 1, 8],
    payload(() => []),
  ),
  argument(
    "nine payloads",
    "payloads",
    [9, 8],
    payload((make) => Array.from({ length: 9 }, () => make("uint8", [3, 1]))),
  ),
  argument("payloads that are no list", "payloads", ["undefined"], () => ({ payloads: undefined })),
  argument(
    "a payload of fewer rows",
    "payloads[1]",
    [/\[2, 2\]/, /\[3, n\]/],
    payload((make, [a, , c]) => [a, make("int32", [2, 2]), c]),
  ),
  argument(
    "a payload of one dimension",
    "payloads[0]",
    [/\[24\]/],
    payload((make, [, b, c]) => [make("bfloat16", [24]), b, c]),
  ),
  argument(
    "a payload of three dimensions",
    "payloads[2]",
    [/\[3, 2, 1\]/],
    payload((make, [a, b]) => [a, b, make("float32", [3, 2, 1])]),
  ),
  argument(
    "a payload that is missing",
    "payloads[1]",
    ["undefined"],
    payload((_, [a, , c]) => [a, undefined, c]),
  ),
  argument(
    "a payload of an unknown dtype",
    "payloads[2]",
    ["float64"],
    payload((make, [a, b]) => [a, b, like(make("float32", [3, 2]), { dtype: "float64" })]),
  ),
  argument(
    "more bytes per token than planned",
    "payloads",
    [bytes + 4, bytes, "config.maxDispatchBytesPerToken"],
    payload((make, [a, b]) => [a, b, make("float32", [3, 3])]),
  ),
  argument("an id payload that is none of the payloads", "expertIdPayloadIndex", [3], () => ({
    expertIdPayloadIndex: 3,
  })),
  argument("an id payload of index -1", "expertIdPayloadIndex", [-1], () => ({ expertIdPayloadIndex: -1 })),
  argument("an id payload that is not int32", "expertIdPayloadIndex", ["bfloat16", "int32"], () => ({
    expertIdPayloadIndex: 0,
  })),
  argument("an invalid id that is no int32", "invalidTokenExpertId", [2 ** 31], () => ({
    invalidTokenExpertId: 2 ** 31,
  })),
  argument("an invalid id that is no integer", "invalidTokenExpertId", ["0.5"], () => ({
    invalidTokenExpertId: 0.5,
  })),
  argument("statistics that are not int32", "expertStats", ["float32", "int32"], (make) => ({
    expertStats: make("float32", [3]),
  })),
  argument("statistics of two dimensions", "expertStats", [/\[1, 3\]/], (make) => ({
    expertStats: make("int32", [1, 3]),
  })),
  argument("longer statistics than planned", "expertStats", [4, 3, "config.maxExpertStats"], (make) => ({
    expertStats: make("int32", [4]),
  })),
  argument("a lane that there is not", "lane", [1, "config.roundsInFlight"], () => ({ lane: 1 })),
  argument("a lane that is none", "lane", [2], () => ({ lane: 2 })),
];

/** Refused by the call itself, on one rank; the same call put right then meets the peers in the same round. */
const refusedDispatches: RankCase[] = mistakes.map(({ name, needs, change, code, fields, says }) => ({
  name: `arguments: ${name}`,
  ranks,
  config,
  ...(needs ? { needs } : {}),
  async run(context: Context) {
    const a2a = await context.create();
    const made = context.round(0, round([3, 3, 3], { stats: 3 }));
    const good = await Flight.input(a2a, made, context.target);
    if (context.rank === 1) {
      const wrong = { ...good, ...change((dtype, shape) => a2a.empty(dtype, shape), good) } as DispatchInput;
      const expected: Expected<ErrorCode> = { fields, says: ["rank 1", ...says] };
      throws("dispatch()", () => a2a.dispatch(wrong), code, expected);
    }
    await context.play(a2a, made);
    await context.play(a2a, context.round(1, round([0, 4, 2])));
  },
}));

const noInput: RankCase = {
  name: "arguments: no input at all",
  ranks,
  config,
  async run(context) {
    const a2a = await context.create();
    for (const input of [undefined, null, 3, "input"]) {
      throws(`dispatch(${input})`, () => a2a.dispatch(input as never), "ERR_MOE_A2A_ARGUMENT", {
        says: ["input"],
      });
    }
    await context.play(a2a, context.round(0, round([3, 0, 1])));
  },
};

export const badInputs: readonly RankCase[] = [...refusedDispatches, noInput];
