import {
  argumentError,
  byteLengthOf,
  type CpuTensor,
  checkDispatch,
  checkTensor,
  checkTimeoutMs,
  type Dispatch,
  type DispatchInput,
  type DType,
  describe,
  isDType,
  MoeA2AError,
  type MoeAllToAll,
  type MoeAllToAllConfig,
  missingError,
  shapeProblem,
  type TensorData,
  type WorkspacePlan,
} from "@moe-a2a/core";
import { abortMessage, reasonText } from "./abort-record.js";
import type { RankContext } from "./context.js";
import { JsDispatch } from "./dispatch.js";
import type { Lane } from "./lane.js";
import type { Window } from "./memory.js";
import { payloadOffsets } from "./payload-layout.js";
import { checkActiveRanks, resetRank } from "./reset.js";
import { route } from "./routing.js";
import { sendDispatch } from "./send.js";
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
    return this.#context.activeRanks;
  }

  empty<D extends DType>(dtype: D, shape: readonly number[]): CpuTensor {
    this.#checkOpen("empty()");
    if (!isDType(dtype)) throw argumentError(this.epRank, "dtype", `${describe(dtype)} is not a dtype`);
    const problem = shapeProblem(shape);
    if (problem) throw argumentError(this.epRank, "shape", problem);
    return tensorAt(this.#context.group.allocate(byteLengthOf(dtype, shape)), 0, dtype, [...shape]);
  }

  async write(t: CpuTensor, data: TensorData): Promise<void> {
    this.#checkOpen("write()");
    this.#checkHeld(t);
    const target = t.data as Uint8Array;
    const given = data as Uint8Array | undefined;
    if (given?.[Symbol.toStringTag] !== target[Symbol.toStringTag] || given.length !== target.length) {
      throw argumentError(
        this.epRank,
        "data",
        `is ${describe(data)} of ${given?.length} elements; the tensor takes a ${target[Symbol.toStringTag]} of ${target.length}`,
      );
    }
    target.set(given);
  }

  async read(t: CpuTensor): Promise<TensorData> {
    this.#checkOpen("read()");
    this.#checkHeld(t);
    // Always private memory, also where the tensor lies in shared memory.
    const copy = tensorAt(new ArrayBuffer(t.data.byteLength), 0, t.dtype, t.shape).data as Uint8Array;
    copy.set(t.data as Uint8Array);
    return copy;
  }

  dispatch(input: DispatchInput<CpuTensor>): Dispatch<CpuTensor> {
    const context = this.#context;
    context.checkUsable("dispatch()");
    const checked = checkDispatch(context.checks, input);
    const lane = this.#freeLane(input.lane);
    const dropped = route(
      lane,
      context,
      input.tokenSelectedExperts.data as Int32Array,
      checked.numLocalTokens,
    );

    const round = lane.nextRound;
    const { maxTokens, rowBytes } = checked;
    const offsets = payloadOffsets(context.layout, lane, round, {
      ranks: context.config.epSize,
      maxTokens,
      rowBytes,
    });
    const dispatch = new JsDispatch({
      context,
      lane,
      round,
      checked,
      payloadDTypes: input.payloads.map((payload) => payload.dtype),
      hasStats: input.expertStats !== undefined,
      offsets,
      dropped,
      tokensSent: lane.sendCounts.reduce((sum, count) => sum + count, 0),
    });
    lane.current = dispatch;
    lane.nextRound = round + 1;
    this.#turn = (lane.index + 1) % context.lanes.length;
    if (!dispatch.hasFailed()) {
      const { payloads, expertStats } = input;
      sendDispatch(context, lane, round, checked, { payloads, expertStats }, offsets);
    }
    return dispatch;
  }

  async reset(options?: {
    readonly activeRanks?: readonly number[];
    readonly timeoutMs?: number;
  }): Promise<void> {
    const context = this.#context;
    if (context.state !== "open") {
      const problem =
        context.state === "closed" ? "this instance is closed; create a new one" : "a reset() is under way";
      throw context.stateError("reset()", context.state, problem);
    }
    const ranks = checkActiveRanks(context.checks, options?.activeRanks ?? context.activeRanks);
    const timeoutMs = checkTimeoutMs(options?.timeoutMs, "timeoutMs", context.config.timeoutMs);
    for (const peer of ranks) this.#checkPresent(peer);
    context.state = "resetting";
    context.giveUpRounds(context.stateError("round", "reset", "reset() has given up this round"));
    try {
      await resetRank(context, ranks, timeoutMs);
      this.#turn = 0;
    } catch (error) {
      // Rounds were given up, perhaps here alone: only another reset leads on.
      if (error instanceof MoeA2AError && !this.#isClosed())
        context.fail(error, { told: true, tellPeers: false });
      throw error;
    } finally {
      if (!this.#isClosed()) context.state = "open";
    }
  }

  abort(reason?: unknown): void {
    const context = this.#context;
    this.#checkOpen("abort()");
    if (context.state === "resetting") {
      throw context.stateError(
        "abort()",
        "resetting",
        "a reset() is under way, which has given up all rounds",
      );
    }
    if (context.isLeftOut()) throw context.leftOutError("abort()");
    const error = new MoeA2AError(
      "ERR_MOE_A2A_ABORTED",
      abortMessage(context.rank, reasonText(reason)),
      { rank: context.rank, reason },
      reason === undefined ? undefined : { cause: reason },
    );
    context.fail(error, { told: true, tellPeers: true });
  }

  async close(): Promise<void> {
    const context = this.#context;
    if (context.state === "closed") return;
    context.state = "closed";
    for (let peer = 0; peer < context.config.epSize; peer++) {
      const { words } = context.windows[peer] as Window;
      Atomics.store(words, context.control.closed(context.layout, context.rank), 1);
      if (peer !== context.rank) context.group.ring(peer);
    }
    context.giveUpRounds(context.stateError("round", "closed", "close() has given up this round"));
    const gone = missingError({
      phase: "reset",
      round: 0,
      missingRanks: [context.rank],
      kind: "closed",
      timeoutMs: context.config.timeoutMs,
      rank: context.rank,
      where: "reset",
    });
    for (const key of context.meetings) context.group.giveUp(key, gone);
    context.group.announceDeparture();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #checkOpen(call: string): void {
    if (this.#isClosed()) {
      throw this.#context.stateError(call, "closed", "this instance is closed; create a new one");
    }
  }

  #isClosed(): boolean {
    return this.#context.state === "closed";
  }

  #checkHeld(t: CpuTensor): void {
    const shape = Array.isArray(t?.shape) ? t.shape : [];
    checkTensor(this.#context.checks, "t", t, { shape, dims: "any" });
  }

  /** @throws STATE where no lane is free, or not the one asked for */
  #freeLane(asked: 0 | 1 | undefined): Lane {
    const context = this.#context;
    const lane = context.lanes[asked ?? this.#turn] as Lane;
    const problem = lane.current?.unfinished;
    if (problem !== undefined) {
      throw context.stateError(
        "dispatch()",
        "busy",
        `lane ${lane.index} is in round ${lane.nextRound - 1}: ${problem}` +
          (context.lanes.length === 1 ? " (config.roundsInFlight: 2 gives a second lane)" : ""),
      );
    }
    return lane;
  }

  /** A rank that has left for good cannot be waited for. */
  #checkPresent(peer: number): void {
    const kind = peer === this.epRank ? undefined : this.#context.departure(peer);
    if (!kind) return;
    throw new MoeA2AError(
      "ERR_MOE_A2A_PEER_TIMEOUT",
      `rank ${this.epRank}, reset: rank ${peer} ${kind === "closed" ? "closed" : "ended without closing"} and cannot come back; ` +
        "leave it out of activeRanks",
      { phase: "reset", round: 0, missingRanks: [peer], kind },
    );
  }
}
