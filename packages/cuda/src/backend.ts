import { randomUUID } from "node:crypto";
import {
  argumentError,
  type Backend,
  type CreateOptions,
  type CudaTensor,
  checkConfig,
  checkFirstRound,
  checkGroup,
  configError,
  describe,
  type Group,
  largestCapacity,
  layoutWorkspace,
  MoeA2AError,
  type MoeAllToAllConfig,
  planWorkspace,
  type ResolvedConfig,
} from "@moe-a2a/core";
import { CudaContext } from "./context.js";
import { hostName } from "./host-name.js";
import { CudaMoeAllToAll } from "./instance.js";
import type { Mapping } from "./lane-block.js";
import { cudaError, isOutOfMemory, SHAREABLE } from "./native.js";
import { Peers } from "./peers.js";
import { cudaRuntime, type Runtime } from "./runtime.js";
import { status } from "./status.js";
import { checkDevice } from "./streams.js";
import { checkOneHost, exchangeWindows } from "./windows.js";

/** Nanoseconds that kernels wait at points of a phase, as [dispatch, combine]; for tests. */
export interface Delays {
  readonly beforeStores?: readonly [number, number];
  readonly beforeFlag?: readonly [number, number];
  readonly afterFlag?: readonly [number, number];
  readonly afterWait?: readonly [number, number];
}

/** `enum moe_a2a_wire_form`. */
const WIRE_FORMS = { chosen: 0, rows: 1, pushedRows: 2 } as const;

/** Options of the CUDA backend. */
export interface CudaCreateOptions extends CreateOptions {
  /** The GPU, as numbered in `status().devices`. Default: rank modulo their number. */
  readonly device?: number;
  /** Most multiprocessors that a phase takes. Default all. */
  readonly maxSms?: number;
  /** Number of the first round, equal on all ranks: lets tests see round numbers wrap. Default 0. */
  readonly firstRound?: number;
  /**
   * @internal How rows go over the wire, equal on all ranks: `rows` never in packets, and results pulled; `pushedRows` the
   * same, with results pushed wherever there is room.
   */
  readonly wireForm?: keyof typeof WIRE_FORMS;
  /** @internal How work is cut. */
  readonly mapping?: Mapping;
  /** @internal Shows that no order of events is relied upon. */
  readonly delays?: Delays;
}

/** The numbers of a config, in the order of `struct moe_a2a_config`. */
export function configWords(config: ResolvedConfig): Int32Array {
  return Int32Array.of(
    config.epSize,
    config.numExperts,
    config.topK,
    config.maxTokensPerRank,
    config.maxDispatchBytesPerToken,
    config.maxCombineBytesPerToken,
    config.maxExpertStats,
    config.invalidExpert === "drop" ? 1 : 0,
    config.timeoutMs,
    config.roundsInFlight,
  );
}

/** A CONFIG error that names the largest capacity that fits. */
function tooLarge(
  config: ResolvedConfig,
  rank: number,
  device: number,
  bytes: number,
  what: string,
): MoeA2AError {
  const { totalBytes } = planWorkspace(config);
  const largest = largestCapacity(config, bytes);
  const cure = largest > 0 ? "" : ", so lower the byte limits";
  const problem =
    `the workspace takes ${totalBytes} bytes, and GPU ${device} has ${bytes} ${what}; ` +
    `the largest value that fits is ${largest}${cure}`;
  return configError("maxTokensPerRank", config.maxTokensPerRank, problem, rank);
}

function checkMaxSms(rank: number, given: unknown): number {
  if (given === undefined) return 0;
  if (Number.isInteger(given) && (given as number) >= 1 && (given as number) < 2 ** 31)
    return given as number;
  throw argumentError(rank, "options.maxSms", `is ${describe(given)}; it must be an integer >= 1`);
}

/** Memory, kernels and streams of a rank. @throws (rejects) ERR_MOE_A2A_CONFIG where there is too little memory */
async function openRank(
  { native, tokens }: Runtime,
  config: ResolvedConfig,
  rank: number,
  device: number,
  id: number,
): Promise<bigint> {
  try {
    await tokens.end(native.openRank(id));
    return native.addresses(id)[0]!;
  } catch (error) {
    if (!isOutOfMemory(error)) throw cudaError(error, `rank ${rank}: create()`);
    throw tooLarge(config, rank, device, native.memory(device).freeBytes, "free");
  }
}

