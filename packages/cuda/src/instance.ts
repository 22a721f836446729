import {
  abortedError,
  argumentError,
  type CheckedTensor,
  type CudaTensor,
  checkActiveRanks,
  checkDispatch,
  checkEmpty,
  checkStream,
  checkTensor,
  checkTensorData,
  checkTimeoutMs,
  type DispatchInput,
  type DType,
  describe,
  MoeA2AError,
  type MoeAllToAll,
  type MoeAllToAllConfig,
  missingError,
  shortReason,
  type TensorData,
  type WorkspacePlan,
} from "@moe-a2a/core";
import { checkInputsAligned } from "./alignment.js";
import { breakOffCapture, captureGraph } from "./capture.js";
import type { CudaContext } from "./context.js";
import { readTensor, writeTensor } from "./copies.js";
import type { DeviceDispatch } from "./device-phases.js";
import { CudaDispatch } from "./dispatch.js";
import type { Graph } from "./graph.js";
import type { Lane } from "./lane.js";
import { cudaError, TEXT_BYTES } from "./native.js";
import { checkInputsPlaced } from "./placement.js";
import { resetRank } from "./reset.js";
import { DeviceTensor } from "./tensors.js";

/** As much of a text as a verdict has room for, in whole characters. */
function fittingText(text: string): string {
  const { read } = new TextEncoder().encodeInto(text, new Uint8Array(TEXT_BYTES));
  return text.slice(0, read);
}

/** One rank's end of the all-to-all on a GPU. */
export class CudaMoeAllToAll implements MoeAllToAll<CudaTensor> {
  readonly config: MoeAllToAllConfig;
  readonly epRank: number;
  readonly plan: WorkspacePlan;
  /** The number of this rank's GPU. */
  readonly device: number;
  readonly #context: CudaContext;
  #turn = 0;
  #closing: Promise<void> | undefined;
  /** Tensors that copies under way use. */
  readonly #kept = new Set<CudaTensor>();

  /** @internal */
  constructor(context: CudaContext, plan: WorkspacePlan) {
    this.#context = context;
    this.config = context.config;
    this.epRank = context.rank;
    this.device = context.device.id;
    this.plan = plan;
  }

  get activeRanks(): readonly number[] {
    return this.#context.activeRanks;
  }

  /** A lane's own stream, which its dispatches and combines go to unless they name another. */
  stream(lane: 0 | 1 = 0): bigint {
    const found = this.#context.lanes[lane];
    if (found) return found.stream;
    const lanes = this.#context.lanes.length;
    throw argumentError(this.epRank, "lane", `is ${describe(lane)}; the lanes are 0…${lanes - 1}`);
  }

  /**
   * A new tensor in this GPU's memory, with whatever stood there. Dispose of it when it is no longer needed.
   *
   * @throws ERR_MOE_A2A_ARGUMENT also where the GPU has not enough memory left; ERR_MOE_A2A_STATE after `close()`
   */
  empty<D extends DType>(dtype: D, given: readonly number[]): DeviceTensor<D> {
    const context = this.#context;
    context.checkOpen("empty()");
    const { shape, bytes } = checkEmpty(this.epRank, dtype, given);
    let address = 0n;
    if (bytes > 0) {
      try {
        address = context.native.allocate(this.device, bytes);
      } catch (cause) {
        const error = cudaError(cause, `[${shape}] of ${dtype} takes ${bytes} bytes`) as Error;
        throw argumentError(this.epRank, "shape", error.message);
      }
    }
    const tensor = new DeviceTensor(context, dtype, shape, this.device, address);
    context.capture?.uses.push(tensor);
    return tensor;
  }

  /**
   * Copies `data` into `t`, after the phases that use it. `data` has to stay as it is until the promise settles.
   *
   * @param options.stream a stream whose work comes first as well, such as that of kernels that use `t`
   * @throws (rejects) ERR_MOE_A2A_ARGUMENT, ERR_MOE_A2A_STATE, ERR_MOE_A2A_CUDA
   */
  async write(t: CudaTensor, data: TensorData, options?: { readonly stream?: bigint }): Promise<void> {
    const held = this.#checkHeld("write()", t);
    checkTensorData(this.epRank, held, data);
    await this.#keep(t, () =>
      writeTensor(this.#context, held, data, checkStream(this.#context.checks, options?.stream)),
    );
  }

