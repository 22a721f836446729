import * as core from "@moe-a2a/core";
import { type Api, method, plain } from "./api.js";
import { PLACE, SECRET } from "./words.js";
import { CONFIG } from "./world.js";

const group: NonNullable<Api["on"]> = (world, rank) => world.groups[rank];
const tickets = () => core.createThreadGroup(2);
let unique = 0;

/** Takes what was checked before: a list of 2^32 holes is gone through to the end, or made a text of. */
const helper = { never: ["longSparse"] };

/** Everything of core that users call. */
export const coreApis: readonly Api[] = [
  plain("checkConfig", core.checkConfig, () => [{ ...CONFIG }, 0]),
  plain("planWorkspace", core.planWorkspace, () => [{ ...CONFIG }, { sharedMemory: true }]),
  plain(
    "formatWorkspacePlan",
    core.formatWorkspacePlan,
    () => [
      { ...core.planWorkspace(CONFIG), regions: core.planWorkspace(CONFIG).regions.map((r) => ({ ...r })) },
    ],
    helper,
  ),
  plain("largestCapacity", core.largestCapacity, () => [{ ...CONFIG }, 1e6]),
  plain("expertRange", core.expertRange, () => [{ epSize: 2, numExperts: 5 }, 1]),
  plain("expertOwner", core.expertOwner, () => [{ epSize: 2, numExperts: 5 }, 1], helper),
  plain("tensor", core.tensor, () => ["float32", [2, 2], new Float32Array(4)]),
  plain("tensor(numbers)", core.tensor, () => ["int32", [3], [1, 2, 3]]),
  plain("tensor(bigints)", core.tensor, () => ["int64", [2], [1n, 2n]]),
  plain("tensor(zeros)", core.tensor, () => ["bfloat16", [2, 2]]),
  plain("numElements", core.numElements, () => [[2, 3]], helper),
  plain("byteLengthOf", core.byteLengthOf, () => ["float32", [2, 3]], helper),
  plain("shapeProblem", core.shapeProblem, () => [[2, 3]]),
  plain("describe", core.describe, () => [{}]),
  plain("isTypedArray", core.isTypedArray, () => [new Float32Array(1), "Float32Array"]),
  plain("isDType", core.isDType, () => ["float32"]),
  plain("bytesPerElement", core.bytesPerElement, () => ["float32"], helper),
  plain("typedArrayOf", core.typedArrayOf, () => ["float32"], helper),
  plain("toFloat32", core.toFloat32, () => ["float16", new Uint16Array(2), new Float32Array(2)], helper),
  plain("fromFloat32", core.fromFloat32, () => ["bfloat16", new Float32Array(2), new Uint16Array(2)], helper),
  plain("fromFloat32(float32)", core.fromFloat32, () => ["float32", new Float32Array(2)], helper),
  plain("float32ToBfloat16", core.float32ToBfloat16, () => [1.5], helper),
  plain("float32ToFloat16", core.float32ToFloat16, () => [1.5], helper),
  plain("bfloat16ToFloat32", core.bfloat16ToFloat32, () => [1], helper),
  plain("float16ToFloat32", core.float16ToFloat32, () => [1], helper),
  plain("isMoeA2AError", core.isMoeA2AError, () => [new Error("x"), "ERR_MOE_A2A_STATE"]),
  plain(
    "new MoeA2AError",
    (...args: ConstructorParameters<typeof core.MoeA2AError>) => String(new core.MoeA2AError(...args)),
    () => ["ERR_MOE_A2A_STATE", "text", { state: "closed" }, { cause: 1 }],
    helper,
  ),
  plain("createLocalGroup", core.createLocalGroup, () => [2]),
  plain("createThreadGroup", core.createThreadGroup, () => [2]),
  plain(
    "joinThreadGroup",
    async (ticket: core.ThreadTicket) => core.joinThreadGroup(ticket).close(),
    () => [{ ...tickets()[0]! }],
  ),
  plain(
    "joinProcessGroup",
    async (options: core.ProcessGroupOptions) => (await core.joinProcessGroup(options)).close(),
    () => [
      {
        rank: 0,
        size: 1,
        address: `unix:/tmp/${PLACE}${process.pid}-${unique++}`,
        secret: SECRET,
        timeoutMs: 5,
      },
    ],
    { unbounded: true },
  ),
  method("group", "exchange", group, () => ["key", Uint8Array.of(1), { timeoutMs: 5 }], { unbounded: true }),
  method("group", "close", group, () => []),
];
