import {
  abortedError,
  argumentError,
  byteLengthOf,
  type CpuTensor,
  checkActiveRanks,
  checkDispatch,
  checkEmpty,
  checkTensor,
  checkTensorData,
  checkTimeoutMs,
  type Dispatch,
  type DispatchInput,
  type DType,
  MoeA2AError,
  type MoeAllToAll,
  type MoeAllToAllConfig,
  missingError,
  type TensorData,
  type WorkspacePlan,
} from "@moe-a2a/core";
import type { RankContext } from "./context.js";
import { DispatchPhase, JsDispatch } from "./dispatch.js";
import type { Lane } from "./lane.js";
import { resetRank } from "./reset.js";
import { route } from "./routing.js";
import { tensorAt } from "./tensors.js";

/** One rank's end of the all-to-all on the CPU. */
export class JsMoeAllToAll implements MoeAllToAll<CpuTensor> {
  readonly config: MoeAllToAllConfig;
  readonly epRank: number;
  readonly plan: WorkspacePlan;
  readonly #context: RankContext;
  #turn = 0;

  constructor(context: RankContext, plan: WorkspacePlan) {
    this.#context = context;
    this.config = context.config;
    this.epRank = context.rank;
    this.plan = plan;
  }

  get activeRanks(): readonly number[] {
    return this.#context.shownRanks;
  }

  empty<D extends DType>(dtype: D, given: readonly number[]): CpuTensor {
    this.#context.checkOpen("empty()");
    const { shape, bytes } = checkEmpty(this.epRank, dtype, given);
    try {
      return tensorAt(this.#context.group.allocate(bytes), 0, dtype, shape);
    } catch (cause) {
      throw argumentError(
        this.epRank,
        "shape",
        `[${shape}] of ${dtype} takes ${bytes} bytes: ${(cause as Error).message}`,
      );
    }
  }

  async write(t: CpuTensor, data: TensorData): Promise<void> {
    this.#context.checkOpen("write()");
    const held = checkTensor<CpuTensor>(this.#context.checks, "t", t, {});
    const source = checkTensorData(this.epRank, held, data);
    if (source.length > 0) (held.data as Uint8Array).set(source as Uint8Array);
  }

  async read(t: CpuTensor): Promise<TensorData> {
    this.#context.checkOpen("read()");
    const { dtype, shape, data } = checkTensor<CpuTensor>(this.#context.checks, "t", t, {});
    // Always private memory, also where the tensor lies in shared memory.
    const copy = tensorAt(new ArrayBuffer(byteLengthOf(dtype, shape)), 0, dtype, shape).data as Uint8Array;
    if (copy.length > 0) copy.set(data as Uint8Array);
    return copy;
  }

  dispatch(input: DispatchInput<CpuTensor>): Dispatch<CpuTensor> {
    const context = this.#context;
    context.checkUsable("dispatch()");
    const checked = checkDispatch<CpuTensor>(context.checks, input, context.keptDispatch);
    // Reading the arguments may have run code of the caller.
    context.checkUsable("dispatch()");
    const lane = this.#freeLane(checked.lane);
    const ids = checked.tokenSelectedExperts.data as Int32Array;
    const dropped = route(lane, context, ids, checked.numLocalTokens);

    context.keptDispatch = checked;
    const round = lane.nextRound;
    const phase = new DispatchPhase(context, lane, round, checked, dropped);
    const dispatch = new JsDispatch(phase);
    lane.current = dispatch;
    lane.nextRound = round + 1;
    this.#turn = (lane.index + 1) % context.lanes.length;
    if (!phase.wait.hasFailed()) context.wire.sendDispatch(lane, phase);
    return dispatch;
  }

  async reset(options?: {
    readonly activeRanks?: readonly number[];
    readonly timeoutMs?: number;
  }): Promise<void> {
    const context = this.#context;
    const ranks = checkActiveRanks(context.checks, options?.activeRanks ?? context.activeRanks);
    const timeoutMs = checkTimeoutMs(options?.timeoutMs, "timeoutMs", context.config.timeoutMs, context.rank);
    context.checkResettable();
    context.meetings.checkPresent(ranks);
    context.state = "resetting";
    context.resets++;
    context.giveUpRounds(context.givenUpError("reset"));
    try {
      await resetRank(context, ranks, timeoutMs);
      this.#turn = 0;
    } catch (error) {
      if (context.isClosed()) throw context.stateError("reset()", "closed", "close() was called meanwhile");
      // Rounds were given up, perhaps here alone: only another reset leads on.
      if (error instanceof MoeA2AError) context.fail(error, { told: true, tellPeers: false });
      throw error;
    } finally {
      if (!context.isClosed()) context.state = "open";
    }
  }

  abort(reason?: unknown): void {
    const context = this.#context;
    context.checkAbortable();
    context.fail(abortedError(context.rank, reason), { told: true, tellPeers: true });
  }

  async close(): Promise<void> {
    const context = this.#context;
    if (context.state === "closed") return;
    context.state = "closed";
    context.wire.tellClose();
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
    context.meetings.giveUp(gone);
    context.group.gatherings.announceDeparture();
    context.wire.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** @throws STATE where no lane is free, or not the one asked for */
  #freeLane(asked: 0 | 1 | undefined): Lane {
    const context = this.#context;
    const lane = context.lanes[asked ?? this.#turn] as Lane;
    const problem = lane.current?.unfinished;
    if (problem !== undefined) {
      throw context.busyError(lane.index, lane.nextRound - 1, problem, context.lanes.length);
    }
    return lane;
  }
}