/** The least of the limits that are set; 0 where none is. */
function fewestOf(limits: readonly number[]): number {
  const set = limits.filter((limit) => limit > 0);
  return set.length > 0 ? Math.min(...set) : 0;
}

function setDelays(
  { native }: Runtime,
  id: number,
  { beforeStores, beforeFlag, afterFlag, afterWait }: Delays,
): void {
  const all = [beforeStores, beforeFlag, afterFlag, afterWait].flatMap((pair) => pair ?? [0, 0]);
  native.setDelays(id, Uint32Array.from(all));
}

async function create(
  given: MoeAllToAllConfig,
  group: Group,
  givenOptions?: CudaCreateOptions,
): Promise<CudaMoeAllToAll> {
  const options = givenOptions ?? {};
  const config = checkConfig(given, group?.rank);
  const internals = checkGroup("cuda", group, config);
  const { rank } = group;
  const firstRound = checkFirstRound(rank, options.firstRound);
  const maxSms = checkMaxSms(rank, options.maxSms);
  const runtime = cudaRuntime();
  const { native, tokens } = runtime;
  const { deviceCount } = native.platform();
  const device =
    options.device === undefined
      ? rank % deviceCount
      : checkDevice(`rank ${rank}: options.device`, "options.device", options.device);
  const { totalBytes, uuid } = native.device(device);
  if (planWorkspace(config).totalBytes > totalBytes)
    throw tooLarge(config, rank, device, totalBytes, "in all");

  const mine = { config, firstRound, device, gpu: uuid, host: hostName(), key: randomUUID(), maxSms };
  const peers = await Peers.meet(internals, rank, mine);
  checkOneHost(peers);
  const sharing = peers.introductions.filter(({ gpu }) => gpu === uuid).length;
  const shareable = peers.areElsewhere ? SHAREABLE.yes : SHAREABLE.no;
  const padding = options.fillPadding === true ? 1 : 0;
  const wireForm = WIRE_FORMS[options.wireForm ?? "chosen"];
  const fewestSms = fewestOf(peers.introductions.map((introduction) => introduction.maxSms));
  const place = [rank, device, firstRound >>> 0];
  const rankOptions = [...place, maxSms, padding, sharing, shareable, wireForm, fewestSms];
  const key = peers.introductions[0]!.key;
  const id = native.makeRank(configWords(config), Uint32Array.from(rankOptions), key);
  try {
    const window = await openRank(runtime, config, rank, device, id);
    const windows = await exchangeWindows(runtime, id, peers, window, config.timeoutMs);
    await tokens.end(native.connectRank(id, windows.addresses, windows.devices));
    if (options.delays) setDelays(runtime, id, options.delays);
    const layout = layoutWorkspace(config);
    const context = new CudaContext({ native, tokens, id, config, layout, rank, device, peers, firstRound });
    for (const { block } of context.lanes) block.setMapping(options.mapping ?? {});
    abandoned.register(context, { runtime, id });
    return new CudaMoeAllToAll(context, planWorkspace(config));
  } catch (error) {
    const told = cudaError(error, `rank ${rank}: create()`);
    if (told instanceof MoeA2AError) peers.giveUpWindows(told);
    peers.announceClose();
    await tokens.end(native.closeRank(id, false)).catch(() => {});
    throw told;
  }
}

/** Frees what instances held that were let go without `close()`; their peers are not told. */
const abandoned = new FinalizationRegistry<{ readonly runtime: Runtime; readonly id: number }>(
  ({ runtime: { native, tokens }, id }) => {
    try {
      tokens.end(native.closeRank(id, false)).catch(() => {});
    } catch {
      // It was closed.
    }
  },
);

/** What `cudaBackend` is: a backend whose ranks have a GPU each, or share one. */
export interface CudaBackend extends Backend<CudaTensor> {
  readonly name: "cuda";
  /**
   * Makes this rank's instance on a GPU: a collective over a local group, a thread group or a process group of one host.
   *
   * @throws (rejects) as in the interface; ERR_MOE_A2A_CONFIG also where the GPU has too little memory, naming the largest
   * `maxTokensPerRank` that fits; ERR_MOE_A2A_ARGUMENT for an option; ERR_MOE_A2A_CUDA
   */
  create(config: MoeAllToAllConfig, group: Group, options?: CudaCreateOptions): Promise<CudaMoeAllToAll>;
}

/** The CUDA backend: ranks of a local group, of a thread group or in processes, each on a GPU of this machine. */
export const cudaBackend: CudaBackend = { name: "cuda", status, create };