  /**
   * Copies `t` to the host, after the phases that use it. Between a dispatch and its combine, also after what was enqueued
   * behind the dispatch on the lane's own stream.
   *
   * @param options.stream a stream whose work comes first as well, such as that of kernels that make `t`
   * @throws (rejects) ERR_MOE_A2A_ARGUMENT, ERR_MOE_A2A_STATE, ERR_MOE_A2A_CUDA
   */
  async read(t: CudaTensor, options?: { readonly stream?: bigint }): Promise<TensorData> {
    const held = this.#checkHeld("read()", t);
    return await this.#keep(t, () =>
      readTensor(this.#context, held, checkStream(this.#context.checks, options?.stream)),
    );
  }

  dispatch(input: DispatchInput<CudaTensor>): DeviceDispatch {
    const context = this.#context;
    context.checkUsable("dispatch()");
    const kept = context.lanes[this.#turn]?.block.dispatch;
    const checked = checkDispatch<CudaTensor>(context.checks, input, kept);
    if (checked !== kept) checkInputsAligned(context.rank, checked);
    // Reading the arguments may have run code of the caller.
    context.checkUsable("dispatch()");
    const lane = this.#freeLane(checked.lane);
    if (checked !== kept) checkInputsPlaced(context, lane, checked);
    const { capture, native } = context;
    const stream = checked.stream ?? capture?.stream ?? lane.stream;
    lane.block.setDispatch(checked, { stream, capture: capture?.id ?? 0n });
    const timer = context.timePhase(stream);
    if (native.dispatch(context.id, lane.index) < 0) {
      timer?.cancel();
      throw context.launchError("dispatch()", stream, native.lastError());
    }
    const time = timer?.end();
    const round = lane.nextRound;
    const offsets = lane.block.recvOffsets(checked.payloads.length);
    const dispatch = new CudaDispatch({ context, lane, round, checked, stream, offsets, capture, time });
    lane.current = dispatch;
    lane.nextRound = round + 1;
    this.#turn = (lane.index + 1) % context.lanes.length;
    if (capture) {
      capture.rounds.push({ lane, combined: false });
      const { tokenSelectedExperts, payloads, expertStats, numLocalTokens } = input;
      capture.uses.push(tokenSelectedExperts, ...payloads, expertStats, numLocalTokens);
    } else lane.noteDispatch(checked, round, stream);
    return dispatch;
  }

  /**
   * Runs `fn` and times the phases that it enqueues before it returns, by the GPU's own clock: `deviceTime()` of each tells.
   * That takes some microseconds per phase; phases of a graph are not timed.
   *
   * @returns what `fn` returns
   * @throws ERR_MOE_A2A_ARGUMENT; what `fn` throws
   */
  timed<R>(fn: () => R): R {
    if (typeof fn !== "function")
      throw argumentError(this.epRank, "fn", `is ${describe(fn)}, not a function`);
    return this.#context.timed(fn);
  }

  /**
   * Captures the rounds that `fn` enqueues, with whatever else it enqueues on the stream that it is given. Nothing runs;
   * `replay()` runs it. Fixed by the capture: lanes, m, row sizes and pointers. Each dispatch has to be combined in it.
   *
   * @param fn enqueues; may return a promise. It must not await a round, read or write.
   * @param options.stream default the own stream of lane 0
   * @throws (rejects) ERR_MOE_A2A_STATE in the middle of a round, during another capture, and where a dispatch was not
   * combined; what `fn` throws; ERR_MOE_A2A_CUDA
   */
  async capture(fn: (stream: bigint) => unknown, options?: { readonly stream?: bigint }): Promise<Graph> {
    const context = this.#context;
    if (typeof fn !== "function")
      throw argumentError(this.epRank, "fn", `is ${describe(fn)}, not a function`);
    const stream = context.actual(checkStream(context.checks, options?.stream) ?? this.stream());
    context.checkUsable("capture()");
    context.checkNotCapturing("capture()");
    context.checkFree("capture()");
    const turn = this.#turn;
    try {
      return await captureGraph(context, fn, stream);
    } finally {
      this.#turn = turn;
    }
  }

  async reset(options?: {
    readonly activeRanks?: readonly number[];
    readonly timeoutMs?: number;
  }): Promise<void> {
    const context = this.#context;
    const ranks = checkActiveRanks(context.checks, options?.activeRanks ?? context.activeRanks);
    const timeoutMs = checkTimeoutMs(options?.timeoutMs, "timeoutMs", context.config.timeoutMs, context.rank);
    context.checkResettable();
    context.checkNotCapturing("reset()");
    context.peers.meetings.checkPresent(ranks);
    context.state = "resetting";
    context.giveUpRounds(context.givenUpError("reset"));
    try {
      await this.#endTasks("reset()");
      context.checkOpen("reset()");
      await resetRank(context, ranks, timeoutMs);
      this.#turn = 0;
    } catch (error) {
      if (context.isClosed()) throw context.stateError("reset()", "closed", "close() was called meanwhile");
      // Rounds were given up, perhaps here alone: only another reset leads on.
      if (error instanceof MoeA2AError) context.failure ??= { error, told: true };
      if (context.failure) context.failure.told = true;
      throw error;
    } finally {
      if (!context.isClosed()) context.state = "open";
    }
  }

  abort(reason?: unknown): void {
    const context = this.#context;
    context.checkAbortable();
    const error = abortedError(context.rank, reason);
    context.call("abort()", (native, id) => native.abort(id, fittingText(shortReason(reason))));
    context.failure ??= { error, told: true };
    context.failure.told = true;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    const context = this.#context;
    context.state = "closed";
    context.giveUpRounds(context.givenUpError("closed"));
    const gone = missingError({
      phase: "reset",
      round: 0,
      missingRanks: [context.rank],
      kind: "closed",
      timeoutMs: context.config.timeoutMs,
      rank: context.rank,
      where: "reset",
    });
    context.peers.meetings.giveUp(gone);
    context.peers.announceClose();
    breakOffCapture(context);
    await this.#endTasks("close()");
    try {
      await context.occupy("close()", (native, id) => native.closeRank(id, true));
    } finally {
      for (const lane of context.lanes) lane.events.forgetReplays();
      context.replayEvents.close();
    }
  }

  /** Waits for what other threads do for this rank. */
  async #endTasks(call: string): Promise<void> {
    const context = this.#context;
    await context.unoccupied();
    if (!context.enqueuing) return;
    // Replays that wait for peers would keep others from being enqueued.
    context.call(call, (native, id) => native.stop(id, true));
    await context.enqueuing;
  }

  #checkHeld(call: string, t: CudaTensor): CheckedTensor<CudaTensor> {
    this.#context.checkOpen(call);
    this.#context.checkNotCapturing(call);
    const shape = Array.isArray(t?.shape) ? t.shape : [];
    return checkTensor<CudaTensor>(this.#context.checks, "t", t, { shape, dims: "any" });
  }

  /** Keeps a tensor from the garbage collector while it is copied. */
  async #keep<R>(t: CudaTensor, copy: () => Promise<R>): Promise<R> {
    this.#kept.add(t);
    try {
      return await copy();
    } finally {
      this.#kept.delete(t);
    }
  }

  /** @throws STATE where no lane is free, or not the one asked for */
  #freeLane(asked: 0 | 1 | undefined): Lane {
    const context = this.#context;
    const lane = context.lanes[asked ?? this.#turn] as Lane;
    const problem =
      context.enqueuing !== undefined
        ? "replays are still being enqueued; await their ready() first"
        : lane.current?.unfinished;
    if (problem !== undefined) {
      throw context.busyError(lane.index, lane.nextRound - 1, problem, context.lanes.length);
    }
    return lane;
  }
}
