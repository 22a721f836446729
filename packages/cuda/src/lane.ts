import type { CheckedCombine, CheckedDispatch, CheckedTensor, CudaTensor, LaneLayout } from "@moe-a2a/core";
import { LaneBlock } from "./lane-block.js";
import { type MemoryRange, rangeOf } from "./memory-range.js";
import type { PhaseWait } from "./phase.js";

/** What a lane has to know of its round. */
export interface RoundInFlight {
  /** What keeps the lane busy, or undefined once it is free for the next round. */
  readonly unfinished: string | undefined;
}

/** What a lane has enqueued last, for copies that have to come after it. */
export type Tail = "nothing" | "dispatch" | "combine" | "replay";

/** Where a lane's memory lies on the device. */
export interface LaneMemory {
  /** Everything that peers and kernels write in this rank's memory, of all lanes. */
  readonly workspace: readonly MemoryRange[];
  readonly combineBuffer: MemoryRange;
  readonly output: bigint;
}

/** Numbers the phases of a lane in the order of time. */
function phaseNumber(kind: "dispatch" | "combine", round: number): number {
  return 2 * round + (kind === "combine" ? 1 : 0);
}

/** One lane of one rank: its stream and events, and the round that it is in. */
export class Lane {
  readonly index: 0 | 1;
  readonly at: LaneLayout;
  /** The lane's own stream. */
  readonly stream: bigint;
  /** Pass with the last dispatch and combine that were enqueued outside of captures. */
  readonly events: { readonly dispatch: bigint; readonly combine: bigint };
  /** Where peers read this rank's results, in its window. */
  readonly combineBuffer: MemoryRange;
  /** Where results go that the caller has no memory for. */
  readonly output: bigint;
  readonly block: LaneBlock = new LaneBlock();
  /** The round that the next dispatch starts; grows for ever, the GPU knows its low 32 bits. */
  nextRound: number;
  /** The round that was dispatched last, finished or not. */
  current: RoundInFlight | undefined;
  /** The combine whose output holds the lane's output memory. */
  lastCombine: object | undefined;
  /** The last rounds that the events stand for. */
  readonly enqueued: { dispatch: number; combine: number };
  tail: Tail = "nothing";
  /** Whether the tail went to the lane's own stream. */
  tailIsOwn = true;
  /** Passes with the last replay, where the tail is one. */
  replayEvent = 0n;
  /** The last combine's expert output and output. */
  #combined: readonly [CheckedTensor<CudaTensor>, CheckedTensor<CudaTensor>] | undefined;
  /** The last dispatch. */
  #dispatched: CheckedDispatch<CudaTensor> | undefined;
  readonly #workspace: readonly MemoryRange[];
  /** The output memory, as the last combine without the caller's took it. */
  #ownOutput: CheckedTensor<CudaTensor> | undefined;
  /** Phases that somebody waits for. */
  readonly waiting: Set<PhaseWait> = new Set();

  constructor(
    index: 0 | 1,
    at: LaneLayout,
    handles: { readonly stream: bigint; readonly dispatch: bigint; readonly combine: bigint },
    firstRound: number,
    memory: LaneMemory,
  ) {
    this.index = index;
    this.at = at;
    this.stream = handles.stream;
    this.events = handles;
    this.nextRound = firstRound;
    this.#workspace = memory.workspace;
    this.combineBuffer = memory.combineBuffer;
    this.output = memory.output;
    this.enqueued = { dispatch: firstRound - 1, combine: firstRound - 1 };
  }

  /** The event that passes first of those that come with or after a phase: later phases take over its own. */
  eventAfter(kind: "dispatch" | "combine", round: number): bigint {
    const wanted = phaseNumber(kind, round);
    const dispatch = phaseNumber("dispatch", this.enqueued.dispatch);
    const combine = phaseNumber("combine", this.enqueued.combine);
    if (dispatch < wanted) return this.events.combine;
    if (combine < wanted) return this.events.dispatch;
    return dispatch < combine ? this.events.dispatch : this.events.combine;
  }

  /** What the last combine writes for the caller. */
  combineOutput(): readonly MemoryRange[] {
    return this.#combined ? [rangeOf(this.#combined[1])] : [];
  }

  /** What the last combine reads and writes, the results that peers read among it. */
  combineMemory(): readonly MemoryRange[] {
    return this.#combined ? [...this.#combined.map(rangeOf), this.combineBuffer] : [];
  }

  /** What the last dispatch reads. */
  dispatchInputs(): readonly MemoryRange[] {
    const { tokenSelectedExperts, payloads, expertStats, tokenCount } = this.#dispatched ?? {};
    const inputs = [tokenSelectedExperts, ...(payloads ?? []), expertStats, tokenCount];
    return inputs.filter((t) => t !== undefined).map(rangeOf);
  }

  /** What the last dispatch reads and writes, and whatever else is in the workspace. */
  dispatchMemory(): readonly MemoryRange[] {
    return [...this.dispatchInputs(), ...this.#workspace];
  }

  /** The output memory for `rows` results of a combine; the same object where the last one had this form. */
  ownOutput(rows: number, { dtype, hiddenSize }: CheckedCombine<CudaTensor>): CheckedTensor<CudaTensor> {
    const last = this.#ownOutput;
    if (last?.dtype === dtype && last.shape[0] === rows && last.shape[1] === hiddenSize) return last;
    this.#ownOutput = { dtype, shape: [rows, hiddenSize], data: this.output };
    return this.#ownOutput;
  }

  noteCombine(
    expertOutput: CheckedTensor<CudaTensor>,
    output: CheckedTensor<CudaTensor>,
    round: number,
    stream: bigint,
  ): void {
    this.#combined = [expertOutput, output];
    this.enqueued.combine = round;
    this.tail = "combine";
    this.#noteEnqueued(stream);
  }

  noteDispatch(checked: CheckedDispatch<CudaTensor>, round: number, stream: bigint): void {
    this.#dispatched = checked;
    this.enqueued.dispatch = round;
    this.tail = "dispatch";
    this.#noteEnqueued(stream);
  }

  /** Notes that a phase was enqueued on `stream`, outside of a capture. */
  #noteEnqueued(stream: bigint): void {
    this.tailIsOwn = stream === this.stream;
    // Who waits for the event that was just recorded anew had better wait for another one.
    if (this.waiting.size > 0) for (const phase of this.waiting) phase.retarget();
  }

  /** Starts anew after a reset. */
  restart(nextRound: number): void {
    this.nextRound = nextRound;
    this.current = undefined;
    this.enqueued.dispatch = nextRound - 1;
    this.enqueued.combine = nextRound - 1;
    this.tail = "nothing";
  }
}
