import type { Tensor } from "@moe-a2a/core";
import type { RankCase } from "../case.js";
import { rejects, throws } from "../check.js";
import { firstRows } from "../round.js";
import { servingPayloads, setUp } from "./common.js";

const ranks = 3;
const tokens = 4;
const { config, round } = setUp({ ranks, tokens, experts: 7, topK: 2, maxExpertStats: 3, timeoutMs: 50_000 });
const bytes = config.maxDispatchBytesPerToken;

type Refused = [
  what: string,
  argument: string,
  says: readonly (string | number | RegExp)[],
  call: () => unknown,
];

/** What combine() and combineBuffer() refuse; the round is finished afterwards. */
const refusedCombines: RankCase = {
  name: "arguments: expert output and out that do not fit",
  ranks,
  config,
  async run(context) {
    const { rank } = context;
    const a2a = await context.create();
    const flight = await context.launch(a2a, context.round(0, round([3, 0, 4])));
    await flight.arrive();
    const { dispatch } = flight;
    const own = [3, 0, 4][rank]!;
    const good = a2a.empty("bfloat16", [ranks, tokens, 8]);
    const limit = config.maxCombineBytesPerToken;
    const { dtype, device, data } = good;
    const rows = { dtype, device, data, shape: [ranks * tokens, 8] } as unknown as Tensor;
    const sharedOut: Refused = [
      "out in the expert output",
      "out",
      ["expertOutput"],
      () => dispatch.combine(good, { out: firstRows(rows, own) }),
    ];
    const calls: Refused[] = [
      [
        "slots",
        "expertOutput",
        [/\[3, 3, 8\]/],
        () => dispatch.combine(a2a.empty("bfloat16", [ranks, 3, 8])),
      ],
      [
        "ranks",
        "expertOutput",
        [/\[2, 4, 8\]/],
        () => dispatch.combine(a2a.empty("bfloat16", [2, tokens, 8])),
      ],
      ["dimensions", "expertOutput", [/\[12, 8\]/], () => dispatch.combine(a2a.empty("bfloat16", [12, 8]))],
      [
        "dtype",
        "expertOutput",
        ["int32", "bfloat16"],
        () => dispatch.combine(a2a.empty("int32", [ranks, tokens, 8])),
      ],
      [
        "bytes",
        "expertOutput",
        [limit + 2, limit, "config.maxCombineBytesPerToken"],
        () => dispatch.combine(a2a.empty("bfloat16", [ranks, tokens, 9])),
      ],
      [
        "hidden size 0",
        "expertOutput",
        ["0"],
        () => dispatch.combine(a2a.empty("bfloat16", [ranks, tokens, 0])),
      ],
      ["no tensor", "expertOutput", ["undefined"], () => dispatch.combine(undefined as never)],
      [
        "rows of out",
        "out",
        [/\[5, 8\]/, new RegExp(`\\[${own}, 8\\]`)],
        () => dispatch.combine(good, { out: a2a.empty("bfloat16", [5, 8]) }),
      ],
      // No row shares no memory.
      ...(own > 0 ? [sharedOut] : []),
      [
        "hidden size of out",
        "out",
        [new RegExp(`\\[${own}, 7\\]`)],
        () => dispatch.combine(good, { out: a2a.empty("bfloat16", [own, 7]) }),
      ],
      ["dtype of out", "out", ["uint8"], () => dispatch.combine(good, { out: a2a.empty("uint8", [own, 8]) })],
      ["dtype of the buffer", "combineBuffer()", ["int64"], () => dispatch.combineBuffer(8, "int64")],
      [
        "hidden size of the buffer",
        "combineBuffer()",
        ["1.5"],
        () => dispatch.combineBuffer(1.5, "bfloat16"),
      ],
      ["no hidden size of the buffer", "combineBuffer()", ["0"], () => dispatch.combineBuffer(0, "bfloat16")],
      [
        "bytes of the buffer",
        "combineBuffer()",
        [limit + 2, limit, "config.maxCombineBytesPerToken"],
        () => dispatch.combineBuffer(9, "bfloat16"),
      ],
    ];
    for (const [what, argument, says, call] of calls) {
      throws(what, call, "ERR_MOE_A2A_ARGUMENT", {
        fields: { argument },
        says: [`rank ${rank}`, argument, ...says],
      });
    }
    await flight.offer();
    await flight.finish();
    await context.play(a2a, context.round(1, round([0, 4, 2])));
  },
};

