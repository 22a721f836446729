import { MoeA2AError } from "@moe-a2a/core";

/** What the machine has, as the driver tells it. */
export interface Platform {
  /** 1000 · major + 10 · minor of the CUDA version that the driver knows; 0 without a driver. */
  readonly driverVersion: number;
  readonly runtimeVersion: number;
  readonly deviceCount: number;
  /** cudaError_t of counting the devices. */
  readonly deviceError: number;
}

/** One GPU. */
export interface NativeDevice {
  readonly name: string;
  readonly pciBusId: string;
  /** Names the GPU, or the part of it, in every process of the host: ranks with the same one share it. */
  readonly uuid: string;
  readonly computeMajor: number;
  readonly computeMinor: number;
  readonly multiprocessors: number;
  readonly totalBytes: number;
}

/** What `inspect()` found. */
export interface NativeInspection {
  readonly platform: Platform;
  /** Empty where nobody says. */
  readonly driverRelease: string;
  /** `freeBytes` is negative where no context can be made. */
  readonly devices: readonly (NativeDevice & { readonly freeBytes: number })[];
  /** By GPU and peer, row by row: 1 for access, 2 for atomics. */
  readonly peers: Uint8Array;
}

/** What `ipcAllocate()`, `ipcExport()` or `ipcOpen()` brought. */
export interface NativeIpcMemory {
  readonly address: bigint;
  /** Where the allocation that holds the address begins, and its bytes: 0 where the driver does not tell. */
  readonly base: bigint;
  readonly bytes: number;
  readonly isExportable: boolean;
  readonly handle: Uint8Array;
}

/** A rank's first failure, as the device keeps it; see `struct moe_a2a_failure`. */
export interface NativeFailure {
  readonly code: number;
  readonly foundBy: number;
  readonly phase: number;
  readonly lane: number;
  readonly round: number;
  readonly kind: number;
  readonly field: number;
  readonly missingMask: bigint;
  readonly rank: number;
  readonly token: number;
  readonly k: number;
  readonly id: number;
  readonly value: number;
  readonly limit: number;
  readonly valuesMask: bigint;
  readonly valuesPerRank: number;
  readonly values: Int32Array;
  readonly text: string;
}

/** What comes back at once for something that takes time; `listen()` tells its end. */
export type Token = number;

/** The addon's functions. Addresses, streams, events and graphs are bigints; ranks are numbers. */
export interface Native {
  readonly packageVersion: string;
  readonly interfaceVersion: number;
  listen(listener: (token: Token, error: unknown) => void): void;
  platform(): Platform;
  device(device: number): NativeDevice;
  /** Asks for all that there is to know of the GPUs; one at a time. `inspected()` tells it, once. */
  inspect(): Token;
  inspected(): NativeInspection;
  memory(device: number): { readonly freeBytes: number; readonly totalBytes: number };
  canAccessPeer(device: number, peer: number): boolean;
  /** Offsets in the order of `struct moe_a2a_layout`, lanes last. Needs no GPU. */
  plan(config: Int32Array): Float64Array;
  chooseMapping(phase: number, tokens: number, rowBytes: number, maxBlocks: number): Int32Array;
  lastError(): NativeError;

  /** Options in the order of `struct moe_a2a_rank_options`; `shareable`, the last, may be left out. */
  makeRank(config: Int32Array, options: Uint32Array, key: string): number;
  openRank(rank: number): Token;
  /**
   * Listens for ranks in other processes, where the rank is shareable and open; the others have to be told name and
   * token (32 bytes).
   */
  openShare(rank: number): { readonly name: string; readonly token: Uint8Array };
  /**
   * Gives this rank's window to all other ranks and maps theirs: names and tokens by rank, as `openShare()` returned
   * them. Where ranks do not come, `listen()` is told a {@link ShareError}.
   */
  shareWindows(rank: number, names: readonly string[], tokens: Uint8Array, timeoutMs: number): Token;
  /** Masks of the ranks in other processes that have closed, and of those that ended without; never blocks. */
  lookForPeers(rank: number): BigUint64Array;
  /** Has `shareWindows()` fail soon. */
  stopShare(rank: number): void;
  /** After `shareWindows()`: the windows of all ranks by their addresses in this process, for `connectRank()`. */
  sharedWindows(rank: number): BigUint64Array;
  /** The device of a window that `shareWindows()` mapped is {@link ELSEWHERE}. */
  connectRank(rank: number, windows: BigUint64Array, devices: Int32Array): Token;
  closeRank(rank: number, announce: boolean): Token;
  /** Window, private memory; then by lane its stream and the events of its dispatch and combine. */
  addresses(rank: number): BigUint64Array;
  bindLane(rank: number, lane: number, block: ArrayBuffer): void;
  /** Enqueues a phase with the arguments in the lane's block; negative where that failed, see `lastError()`. */
  dispatch(rank: number, lane: number): number;
  combine(rank: number, lane: number): number;
  outcome(
    rank: number,
    lane: number,
    phase: number,
    round: number,
    values: Float64Array,
  ): NativeFailure | undefined;
  hasFailed(rank: number): boolean;
  abort(rank: number, reason: string): void;
  stop(rank: number, stillSend: boolean): void;
  markGone(rank: number, peer: number, kind: number): void;
  /** After each launch of a graph: closing and draining wait for it. */
  /** Launches a graph with phases of the rank, and records `event` behind it. */
  replay(rank: number, graph: bigint, stream: bigint, times: number, event: bigint): void;
  /** The same on another thread; `stop()` ends it early. */
  replaySlowly(rank: number, graph: bigint, stream: bigint, times: number, event: bigint): Token;
  /** Whether another thread replays on this stream. */
  isLaunching(stream: bigint): boolean;
  drain(rank: number): Token;
  clean(rank: number, nextRounds: Uint32Array): void;
  raiseGeneration(rank: number, generation: number, activeMask: bigint): void;
  /** Tells ranks in a generation that this rank has failed to start it: `kind` of the `missing` ranks. */
  tellFailedReset(
    rank: number,
    kind: number,
    missing: bigint,
    generation: number,
    tell: bigint,
    nextRounds: Uint32Array,
  ): void;
  startGeneration(rank: number, generation: number, activeMask: bigint, nextRounds: Uint32Array): void;
  setDelays(rank: number, delays: Uint32Array): void;

