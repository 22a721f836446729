import {
  COMBINE_HEADER_BYTES,
  DISPATCH_HEADER_BYTES,
  FLAG_STRIDE,
  type LaneLayout,
  type MoeA2AError,
  type ResolvedConfig,
  type WorkspaceLayout,
} from "@moe-a2a/core";
import { Arrivals } from "./arrivals.js";
import { bufferOf } from "./round-number.js";

const FLAG_WORDS = FLAG_STRIDE / 4;

/** What a lane has to know of its round. */
export interface RoundInFlight {
  /** What keeps the lane busy, or undefined once it is free for the next round. */
  readonly unfinished: string | undefined;
  /** Settles what is pending with `error`. */
  giveUp(error: MoeA2AError): void;
}

/** One lane of one rank: where its regions lie, its private memory, and the round that it is in. */
export class Lane {
  readonly index: 0 | 1;
  readonly at: LaneLayout;
  /** epSize. */
  readonly ranks: number;
  readonly recvCounts: Int32Array;
  readonly gatheredStats: Int32Array;
  readonly entryRanks: Uint8Array;
  readonly entrySlots: Int32Array;
  readonly entryCounts: Uint8Array;
  readonly sendCounts: Int32Array;
  /** The sum of `sendCounts`. */
  tokensSent = 0;
  readonly lastTokens: Int32Array;
  readonly runStarts: Int32Array;
  readonly runSlots: Int32Array;
  /** Tokens in the order of each rank's slots, rank after rank; empty where ranks share memory. */
  readonly #sendOrder: Int32Array;
  readonly #maxTargets: number;
  /** Words of the flags of rank 0. */
  readonly #dispatchFlags: number;
  readonly #combineFlags: number;
  /** Words of the headers of rank 0 in even rounds. */
  readonly #dispatchHeaders: number;
  readonly #combineHeaders: number;
  /** By rank, the rows in which its results are found, and the element with which slot 0 starts. */
  readonly resultRows: (Float32Array | Uint16Array)[] = [];
  readonly resultStarts: number[] = [];
  /** The same for the results of one token, one after another. */
  readonly tokenRows: (Float32Array | Uint16Array)[] = [];
  readonly tokenStarts: number[] = [];
  readonly outputOffset: number;
  readonly arrivals: Arrivals;
  /** The round that the next dispatch starts; grows for ever, its low 32 bits go over the wire. */
  nextRound: number;
  /** The round that was dispatched last, finished or not. */
  current: RoundInFlight | undefined;
  /** The round whose combine holds the lane's output memory. */
  combinedRound: number | undefined;

  constructor(
    index: 0 | 1,
    layout: WorkspaceLayout,
    config: ResolvedConfig,
    privateMemory: ArrayBufferLike,
    firstRound: number,
  ) {
    const at = layout.lanes[index] as LaneLayout;
    const { epSize: R, maxTokensPerRank: M } = config;
    const entries = M * layout.maxTargets;
    this.index = index;
    this.at = at;
    this.ranks = R;
    this.recvCounts = new Int32Array(privateMemory, at.recvCounts, R);
    this.gatheredStats = new Int32Array(privateMemory, at.gatheredStats, R * config.maxExpertStats);
    this.entryRanks = new Uint8Array(privateMemory, at.entryRanks, entries);
    this.entrySlots = new Int32Array(privateMemory, at.entrySlots, entries);
    this.entryCounts = new Uint8Array(privateMemory, at.entryCounts, M);
    this.sendCounts = new Int32Array(privateMemory, at.sendCounts, R);
    this.lastTokens = new Int32Array(privateMemory, at.lastTokens, R);
    this.runStarts = new Int32Array(privateMemory, at.runs, R);
    this.runSlots = new Int32Array(privateMemory, at.runs + 4 * R, R);
    this.#sendOrder = new Int32Array(
      privateMemory,
      at.sendOrder ?? 0,
      at.sendOrder === undefined ? 0 : entries,
    );
    this.#maxTargets = layout.maxTargets;
    this.#dispatchFlags = at.dispatchFlags / 4;
    this.#combineFlags = at.combineFlags / 4;
    this.#dispatchHeaders = at.dispatchHeaders / 4;
    this.#combineHeaders = at.combineHeaders / 4;
    this.outputOffset = at.output;
    this.arrivals = new Arrivals(R);
    this.nextRound = firstRound;
  }

  /** Where the results that `owner` sends here start, in this rank's window; `rankBytes` is what each rank has room for. */
  resultsAt(owner: number, rankBytes: number): number {
    if (this.at.results === undefined) throw new Error("no rank sends results where ranks share memory");
    return this.at.results + owner * rankBytes;
  }

  /** After routing: sorts the tokens by where they go. @returns the tokens for a rank, in the order of its slots */
  orderTokens(numLocalTokens: number): (target: number) => Int32Array {
    const { sendCounts, entryRanks, entrySlots, entryCounts } = this;
    const order = this.#sendOrder;
    const starts: number[] = [];
    let at = 0;
    for (const [target, count] of sendCounts.entries()) {
      starts[target] = at;
      at += count;
    }
    for (let token = 0; token < numLocalTokens; token++) {
      const first = token * this.#maxTargets;
      for (let i = first; i < first + entryCounts[token]!; i++) {
        order[starts[entryRanks[i]!]! + entrySlots[i]!] = token;
      }
    }
    return (target) => order.subarray(starts[target], starts[target]! + sendCounts[target]!);
  }

  /** Word index of what `source` says of a round's dispatch. */
  dispatchHeader(round: number, source: number): number {
    return this.#dispatchHeaders + (bufferOf(round) * this.ranks + source) * (DISPATCH_HEADER_BYTES / 4);
  }

  /** Word index of what `source` says of a combine. */
  combineHeader(source: number): number {
    return this.#combineHeaders + source * (COMBINE_HEADER_BYTES / 4);
  }

  /** Word index of the flag by which `source` says which round it has reached in a phase. */
  flag(phase: "dispatch" | "combine", source: number): number {
    return (phase === "dispatch" ? this.#dispatchFlags : this.#combineFlags) + source * FLAG_WORDS;
  }
}
