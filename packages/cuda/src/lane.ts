import type { CheckedCombine, CheckedDispatch, CheckedTensor, CudaTensor, LaneLayout } from "@moe-a2a/core";
import { LaneBlock } from "./lane-block.js";
import { LaneEvents, type PhaseKind, type ReplayEvent } from "./lane-events.js";
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
  /** What a dispatch of the lane writes and shows. */
  readonly shown: readonly MemoryRange[];
  readonly combineBuffer: MemoryRange;
  readonly output: bigint;
}

/** What the library made for a lane. */
export interface LaneHandles {
  readonly stream: bigint;
  readonly dispatch: readonly bigint[];
  readonly combine: readonly bigint[];
}

/** One lane of one rank: its stream and events, and the round that it is in. */
export class Lane {
  readonly index: 0 | 1;
  readonly at: LaneLayout;
  /** The lane's own stream. */
  readonly stream: bigint;
  readonly events: LaneEvents;
  readonly workspace: readonly MemoryRange[];
  readonly shown: readonly MemoryRange[];
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
  tail: Tail = "nothing";
  /** Passes with whatever was enqueued before the last dispatch: a combine or a replay. */
  beforeDispatch = 0n;
  /** Whether the tail went to the lane's own stream. */
  tailIsOwn = true;
  /** The last combine's expert output and output. */
  #combined: readonly [CheckedTensor<CudaTensor>, CheckedTensor<CudaTensor>] | undefined;
  /** The last dispatch. */
  #dispatched: CheckedDispatch<CudaTensor> | undefined;
  /** The output memory, as the last combine without the caller's took it. */
  #ownOutput: CheckedTensor<CudaTensor> | undefined;
  /** Phases that somebody waits for. */
  readonly waiting: Set<PhaseWait> = new Set();

  constructor(index: 0 | 1, at: LaneLayout, handles: LaneHandles, firstRound: number, memory: LaneMemory) {
    this.index = index;
    this.at = at;
    this.stream = handles.stream;
    this.events = new LaneEvents(handles.dispatch, handles.combine);
    this.nextRound = firstRound;
    this.workspace = memory.workspace;
    this.shown = memory.shown;
    this.combineBuffer = memory.combineBuffer;
    this.output = memory.output;
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
    return [...this.dispatchInputs(), ...this.workspace];
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
    this.#noteEnqueued("combine", round, stream);
  }

  noteDispatch(checked: CheckedDispatch<CudaTensor>, round: number, stream: bigint): void {
    this.#dispatched = checked;
    this.beforeDispatch = (this.tail === "replay" && this.events.lastReplay) || this.events.last("combine");
    this.#noteEnqueued("dispatch", round, stream);
  }

  /**
   * Takes the numbers of `rounds` rounds of replays. The event is recorded by then, or will be before anybody asks for it:
   * who waits for replays waits first until they are enqueued.
   */
  takeReplay(rounds: number, passed: ReplayEvent): void {
    this.nextRound += rounds;
    this.current = undefined;
    this.lastCombine = undefined;
    this.tail = "replay";
    const former = this.events.noteReplay(passed, this.nextRound - 1);
    if (!former) return;
    this.#retarget(former.event);
    former.letGo();
  }

  /** Notes that a phase was enqueued on `stream`, outside of a capture. */
  #noteEnqueued(kind: PhaseKind, round: number, stream: bigint): void {
    this.tail = kind;
    this.tailIsOwn = stream === this.stream;
    this.#retarget(this.events.notePhase(kind, round));
  }

  /** Whoever waits for an event that stands for a later phase now had better wait for another one. */
  #retarget(event: bigint): void {
    if (this.waiting.size > 0) for (const phase of this.waiting) phase.retarget(event);
  }

  /** Starts anew after a reset. */
  restart(nextRound: number): void {
    this.nextRound = nextRound;
    this.current = undefined;
    this.tail = "nothing";
    this.events.forgetReplays();
  }
}
