import type { CpuTensor, Dispatch, MoeAllToAll, Tensor } from "@moe-a2a/core";
import type { Graph } from "../backend-cuda.js";
import type { Context, RankCase } from "../case.js";
import { allNaN, fails, rejects, same, sameBytes, sameOutput, sameRows } from "../check.js";
import { firstRows, type Round, type RoundSpec, shortened } from "../round.js";
import { each, setUp } from "./common.js";

const ranks = 4;
const tokens = 6;
const needs = { cuda: true } as const;
const { config, round } = setUp({ ranks, tokens, topK: 3, timeoutMs: 5_000 });
const UNTOUCHED = 0x5aa5;

type Received = Pick<Dispatch, "recv" | "recvCounts">;

/** A captured round of inputs for as many tokens as fit, with the count in device memory. */
class Captured {
  readonly graph: Graph;
  readonly #context: Context;
  readonly #a2a: MoeAllToAll;
  readonly #full: Round;
  readonly #count: Tensor;
  readonly #rows: Tensor;
  readonly #out: Tensor;
  readonly #received: Received;

  private constructor(
    context: Context,
    a2a: MoeAllToAll,
    full: Round,
    tensors: {
      readonly count: Tensor;
      readonly rows: Tensor;
      readonly out: Tensor;
      readonly received: Received;
    },
    graph: Graph,
  ) {
    this.#context = context;
    this.#a2a = a2a;
    this.#full = full;
    this.#count = tensors.count;
    this.#rows = tensors.rows;
    this.#out = tensors.out;
    this.#received = tensors.received;
    this.graph = graph;
  }

  /** @param times rounds in the graph, each of the same inputs */
  static async create(context: Context, a2a: MoeAllToAll, spec: RoundSpec, times = 1): Promise<Captured> {
    const full = context.round(`captured/${spec.slots}/${times}`, spec);
    const { tokenSelectedExperts, payloads } = full.inputs[context.rank]!;
    const upload = async (host: CpuTensor) => {
      const t = a2a.empty(host.dtype, host.shape);
      await a2a.write(t, host.data);
      return t;
    };
    const ids = await upload(tokenSelectedExperts);
    const sent = await Promise.all(payloads.map(upload));
    const count = a2a.empty("int32", [1]);
    const rows = a2a.empty(spec.dtype, [ranks, full.slots, spec.hidden]);
    const out = a2a.empty(spec.dtype, [ids.shape[0]!, spec.hidden]);
    let received: Received | undefined;
    const graph = await context.target.cuda!.capture(a2a, (stream) => {
      for (let i = 0; i < times; i++) {
        const dispatch = a2a.dispatch({
          numLocalTokens: count,
          tokenSelectedExperts: ids,
          payloads: sent,
          runtimeMaxTokensPerRank: full.slots,
          expertIdPayloadIndex: 1,
          stream,
        });
        // Views stay where they are; the dispatch itself shows them only now.
        received = { recv: dispatch.recv, recvCounts: dispatch.recvCounts };
        dispatch.combine(rows, { out, stream });
      }
    });
    return new Captured(context, a2a, full, { count, rows, out, received: received! }, graph);
  }

  /** Sets this rank's count; any value, also one that does not fit. */
  async setCount(value: number): Promise<void> {
    await this.#a2a.write(this.#count, Int32Array.of(value));
  }

