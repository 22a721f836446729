import { constants } from "node:buffer";
import { availableParallelism } from "node:os";
import {
  accumulatorBytes,
  type Backend,
  type BackendStatus,
  type CpuTensor,
  type CreateOptions,
  checkConfig,
  checkFirstRound,
  checkGroup,
  configError,
  FLAG_STRIDE,
  type Group,
  type Introduction,
  introduce,
  largestCapacity,
  layoutWorkspace,
  type MoeAllToAll,
  type MoeAllToAllConfig,
  planWorkspace,
  type ResolvedConfig,
  type WorkspaceLayout,
  type WorkspaceOptions,
} from "@moe-a2a/core";
import { RankContext } from "./context.js";
import { JsMoeAllToAll } from "./instance.js";
import { Window } from "./memory.js";
import { wireRound } from "./round-number.js";
import { MemoryWire } from "./wire/memory-wire.js";
import { SocketWire } from "./wire/socket-wire.js";

/** Options of the CPU backend. */
export interface JsCreateOptions extends CreateOptions {
  /** Number of the first round, equal on all ranks: lets tests see round numbers wrap. Default 0. */
  readonly firstRound?: number;
}

/** What ranks tell one another at create. */
interface MemoryIntroduction extends Introduction {
  /** Its window, where ranks share memory. */
  readonly memory: ArrayBufferLike | undefined;
}

function status(): BackendStatus {
  return {
    available: true,
    devices: [{ type: "cpu", id: 0, name: `CPU (${availableParallelism()} threads)` }],
  };
}

/** @throws ERR_MOE_A2A_CONFIG where a part of the plan is more than one typed array can address */
function checkAddressable(
  config: ResolvedConfig,
  layout: WorkspaceLayout,
  workspace: WorkspaceOptions,
  rank: number,
): void {
  const limit = constants.MAX_LENGTH;
  const largestPart = (plan: { readonly windowBytes: number; readonly privateBytes: number }) =>
    Math.max(plan.windowBytes, plan.privateBytes);
  const bytes = largestPart(layout);
  if (bytes <= limit) return;
  const largest = largestCapacity(config, limit, largestPart, workspace);
  const cure =
    largest > 0
      ? `the largest value that fits is ${largest}`
      : "the largest value that fits is 0, so lower the byte limits";
  const problem = `the workspace would take ${bytes} bytes in one piece, but this runtime addresses ${limit}; ${cure}`;
  throw configError("maxTokensPerRank", config.maxTokensPerRank, problem, rank);
}

/** @throws ERR_MOE_A2A_CONFIG where the memory is not to be had */
function allocate(
  config: ResolvedConfig,
  rank: number,
  bytes: number,
  make: (bytes: number) => ArrayBufferLike,
): ArrayBufferLike {
  try {
    return make(bytes);
  } catch (cause) {
    const problem = `${bytes} bytes cannot be allocated (${(cause as Error).message}); planWorkspace() tells what a config takes`;
    throw configError("maxTokensPerRank", config.maxTokensPerRank, problem, rank);
  }
}

async function create(
  given: MoeAllToAllConfig,
  group: Group,
  givenOptions?: JsCreateOptions,
): Promise<MoeAllToAll<CpuTensor>> {
  const options = givenOptions ?? {};
  const config = checkConfig(given, group?.rank);
  const internals = checkGroup("js", group, config);
  const workspace = { sharedMemory: internals.kind !== "processes" };
  const firstRound = checkFirstRound(group.rank, options.firstRound);
  const layout = layoutWorkspace(config, workspace);
  checkAddressable(config, layout, workspace, group.rank);
  const memory = allocate(config, group.rank, layout.windowBytes, (bytes) => internals.allocate(bytes));
  const privateMemory = allocate(config, group.rank, layout.privateBytes, (bytes) => new ArrayBuffer(bytes));
  initialiseFlags(memory, layout, config.epSize, firstRound);

  const shared = workspace.sharedMemory ? memory : undefined;
  const mine: MemoryIntroduction = { config, firstRound, memory: shared };
  const { instance, introductions, channel } = await introduce(internals, group.rank, mine);
  const context = new RankContext({
    config,
    layout,
    rank: group.rank,
    group: internals,
    instance,
    own: new Window(memory),
    connect: (context) =>
      channel
        ? new SocketWire(context, channel)
        : new MemoryWire(
            context,
            introductions.map((introduction) => new Window(introduction.memory!)),
          ),
    privateMemory,
    accumulatorBytes: accumulatorBytes(config),
    firstRound,
    fillPadding: options.fillPadding === true,
  });
  context.wire.open();
  return new JsMoeAllToAll(context, planWorkspace(config, workspace));
}

/** Before peers know the window, its flags say that nobody has reached the first round. */
function initialiseFlags(
  memory: ArrayBufferLike,
  { lanes }: WorkspaceLayout,
  ranks: number,
  firstRound: number,
): void {
  const words = new Int32Array(memory);
  for (const lane of lanes) {
    for (const region of [lane.dispatchFlags, lane.combineFlags]) {
      const end = region + FLAG_STRIDE * ranks;
      for (let at = region; at < end; at += FLAG_STRIDE) words[at / 4] = wireRound(firstRound - 1);
    }
  }
}

/**
 * The CPU backend: ranks of a local group on one thread, of a thread group on worker threads, or of a process group, which
 * share no memory and send messages.
 */
export const jsBackend: Backend<CpuTensor> & {
  create(config: MoeAllToAllConfig, group: Group, options?: JsCreateOptions): Promise<MoeAllToAll<CpuTensor>>;
} = { name: "js", status, create };