  allocate(device: number, bytes: number): bigint;
  release(rank: number, address: bigint): void;
  heldBytes(device: number): number;
  upload(
    rank: number,
    address: bigint,
    data: Uint8Array,
    events: BigUint64Array,
    eventCount: number,
    streams: BigUint64Array,
    streamCount: number,
  ): Token;
  download(
    rank: number,
    address: bigint,
    bytes: number,
    events: BigUint64Array,
    eventCount: number,
    streams: BigUint64Array,
    streamCount: number,
  ): Token;
  collect(token: Token, target?: Uint8Array): void;
  pointerDevice(address: bigint): number;

  /** Memory for other processes, on threads of their own: after each, `ipcMemory()` is to be called once. */
  ipcAllocate(device: number, bytes: number): Token;
  ipcExport(device: number, address: bigint): Token;
  ipcOpen(device: number, handle: Uint8Array): Token;
  ipcClose(address: bigint): Token;
  ipcMemory(token: Token): NativeIpcMemory;

  createStream(device: number): bigint;
  destroyStream(device: number, stream: bigint): void;
  /** The process's stream for what waits for no peer. */
  sharedStream(device: number): bigint;
  isCapturing(device: number, stream: bigint): boolean;
  takeEvent(device: number): bigint;
  giveEvent(device: number, event: bigint): void;
  /** Events, captures and graphs of this thread that were not given back, ended or destroyed. */
  heldHandles(): number;
  recordEvent(device: number, event: bigint, stream: bigint): void;
  /** An event that keeps the time, of the process's pool; `recordEvent()` records it. */
  createTimer(device: number): bigint;
  /** Gives it back to the pool. */
  destroyTimer(device: number, event: bigint): void;
  /** How many this thread has not given back. */
  heldTimers(): number;
  /** Milliseconds between two timers that have passed. */
  elapsed(device: number, start: bigint, end: bigint): number;
  streamWait(device: number, event: bigint, stream: bigint): void;
  waitFor(device: number, event: bigint): Token;
  cancel(token: Token): void;
  /** Blocks the thread for at most so many microseconds; whether the event has passed. */
  pollEvent(device: number, event: bigint, microseconds: number): boolean;

  /** @returns what names the capture */
  beginCapture(device: number, stream: bigint): bigint;
  endCapture(device: number, stream: bigint): bigint;
  destroyGraph(device: number, graph: bigint): void;
}

/** How `shareWindows()` fails where ranks did not come. */
export interface ShareError extends Error {
  readonly missingMask: bigint;
  /** `enum moe_a2a_missing_kind`: 0 they did not come in time, 2 they were there and are gone. */
  readonly missingKind: number;
}

/** Numbers of the C header that TypeScript has to know. */
export const TEXT_BYTES = 768;
export const OUT_OF_MEMORY = -3;
export const CAPTURED_OTHERWISE = -4;
export const ELSEWHERE = -1;
/** `shareable` of a rank's options: by descriptor where the GPU allows it, by fabric handle where the machine does. */
export const SHAREABLE = { no: 0, yes: 1, fabric: 2, ipc: 3 } as const;
export const PHASES = { dispatch: 0, combine: 1 } as const;

export interface NativeError extends Error {
  readonly result?: number;
  readonly cudaError?: number;
  readonly cudaName?: string;
  readonly call?: string;
}

/** Whether a call failed because the device has too little memory. */
export function isOutOfMemory(error: unknown): boolean {
  return (error as NativeError | undefined)?.result === OUT_OF_MEMORY;
}

/** An error of the addon as a CUDA error; everything else as it is. */
export function cudaError(error: unknown, where: string): unknown {
  const { result, cudaError, cudaName, call = "", message } = (error ?? {}) as NativeError;
  if (result === undefined) return error;
  const name = cudaName || cudaError || result;
  return new MoeA2AError(
    "ERR_MOE_A2A_CUDA",
    `${where}: ${call ? `${call}() failed` : "a call of the CUDA library failed"} with ${name}: ${message}`,
    { cudaError: name, call },
    { cause: error },
  );
}

/** Runs a call of the addon. @throws ERR_MOE_A2A_CUDA */
export function guarded<R>(where: string, call: () => R): R {
  try {
    return call();
  } catch (error) {
    throw cudaError(error, where);
  }
}