  /** Replays with these counts, and compares what came of it; with all ranks active also the rows received. */
  async replay(
    counts: readonly number[],
    options: { readonly times?: number; readonly active?: readonly number[] } = {},
  ): Promise<void> {
    const { rank, seed } = this.#context;
    const a2a = this.#a2a;
    const made = shortened(a2a.config, this.#full, counts, options.active, `${seed}/replay of ${counts}`);
    const expected = made.dispatched[rank]!;
    const out = new Uint16Array(this.#out.shape[0]! * this.#out.shape[1]!).fill(UNTOUCHED);
    await this.setCount(counts[rank]!);
    await a2a.write(this.#rows, made.expertOutputs[rank]!.data);
    await a2a.write(this.#out, out);
    await this.graph.replay(options.times).ready();

    const { recv, recvCounts } = this.#received;
    sameBytes("recvCounts", await a2a.read(recvCounts), expected.recvCounts.data);
    if (!options.active) {
      for (const [p, rows] of expected.recv.entries()) {
        sameRows(`recv[${p}]`, await a2a.read(recv[p]!), rows, expected.recvCounts.data, p === 1);
      }
      // What was received holds only until peers send the next replay.
      await this.#context.barrier();
    }
    const output = (await a2a.read(this.#out)) as Uint16Array;
    const sums = made.outputs[rank]!;
    sameOutput("output", output.subarray(0, sums.data.length), sums);
    sameBytes("rows past the count", output.subarray(sums.data.length), out.subarray(sums.data.length));
  }

  /** Checks that a failed replay left nothing that passes for results in the rows that it was to write. */
  async expectNaN(rows: number): Promise<void> {
    allNaN("out of a failed replay", await this.#a2a.read(firstRows(this.#out, rows)), "bfloat16");
  }
}

const spec = round(each(ranks, tokens));

const countChanges: RankCase = {
  name: "graphs: the count in device memory goes from 5 to 0 to 3, to all and to none, in any pattern",
  ranks,
  config,
  needs,
  async run(context) {
    const a2a = await context.create();
    const captured = await Captured.create(context, a2a, spec);
    for (const counts of [
      [5, 5, 5, 5],
      [0, 5, 0, 5],
      [3, 0, 3, 0],
      each(ranks, 0),
      each(ranks, tokens),
      [0, 0, 6, 0],
      each(ranks, 0),
      [1, 2, 0, 4],
    ]) {
      context.at(`replay of ${counts}`);
      await captured.replay(counts);
    }
  },
};

const manyAtOnce: RankCase = {
  name: "graphs: many replays in one call, of graphs with one round and with three",
  ranks,
  config,
  needs,
  async run(context) {
    const a2a = await context.create();
    for (const times of [1, 3]) {
      const captured = await Captured.create(context, a2a, spec, times);
      for (const [n, counts] of [
        [1, [4, 0, 6, 1]],
        [17, [0, 3, 0, 0]],
        [100, [6, 6, 0, 2]],
      ] as const) {
        context.at(`${n} replays of ${times} rounds`);
        await captured.replay(counts, { times: n });
      }
    }
  },
};

const besideOthers: RankCase = {
  name: "graphs: replays and rounds that were not captured take turns",
  ranks,
  config,
  needs,
  async run(context) {
    const a2a = await context.create();
    const captured = await Captured.create(context, a2a, spec);
    for (let turn = 0; turn < 6; turn++) {
      context.at(`turn ${turn}`);
      await captured.replay([turn, 0, 6 - turn, 1]);
      await context.play(a2a, context.round(`between/${turn}`, round([0, turn, 2, 6], { slots: 6 })));
    }
  },
};

const outOfRange: RankCase = {
  name: "graphs: a count out of range is CAPACITY on every rank, and the graph goes on after a reset",
  ranks,
  config,
  needs,
  async run(context) {
    const a2a = await context.create();
    const captured = await Captured.create(context, a2a, spec);
    await captured.replay([1, 2, 3, 4]);
    for (const value of [-1, tokens + 1, 2 ** 31 - 1, -(2 ** 31)]) {
      context.at(`a count of ${value}`);
      await captured.setCount(context.rank === 2 ? value : 1);
      await rejects("ready()", captured.graph.replay().ready(), "ERR_MOE_A2A_CAPACITY", {
        fields: { value, limit: tokens },
        says: ["rank 2", value, tokens],
      });
      await captured.expectNaN(context.rank === 2 ? tokens : 1);
      await a2a.reset();
      await captured.replay([0, 6, 0, 2]);
    }
  },
};

const countOutsideGraphs: RankCase = {
  name: "graphs: a count in device memory does without a graph, too",
  ranks,
  config,
  needs,
  async run(context) {
    const { rank } = context;
    const a2a = await context.create();
    for (const [turn, counts] of [each(ranks, 6), [0, 4, 0, 1], each(ranks, 0), [2, 0, 0, 0]].entries()) {
      context.at(`round ${turn}`);
      const made = context.round(turn, round(counts, { slots: 6 }));
      const own = made.inputs[rank]!;
      // Rows for as many tokens as fit, of which the count takes the first.
      const roomy = async (host: (typeof own.payloads)[number]) => {
        const t = a2a.empty(host.dtype, [tokens, host.shape[1]!]);
        const all = await a2a.read(t);
        (all as Uint8Array).set(host.data as Uint8Array);
        await a2a.write(t, all);
        return t;
      };
      const count = a2a.empty("int32", [1]);
      await a2a.write(count, Int32Array.of(counts[rank]!));
      const dispatch = a2a.dispatch({
        numLocalTokens: count,
        tokenSelectedExperts: await roomy(own.tokenSelectedExperts),
        payloads: await Promise.all(own.payloads.map(roomy)),
        runtimeMaxTokensPerRank: 6,
        expertIdPayloadIndex: 1,
      });
      const { tokensSent, tokensReceived } = await dispatch.ready();
      const expected = made.dispatched[rank]!;
      same("rows", [tokensSent, tokensReceived], [expected.tokensSent, expected.tokensReceived]);
      sameBytes("recvCounts", await a2a.read(dispatch.recvCounts), expected.recvCounts.data);
      const rows = dispatch.combineBuffer(made.spec.hidden, made.spec.dtype);
      await a2a.write(rows, made.expertOutputs[rank]!.data);
      const combine = dispatch.combine(rows);
      await combine.ready();
      same("shape of the output", [...combine.output.shape], [tokens, made.spec.hidden]);
      const sums = made.outputs[rank]!;
      sameOutput("output", await a2a.read(firstRows(combine.output, counts[rank]!)), sums);
    }
  },
};

const membership: RankCase = {
  name: "graphs: captured rounds follow the membership",
  ranks,
  config,
  needs,
  async run(context) {
    const a2a = await context.create();
    const captured = await Captured.create(context, a2a, spec);
    await captured.replay([1, 2, 3, 4]);
    for (const active of [[0, 1, 3], [0, 1, 2, 3], [2, 3], [1], [0, 1, 2, 3]]) {
      if (active.includes(context.rank)) {
        context.at(`reset to ${active}`);
        await a2a.reset({ activeRanks: active });
        const counts = each(ranks, 0).map((_, r) => (active.includes(r) ? 6 - r : 0));
        await captured.replay(counts, { active });
        await captured.replay(each(ranks, 0), { active, times: 5 });
      }
      await context.barrier();
    }
    await captured.replay([6, 0, 0, 6]);
  },
};

const differentSlots: RankCase = {
  name: "graphs: ranks that replay graphs of different m are told so",
  ranks,
  config,
  needs,
  async run(context) {
    const a2a = await context.create();
    const captured = await Captured.create(context, a2a, spec);
    const fewer = { ...spec, counts: each(ranks, 4), slots: 4 };
    const other = await Captured.create(context, a2a, fewer);
    await captured.replay([1, 0, 2, 0]);
    const wrong = context.rank === 3 ? other : captured;
    await wrong.setCount(1);
    await rejects("ready()", wrong.graph.replay().ready(), "ERR_MOE_A2A_MISMATCH", {
      fields: { field: "runtimeMaxTokensPerRank", values: [6, 6, 6, 4] },
    });
    await a2a.reset();
    await captured.replay([0, 5, 0, 6]);
  },
};

const aborted: RankCase = {
  name: "graphs: a failure between replays fails those that follow, until a reset",
  ranks,
  config,
  needs,
  async run(context) {
    const a2a = await context.create();
    const captured = await Captured.create(context, a2a, spec);
    await captured.replay([1, 2, 3, 4]);
    await context.barrier();
    if (context.rank === 2) a2a.abort("enough");
    else await captured.setCount(1);
    await fails("replays", () => captured.graph.replay(3).ready(), "ERR_MOE_A2A_ABORTED", {
      fields: { rank: 2, reason: "enough" },
    });
    if (context.rank !== 2) await captured.expectNaN(1);
    await context.barrier();
    await a2a.reset();
    await captured.replay([4, 3, 2, 1]);
  },
};

const missing: RankCase = {
  name: "graphs: a rank that does not replay is named, and may replay after a reset",
  ranks,
  config: { ...config, timeoutMs: 400 },
  needs,
  async run(context) {
    const a2a = await context.create();
    const captured = await Captured.create(context, a2a, spec);
    await captured.replay([1, 2, 3, 4]);
    await context.barrier();
    if (context.rank !== 1) {
      await captured.setCount(2);
      await rejects("ready()", captured.graph.replay(2).ready(), "ERR_MOE_A2A_PEER_TIMEOUT", {
        fields: { phase: "dispatch", missingRanks: [1], kind: "timeout" },
      });
    }
    await context.barrier();
    await a2a.reset({ timeoutMs: 20_000 });
    await captured.replay([4, 3, 2, 1]);
  },
};

export const cudaGraphs: readonly RankCase[] = [
  countChanges,
  manyAtOnce,
  besideOthers,
  outOfRange,
  countOutsideGraphs,
  membership,
  differentSlots,
  aborted,
  missing,
];
