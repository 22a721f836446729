import type { CheckedCombine, CheckedDispatch, CpuTensor } from "@moe-a2a/core";
import { type AbortVerdict, encodeVerdict, storeAbortRecord } from "../abort-record.js";
import type { RankContext } from "../context.js";
import type { Lane } from "../lane.js";
import type { Window } from "../memory.js";
import { bufferOf } from "../round-number.js";
import {
  renewDispatchNotice,
  storeCombineNotice,
  storeDispatchNotice,
  storeResults,
  storeRows,
} from "./stores.js";
import type { DispatchRound, Wire } from "./wire.js";

const NOBODY: readonly number[] = [];

/** What the headers of one buffer say. */
interface Told {
  checked: CheckedDispatch<CpuTensor> | undefined;
  /** They were written to those that were active in it. */
  generation: number;
}

function twoBuffers(): readonly Told[] {
  return [
    { checked: undefined, generation: 0 },
    { checked: undefined, generation: 0 },
  ];
}

/** Ranks that see one another's windows: they store into them, and read results where these were made. */
export class MemoryWire implements Wire {
  readonly #context: RankContext;
  readonly #windows: readonly Window[];
  /** By lane and buffer, what this rank's headers in its peers' windows say: mostly what they are to say again. */
  readonly #told: readonly (readonly Told[])[];

  /** @param windows by rank */
  constructor(context: RankContext, windows: readonly Window[]) {
    this.#context = context;
    this.#windows = windows;
    this.#told = context.config.roundsInFlight === 2 ? [twoBuffers(), twoBuffers()] : [twoBuffers()];
  }

  open(): void {}

  sendDispatch(lane: Lane, dispatch: DispatchRound): void {
    const context = this.#context;
    const { round, checked } = dispatch;
    const { rank, activeRanks, generation } = context;
    if (checked.numLocalTokens > 0) storeRows(context, lane, dispatch, this.#windows);
    const told = this.#told[lane.index]![bufferOf(round)]!;
    if (told.checked !== checked || told.generation !== generation || checked.statsLength > 0) {
      this.#tellAnew(lane, dispatch, told);
    } else {
      for (let i = 0; i < activeRanks.length; i++) {
        const target = activeRanks[i]!;
        renewDispatchNotice(lane, this.#windows[target]!, rank, round, lane.sendCounts[target]!);
      }
    }
    this.#ringPeers();
  }

  /** Stores all of a dispatch's headers, and notes what they say. */
  #tellAnew(lane: Lane, { round, checked }: DispatchRound, told: Told): void {
    const context = this.#context;
    const { rank, activeRanks, generation } = context;
    const stats = checked.expertStats?.data as Int32Array | undefined;
    const notice = { round, generation, checked, stats };
    for (let i = 0; i < activeRanks.length; i++) {
      const target = activeRanks[i]!;
      storeDispatchNotice(context, lane, this.#windows[target]!, rank, notice, lane.sendCounts[target]!);
    }
    told.checked = checked;
    told.generation = generation;
  }

  sendCombine(
    lane: Lane,
    round: { readonly number: number; readonly maxTokens: number },
    checked: CheckedCombine<CpuTensor>,
  ): void {
    const context = this.#context;
    const { rank, activeRanks, generation } = context;
    storeResults(context, lane, round, checked, activeRanks);
    const notice = { round: round.number, generation, checked };
    for (let i = 0; i < activeRanks.length; i++) {
      storeCombineNotice(lane, this.#windows[activeRanks[i]!]!, rank, notice);
    }
    this.#ringPeers();
  }

  /** What is stored has arrived. */
  unsent(): readonly number[] {
    return NOBODY;
  }

  release(): void {}

  resultsOf(owner: number, lane: Lane, row: { readonly maxTokens: number; readonly bytes: number }) {
    const offset = lane.at.combine + this.#context.rank * row.maxTokens * row.bytes;
    return { window: this.#windows[owner]!, offset };
  }

  tellFailure(peer: number, { error, generation, completed }: AbortVerdict): void {
    const { layout, control, rank, group } = this.#context;
    const record = { verdict: encodeVerdict(error), generation, completed };
    storeAbortRecord(this.#windows[peer]!, layout, control, rank, record);
    group.ring(peer);
  }

  raiseGeneration(peer: number, generation: number): void {
    const { control, group } = this.#context;
    Atomics.store(this.#windows[peer]!.words, control.generation, generation);
    group.ring(peer);
  }

  meetingOf(rank: number): number {
    return Atomics.load(this.#windows[rank]!.words, this.#context.control.meeting);
  }

  tellMeeting(number: number): void {
    Atomics.store(this.#context.own.words, this.#context.control.meeting, number);
  }

  tellClose(): void {
    const { control, layout, rank, group } = this.#context;
    for (const [peer, { words }] of this.#windows.entries()) {
      Atomics.store(words, control.closed(layout, rank), 1);
      if (peer !== rank) group.ring(peer);
    }
  }

  close(): void {}

  #ringPeers(): void {
    const { activeRanks, rank, group } = this.#context;
    for (let i = 0; i < activeRanks.length; i++) {
      if (activeRanks[i] !== rank) group.ringArrival(activeRanks[i]!);
    }
  }
}
