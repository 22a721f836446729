import type { CheckedCombine, CheckedDispatch, CpuTensor } from "@moe-a2a/core";
import type { AbortVerdict } from "../abort-record.js";
import type { Lane } from "../lane.js";
import type { Window } from "../memory.js";

/** A dispatch that the arguments were checked for. */
export interface DispatchRound {
  readonly round: number;
  readonly checked: CheckedDispatch<CpuTensor>;
  /** Of each payload, in the windows of the ranks that receive it. */
  readonly offsets: readonly number[];
}

/** How one rank's instance reaches the others: by stores into their windows, or by messages. */
export interface Wire {
  /** Takes what others send from now on. */
  open(): void;
  /** Sends a round's rows, statistics, headers and flags to all active ranks, this one included. */
  sendDispatch(lane: Lane, dispatch: DispatchRound): void;
  /** Offers this rank's expert output to the ranks whose tokens it holds, and tells all active ranks so. */
  sendCombine(
    lane: Lane,
    round: { readonly number: number; readonly maxTokens: number },
    checked: CheckedCombine<CpuTensor>,
  ): void;
  /** The active ranks that have not yet taken all that was sent to them in the lane. */
  unsent(lane: Lane): readonly number[];
  /** Makes this rank independent of memory that callers have handed over for the lane's phases. */
  release(lane: Lane): void;
  /** The window in which this rank finds `owner`'s results, and where there the row of slot 0 starts, in bytes. */
  resultsOf(
    owner: number,
    lane: Lane,
    row: { readonly maxTokens: number; readonly bytes: number },
  ): { readonly window: Window; readonly offset: number };
  /** Tells a peer of this rank's failure. */
  tellFailure(peer: number, verdict: AbortVerdict): void;
  /** Raises the generation of a peer that a reset leaves out. */
  raiseGeneration(peer: number, generation: number): void;
  /** Number of the next reset that `rank` can join, as far as this rank knows. */
  meetingOf(rank: number): number;
  /** Tells all ranks which reset this one can join next. */
  tellMeeting(number: number): void;
  /** Tells all ranks that this one closes its instance. */
  tellClose(): void;
  /** Neither sends nor takes anything any more. */
  close(): void;
}
