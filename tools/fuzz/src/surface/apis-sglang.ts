import { type CpuTensor, createLocalGroup, tensor } from "@moe-a2a/core";
import * as sglang from "@moe-a2a/sglang";
import { act } from "./actions.js";
import { type Api, getter, method, plain } from "./api.js";
import { CONFIG, HIDDEN, inputOf, type World } from "./world.js";

type Dispatcher = sglang.MoeA2ADispatcher<CpuTensor>;

/** A dispatcher of a rank, made when it is asked for. */
function dispatcherOf(world: World, rank: number): Dispatcher {
  const known = world.dispatchers[rank];
  if (known) return known;
  const made = new sglang.MoeA2ADispatcher({ a2a: world.a2as[rank]!, hiddenSize: HIDDEN, dtype: "float32" });
  world.dispatchers[rank] = made;
  return made;
}
const dispatcher: NonNullable<Api["on"]> = (world, rank) => dispatcherOf(world, rank);

/** Plays the first half of a dispatcher's round on all ranks. */
export async function dispatchAll(world: World): Promise<void> {
  await Promise.all(
    world.ranks.map((rank) =>
      dispatcherOf(world, rank).dispatch(inputOf(rank).payloads[0]!, topk(rank), COUNTS),
    ),
  );
}
const COUNTS = { dpGlobalNumTokens: [2, 1] };

const topk = (rank: number) => {
  const topkIds = inputOf(rank).tokenSelectedExperts;
  return { format: "standard", topkIds, topkWeights: tensor("float32", [topkIds.shape[0]!, 2]) } as const;
};
const dispatchArgs: Api["args"] = (world, rank) => {
  world.dispatcherCall = () =>
    world.dispatchers[rank]?.dispatch(inputOf(rank).payloads[0]!, topk(rank), COUNTS);
  return [{ ...inputOf(rank).payloads[0]! }, topk(rank), { ...COUNTS, attnTpSize: 1 }];
};
const combineArgs = (_: World, rank: number): unknown[] => [
  { format: "flashinfer", hiddenStates: { ...tensor("float32", [4, HIDDEN]) } },
  { out: { ...tensor("float32", [2 - rank, HIDDEN]) } },
];

const quantize = (states: CpuTensor) => ({
  hiddenStates: tensor("float8_e4m3fn", states.shape),
  hiddenStatesScale: tensor("float32", [states.shape[0]!, 1]),
});

const hookNames = [
  "registerPreDispatchHook",
  "registerPostDispatchHook",
  "registerPreCombineHook",
  "registerPostCombineHook",
] as const;

/** A hook that acts on what it is called from; which action, the case's number decides. */
const actingHook = (world: World, rank: number, pick: number) => (): void => {
  const actions = ["resetDispatcher", "close", "abort", "redispatch", "detach", "reset", "combine", "poll"];
  act(world, rank, actions[pick % actions.length]!);
};

/** The adapter: which backend, and the dispatcher with all that it takes. */
export const sglangApis: readonly Api[] = [
  plain("selectBackend", sglang.selectBackend, () => ["js"]),
  plain("selectBackend(auto)", sglang.selectBackend, () => []),
  plain(
    "createMoeAllToAll",
    async (...args: Parameters<typeof sglang.createMoeAllToAll>) =>
      (await sglang.createMoeAllToAll(...args)).close(),
    () => [{ ...CONFIG, epSize: 1 }, createLocalGroup(1)[0]!, { backend: "js" }],
    { unbounded: true },
  ),
  plain("dispatchBytesPerToken", sglang.dispatchBytesPerToken, () => [
    { hiddenSize: 32, dtype: "float32", topK: 2, format: "mxfp8" },
  ]),
  plain("combineBytesPerToken", sglang.combineBytesPerToken, () => [{ hiddenSize: 32, dtype: "float32" }]),
  plain("chooseDpPaddingMode", sglang.chooseDpPaddingMode, () => [[1, 2], false]),
  plain("runtimeMaxTokensPerRank", sglang.runtimeMaxTokensPerRank, () => [[1, 2], 1]),
  plain("scatteredTokenCounts", sglang.scatteredTokenCounts, () => [5, 2]),
  plain("reshape", sglang.reshape, () => [tensor("float32", [2, 2]), [4]]),
  plain("isStandardTopKOutput", sglang.isStandardTopKOutput, () => [topk(0)]),
  plain("isBypassedTopKOutput", sglang.isBypassedTopKOutput, () => [topk(0)]),
  plain("isFlashinferDispatchOutput", sglang.isFlashinferDispatchOutput, () => [{ format: "flashinfer" }]),
  plain("isStandardCombineInput", sglang.isStandardCombineInput, () => [{ format: "standard" }]),
  plain("isDispatcherStageError", sglang.isDispatcherStageError, () => [new Error("x")]),
  plain(
    "new MoeA2ADispatcher",
    (...args: ConstructorParameters<typeof sglang.MoeA2ADispatcher>) => {
      const made = new sglang.MoeA2ADispatcher(...args);
      return made.stage;
    },
    (world, rank) => [
      {
        a2a: world.a2as[rank]!,
        hiddenSize: HIDDEN,
        dtype: "float32",
        invalidTokenExpertId: -1,
        combineInPlace: true,
        lane: 0,
      },
    ],
  ),
  ...(["dispatch", "dispatchA"] as const).map((name) => method("dispatcher", name, dispatcher, dispatchArgs)),
  method("dispatcher", "dispatchB", dispatcher, () => []),
  ...(["combine", "combineA"] as const).map((name) =>
    method("dispatcher", name, dispatcher, combineArgs, { needs: "dispatcher" }),
  ),
  method("dispatcher", "combineB", dispatcher, () => []),
  method("dispatcher", "reset", dispatcher, () => []),
  method("dispatcher", "setQuantConfig", dispatcher, () => [{ format: "fp8", quantize }], { pure: true }),
  {
    ...method("dispatcher", "setQuantConfig", dispatcher, (world, rank, pick) => [
      {
        format: "fp8",
        quantize: (states: CpuTensor) => {
          actingHook(world, rank, pick)();
          return quantize(states);
        },
      },
    ]),
    name: "dispatcher.setQuantConfig(acting)",
  },
  method("dispatcher", "setOverlapArgs", dispatcher, () => [{}, {}], { pure: true }),
  method("dispatcher", "clearOverlapArgs", dispatcher, () => [], { pure: true }),
  ...hookNames.map((name) => method("dispatcher", name, dispatcher, () => [() => undefined], { pure: true })),
  ...hookNames.map(
    (name): Api => ({
      ...method("dispatcher", name, dispatcher, (world, rank, pick) => [actingHook(world, rank, pick)]),
      name: `dispatcher.${name}(acting)`,
      ...(name.includes("Combine") && { needs: "dispatcher" as const }),
      // And the call in which it acts.
      call: (target: Dispatcher, [hook]: [never], world: World, self: Dispatcher): unknown => {
        target[name](hook);
        const rank = Math.max(0, world.dispatchers.indexOf(self));
        if (name.includes("Dispatch"))
          return self.dispatch(...(dispatchArgs(world, rank, 0) as Parameters<typeof self.dispatch>));
        return self.combine(...(combineArgs(world, rank) as Parameters<typeof self.combine>));
      },
    }),
  ),
  ...(["stage", "quantConfig", "overlapArgs", "hiddenSize"] as const).map((name) =>
    getter("dispatcher", name, dispatcher),
  ),
];