/** Peers use the instance's own memory, and later rounds write it again: no sums of the caller's go there. */
const planned: RankCase = {
  name: "arguments: the instance's own memory takes no out, and its output no expert output",
  ranks,
  config,
  async run(context) {
    const { rank } = context;
    const a2a = await context.create();
    const refuse = (what: string, argument: string, call: () => unknown) =>
      throws(what, call, "ERR_MOE_A2A_ARGUMENT", { fields: { argument }, says: [`rank ${rank}`, argument] });
    const own = [3, 0, 4][rank]!;
    const first = await context.launch(a2a, context.round(0, round([3, 0, 4])));
    await first.arrive();
    const { dispatch } = first;
    const given = a2a.empty("bfloat16", [ranks, tokens, 8]);
    // No row lies nowhere.
    if (own > 0) {
      for (const memory of [dispatch.recv[0]!, dispatch.combineBuffer(8, "bfloat16")]) {
        const { dtype, device, data } = memory;
        const rows = { dtype, device, data, shape: [ranks * tokens, 8] } as unknown as Tensor;
        refuse("out where rows arrive or leave", "out", () =>
          dispatch.combine(given, { out: firstRows(rows, own) }),
        );
      }
    }
    await first.offer();
    await first.finish();
    const sums = first.combine!.output;
    const second = await context.launch(a2a, context.round(1, round([1, 0, 1], { slots: 1 })));
    await second.arrive();
    if (own > 0) {
      const { dtype, device, data } = firstRows(sums, ranks);
      const results = { dtype, device, data, shape: [ranks, 1, 8] } as unknown as Tensor;
      refuse("expert output where the sums go", "expertOutput", () => second.dispatch.combine(results));
      refuse("out in the plan's output", "out", () =>
        second.dispatch.combine(a2a.empty("bfloat16", [ranks, 1, 8]), { out: firstRows(sums, 1) }),
      );
    }
    await second.offer();
    await second.finish();
    await context.play(a2a, context.round(2, round([0, 4, 2])));
  },
};

const memory: RankCase = {
  name: "arguments: empty(), write() and read() of what does not fit",
  ranks,
  config,
  async run(context) {
    const a2a = await context.create();
    const says = [`rank ${context.rank}`];
    const refused = "ERR_MOE_A2A_ARGUMENT";
    throws("empty of an unknown dtype", () => a2a.empty("float64" as "float32", [1]), refused, {
      says: [...says, "float64"],
    });
    throws("empty of a negative shape", () => a2a.empty("int32", [2, -1]), refused, { says: [...says, -1] });
    throws("empty of no shape", () => a2a.empty("int32", 3 as unknown as number[]), refused, { says });
    const t = a2a.empty("int32", [2, 2]);
    await rejects("write of 3 elements", a2a.write(t, new Int32Array(3)), refused, { says: [...says, 3, 4] });
    await rejects("write of floats", a2a.write(t, new Float32Array(4) as never), refused, {
      says: [...says, "Float32Array", "Int32Array"],
    });
    await rejects("write of nothing", a2a.write(t, undefined as never), refused, { says });
    await rejects("write to nothing", a2a.write(undefined as never, new Int32Array(4)), refused, { says });
    await rejects("read of nothing", a2a.read({} as never), refused, { says });
    await context.play(a2a, context.round(0, round([3, 0, 1])));
  },
};

/** Payloads as a serving framework sends them fit exactly; one byte more does not. */
const exact: RankCase = {
  name: "arguments: rows of exactly the planned bytes fit",
  ranks,
  config,
  async run(context) {
    const a2a = await context.create();
    const payloads = servingPayloads(8, 2);
    await context.play(a2a, context.round(0, round([4, 4, 4], { payloads, stats: 3 })));
    const uint8 = round([4, 0, 4], { payloads: [{ dtype: "uint8", n: bytes }] });
    await context.play(a2a, context.round(1, uint8));
  },
};

export const badOutputs: readonly RankCase[] = [refusedCombines, planned, memory, exact];
