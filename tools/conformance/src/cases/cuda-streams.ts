import {
  type CpuTensor,
  type Dispatch,
  type DispatchInput,
  DTYPES,
  oracleCombine,
  type Tensor,
} from "@moe-a2a/core";
import type { Context, RankCase } from "../case.js";
import { sameBytes, sameOutput, throws } from "../check.js";
import { Flight } from "../flight.js";
import type { Round } from "../round.js";
import { each, rounds, setUp } from "./common.js";

const needs = { cuda: true } as const;
const ranks = 4;
const { config, round } = setUp({ ranks, tokens: 6, topK: 3, roundsInFlight: 2, timeoutMs: 10_000 });

/** What a round comes to whose experts return what they received. */
function returned(made: Round, rank: number): CpuTensor {
  const expertOutputs = made.dispatched.map((d) => d!.recv[0]!);
  return oracleCombine({ dispatched: made.dispatched, expertOutputs })[rank]!;
}

const pattern = (turn: number): number[] =>
  each(ranks, 0).map((_, r) => ((r + turn) % 3 ? (r * 5 + turn) % 7 : 0));

/** Dispatch and combine enqueued back to back, for many rounds, before anything is waited for. */
const pipelined: RankCase = {
  name: "streams: views are used at once, and rounds enqueued without waiting",
  ranks,
  config: { ...config, roundsInFlight: 1 },
  needs,
  async run(context) {
    const a2a = await context.create();
    const { hidden, dtype } = round(each(ranks, 0));
    const made = Array.from({ length: 24 }, (_, turn) =>
      context.round(turn, round(pattern(turn), { slots: 6 })),
    );
    const inputs: DispatchInput[] = [];
    for (const m of made) inputs.push(await Flight.input(a2a, m, context.target));
    const outs = made.map((m) => a2a.empty(dtype, [m.spec.counts[context.rank]!, hidden]));
    const enqueue = (turn: number) => {
      const dispatch = a2a.dispatch(inputs[turn]!);
      return dispatch.combine(dispatch.recv[0]!, { out: outs[turn]! });
    };
    const combines = made.map((_, turn) => enqueue(turn));
    await combines.at(-1)!.ready();
    for (const [turn, m] of made.entries()) {
      context.at(`output of round ${turn}`);
      await combines[turn]!.ready();
      sameOutput("output", await a2a.read(outs[turn]!), returned(m, context.rank));
    }
  },
};

/** The host may enqueue the next round as soon as the combine before it is enqueued, and no sooner. */
const laneIsFree: RankCase = {
  name: "streams: a lane is free once its combine is enqueued",
  ranks,
  config: { ...config, roundsInFlight: 1 },
  needs,
  async run(context) {
    const a2a = await context.create();
    const first = await context.launch(a2a, context.round(0, round([6, 0, 1, 2])));
    const made = context.round(1, round([0, 3, 3, 0]));
    const input = await Flight.input(a2a, made, context.target);
    throws("dispatch", () => a2a.dispatch(input), "ERR_MOE_A2A_STATE", { fields: { state: "busy" } });
    await first.offer();
    const second = await context.launch(a2a, made, { input });
    await first.finish();
    await second.complete();
  },
};

/** Plays a round on a stream of the caller's. */
async function playOn(
  context: Context,
  stream: bigint,
  a2a: Awaited<ReturnType<Context["create"]>>,
  made: Round,
) {
  const input = await Flight.input(a2a, made, context.target);
  const dispatch: Dispatch = a2a.dispatch({ ...input, stream });
  const combine = dispatch.combine(dispatch.recv[0]!, { stream });
  return async () => {
    await combine.ready();
    sameOutput("output", await a2a.read(combine.output), returned(made, context.rank));
  };
}

const ownStreams: RankCase = {
  name: "streams: rounds on the caller's streams, another one for each lane",
  ranks,
  config,
  needs,
  async run(context) {
    const a2a = await context.create();
    const cuda = context.target.cuda!;
    const streams = [cuda.createStream(a2a), cuda.createStream(a2a)] as const;
    for (let turn = 0; turn < 20; turn++) {
      context.at(`turn ${turn}`);
      const finish = [];
      for (const lane of [0, 1] as const) {
        const made = context.round(`${turn}/${lane}`, round(pattern(turn + lane), { slots: 6 }));
        finish.push(await playOn(context, streams[lane].handle, a2a, made));
      }
      if ((turn + context.rank) % 2) finish.reverse();
      for (const done of finish) await done();
    }
    for (const stream of streams) stream.dispose();
  },
};

/** One lane each: with two, the streams of ranks that share two GPUs are more than a GPU has hardware queues. */
const severalInstances: RankCase = {
  name: "streams: three instances at once, each on a stream of its own",
  ranks,
  config: { ...config, roundsInFlight: 1 },
  needs,
  async run(context) {
    const all = [await context.create(), await context.create(), await context.create()];
    const cuda = context.target.cuda!;
    const streams = all.map((a2a) => cuda.createStream(a2a));
    for (let turn = 0; turn < 12; turn++) {
      context.at(`turn ${turn}`);
      const order = [0, 1, 2].map((i) => (i + turn + context.rank) % 3);
      const finish: (() => Promise<void>)[] = [];
      for (const i of order) {
        const made = context.round(`${turn}/${i}`, round(pattern(turn + i), { slots: 6 }));
        finish.push(await playOn(context, streams[i]!.handle, all[i]!, made));
      }
      for (const done of finish) await done();
    }
    for (const stream of streams) stream.dispose();
  },
};

/** As many ranks as may share the GPUs that there are. */
const sharing: RankCase[] = [2, 3, 8]
  .map((many) =>
    rounds(
      `streams: ${many} ranks, on GPUs that they share where there are fewer`,
      { ranks: many, tokens: 40, topK: Math.min(6, 2 * many), hidden: 96 },
      (make) => [
        make(each(many, 40)),
        make(each(many, 0)),
        ...Array.from({ length: 6 }, (_, turn) =>
          make(each(many, 0).map((_, r) => ((r + turn) % 2 ? 0 : (r * 11 + turn) % 41))),
        ),
      ],
    ),
  )
  .map((c) => ({ ...c, needs }));

/** Payloads at odd addresses, whatever their dtype. */
const oddAddresses: RankCase[] = [1, 3, 5, 8, 15].map((offset) => {
  const payloads = DTYPES.map((dtype, i) => ({ dtype, n: i % 2 ? 16 : 3 }));
  const setup = setUp({ ranks: 3, tokens: 5, payloads });
  return {
    name: `streams: payloads ${offset} byte${offset === 1 ? "" : "s"} past an aligned address`,
    ranks: 3,
    config: setup.config,
    needs: { cuda: true, anyAddress: true },
    async run(context: Context) {
      const a2a = await context.create();
      for (const counts of [[5, 0, 3], each(3, 5)]) {
        const made = context.round(`${counts}`, setup.round(counts));
        const input = await Flight.input(a2a, made, context.target);
        const moved: Tensor[] = [];
        for (const host of made.inputs[context.rank]!.payloads) {
          const t = context.target.cuda!.atAddress(a2a, host.dtype, host.shape, offset);
          await a2a.write(t, host.data);
          sameBytes("what was written to an odd address", await a2a.read(t), host.data);
          moved.push(t);
        }
        await context.play(a2a, made, { input: { ...input, payloads: moved } });
      }
    },
  };
});

export const cudaStreams: readonly RankCase[] = [
  pipelined,
  laneIsFree,
  ownStreams,
  severalInstances,
  ...sharing,
  ...oddAddresses,
];
