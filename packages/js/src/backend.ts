import { constants } from "node:buffer";
import { availableParallelism } from "node:os";
import {
  accumulatorBytes,
  argumentError,
  type Backend,
  type BackendStatus,
  CONFIG_FIELDS,
  type CpuTensor,
  type CreateOptions,
  checkConfig,
  configError,
  describe,
  FLAG_STRIDE,
  type Group,
  largestCapacity,
  layoutWorkspace,
  MoeA2AError,
  type MoeAllToAll,
  type MoeAllToAllConfig,
  memoryGroupOf,
  planWorkspace,
  type ResolvedConfig,
  type WorkspaceLayout,
} from "@moe-a2a/core";
import { RankContext } from "./context.js";
import { JsMoeAllToAll } from "./instance.js";
import { Window } from "./memory.js";
import { wireRound } from "./round-number.js";

/** Options of the CPU backend. */
export interface JsCreateOptions extends CreateOptions {
  /** Number of the first round, equal on all ranks: lets tests see round numbers wrap. Default 0. */
  readonly firstRound?: number;
}

/** Leaves room to count on: beyond 2^53 a round number would not change any more. */
const MAX_FIRST_ROUND = 2 ** 48;

/** What ranks tell one another at create. */
interface Introduction {
  readonly config: ResolvedConfig;
  readonly firstRound: number;
  readonly memory: ArrayBufferLike;
}

function status(): BackendStatus {
  return {
    available: true,
    devices: [{ type: "cpu", id: 0, name: `CPU (${availableParallelism()} threads)` }],
  };
}

/** @throws ERR_MOE_A2A_CONFIG where a part of the plan is more than one typed array can address */
function checkAddressable(config: ResolvedConfig, layout: WorkspaceLayout, rank: number): void {
  const limit = constants.MAX_LENGTH;
  const largestPart = (plan: { readonly windowBytes: number; readonly privateBytes: number }) =>
    Math.max(plan.windowBytes, plan.privateBytes);
  const bytes = largestPart(layout);
  if (bytes <= limit) return;
  const largest = largestCapacity(config, limit, largestPart);
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

/** @throws ERR_MOE_A2A_CONFIG where ranks were created with different configs */
function checkSame(introductions: readonly Introduction[], rank: number): void {
  const read = [
    ...CONFIG_FIELDS.map((field) => [field, "config", (i: Introduction) => i.config[field]] as const),
    ["firstRound", "options", (i: Introduction) => i.firstRound] as const,
  ];
  for (const [field, holder, of] of read) {
    const values = introductions.map(of);
    if (values.every((value) => value === values[0])) continue;
    const list = values.map((value, r) => `rank ${r}: ${describe(value)}`).join(", ");
    throw new MoeA2AError(
      "ERR_MOE_A2A_CONFIG",
      `ranks were created with different configs: ${holder}.${field} differs (${list}); it has to be equal on all ranks`,
      { field, value: values[rank] },
    );
  }
}

async function create(
  given: MoeAllToAllConfig,
  group: Group,
  options: JsCreateOptions = {},
): Promise<MoeAllToAll<CpuTensor>> {
  const config = checkConfig(given, group?.rank);
  const memoryGroup = typeof group === "object" && group !== null ? memoryGroupOf(group) : undefined;
  if (!memoryGroup) {
    throw new MoeA2AError(
      "ERR_MOE_A2A_ARGUMENT",
      `create(): the group is ${describe(group)}; the js backend takes one of createLocalGroup() or joinThreadGroup()`,
      { argument: "group" },
    );
  }
  if (group.size !== config.epSize) {
    throw configError(
      "epSize",
      config.epSize,
      `the group has ${group.size} ranks, and epSize must be that number`,
      group.rank,
    );
  }
  const firstRound = options.firstRound ?? 0;
  if (!Number.isInteger(firstRound) || firstRound < 0 || firstRound > MAX_FIRST_ROUND) {
    throw argumentError(
      group.rank,
      "options.firstRound",
      `is ${describe(firstRound)}; it must be an integer from 0 to ${MAX_FIRST_ROUND}`,
    );
  }
  const layout = layoutWorkspace(config);
  checkAddressable(config, layout, group.rank);
  const memory = allocate(config, group.rank, layout.windowBytes, (bytes) => memoryGroup.allocate(bytes));
  const privateMemory = allocate(config, group.rank, layout.privateBytes, (bytes) => new ArrayBuffer(bytes));
  initialiseFlags(memory, config, firstRound);

  let instance = memoryGroup.nextInstance();
  const ranks = Array.from({ length: config.epSize }, (_, r) => r);
  // Where others have given up on a creation that this rank missed, it meets them at their next one.
  while (memoryGroup.gatherings.failure(`create:${instance}`, ranks)) instance = memoryGroup.nextInstance();
  const introductions = await memoryGroup.gatherings.gather<Introduction>(
    `create:${instance}`,
    { config, firstRound, memory },
    { timeoutMs: config.timeoutMs, phase: "create", where: "create" },
  );
  checkSame(introductions, group.rank);
  const context = new RankContext({
    config,
    layout,
    rank: group.rank,
    group: memoryGroup,
    instance,
    windows: introductions.map((introduction) => new Window(introduction.memory)),
    privateMemory,
    accumulatorBytes: accumulatorBytes(config),
    firstRound,
    fillPadding: options.fillPadding === true,
  });
  return new JsMoeAllToAll(context, planWorkspace(config));
}

/** Before peers know the window, its flags say that nobody has reached the first round. */
function initialiseFlags(memory: ArrayBufferLike, config: ResolvedConfig, firstRound: number): void {
  const words = new Int32Array(memory);
  const { lanes } = layoutWorkspace(config);
  for (const lane of lanes) {
    for (const region of [lane.dispatchFlags, lane.combineFlags]) {
      const end = region + FLAG_STRIDE * config.epSize;
      for (let at = region; at < end; at += FLAG_STRIDE) words[at / 4] = wireRound(firstRound - 1);
    }
  }
}

/** The CPU backend: ranks of a local group on one thread, or of a thread group on worker threads. */
export const jsBackend: Backend<CpuTensor> & {
  create(config: MoeAllToAllConfig, group: Group, options?: JsCreateOptions): Promise<MoeAllToAll<CpuTensor>>;
} = { name: "js", status, create };
