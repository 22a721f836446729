import { createLocalGroup, tensor } from "@moe-a2a/core";
import { jsBackend } from "@moe-a2a/js";
import { type Api, getter, method, plain } from "./api.js";
import { CONFIG, HIDDEN, inputOf, type World } from "./world.js";

const instance: NonNullable<Api["on"]> = (world, rank) => world.a2as[rank];
const arrived = { needs: "dispatched", pure: true } as const;
const combined = { needs: "combined", pure: true } as const;
// Mostly that of the rank, else an older one or another rank's.
const handle = <T>(all: readonly T[], world: World, rank: number, pick: number): T | undefined =>
  pick < 4 ? all.at(rank - world.a2as.length) : all.at(-1 - (pick % 3));
const dispatch: NonNullable<Api["on"]> = (world, rank, pick) => handle(world.dispatches, world, rank, pick);
const combine: NonNullable<Api["on"]> = (world, rank, pick) => handle(world.combines, world, rank, pick);
const options = () => ({ signal: new AbortController().signal });

const keepDispatch = (world: World, result: unknown): unknown => {
  world.dispatches.push(result as World["dispatches"][number]);
  return result;
};

/** Everything of an instance and its rounds. */
export const jsApis: readonly Api[] = [
  plain("jsBackend.status", jsBackend.status, () => []),
  plain(
    "jsBackend.create",
    async (...args: Parameters<typeof jsBackend.create>) => (await jsBackend.create(...args)).close(),
    () => [{ ...CONFIG, epSize: 1 }, createLocalGroup(1)[0]!, { fillPadding: true, firstRound: 3 }],
    { unbounded: true },
  ),
  {
    ...method("a2a", "dispatch", instance, (_, rank) => [{ ...inputOf(rank), lane: undefined }]),
    call: (target: World["a2as"][number], [input]: [never], world) =>
      keepDispatch(world, target.dispatch(input)),
  } as Api,
  method("a2a", "reset", instance, (world) => [{ activeRanks: [...world.ranks], timeoutMs: 30 }]),
  method("a2a", "abort", instance, () => ["a reason"]),
  method("a2a", "close", instance, () => []),
  method("a2a", "empty", instance, () => ["float32", [2, HIDDEN]], { pure: true }),
  method("a2a", "write", instance, () => [tensor("float32", [2]), new Float32Array(2)], { pure: true }),
  method("a2a", "read", instance, () => [{ ...tensor("float32", [2]) }], { pure: true }),
  getter("a2a", "activeRanks", instance),
  getter("a2a", "plan", instance),
  method("dispatch", "ready", dispatch, () => [options()], arrived),
  method("dispatch", "readySync", dispatch, () => [], arrived),
  method("dispatch", "combineBuffer", dispatch, () => [HIDDEN, "float32"], arrived),
  {
    ...arrived,
    pure: false,
    ...method("dispatch", "combine", dispatch, (_, rank) => [
      { ...tensor("float32", [2, 2, HIDDEN]) },
      { out: { ...tensor("float32", [2 - rank, HIDDEN]) } },
    ]),
    call: (target: World["dispatches"][number], args: Parameters<typeof target.combine>, world) => {
      const result = target.combine(...args);
      world.combines.push(result);
      return result;
    },
  } as Api,
  { ...getter("dispatch", "recv", dispatch), ...arrived },
  { ...getter("dispatch", "recvCounts", dispatch), ...arrived },
  { ...getter("dispatch", "expertStats", dispatch), ...arrived },
  method("combine", "ready", combine, () => [options()], combined),
  method("combine", "readySync", combine, () => [], combined),
  { ...getter("combine", "output", combine), ...combined },
];
