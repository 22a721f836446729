import type { CombineDType } from "@moe-a2a/core";
import type { RankContext } from "./context.js";
import { takeCounts } from "./headers.js";
import type { Lane } from "./lane.js";
import { fillNaN, sumRows } from "./loops/sum.js";
import { wireRound } from "./round-number.js";
import { statsOffset } from "./wire/stores.js";
import type { DispatchRound } from "./wire/wire.js";

/**
 * Takes counts and statistics into private memory, where no peer writes, and makes padding look like padding.
 *
 * @returns the rows that came
 */
export function takeDispatch(context: RankContext, lane: Lane, dispatch: DispatchRound): number {
  const { round, checked } = dispatch;
  const total = takeCounts(context.own, lane, round, context.isActive, lane.recvCounts);
  if (checked.statsLength > 0) takeStats(context, lane, round, checked.statsLength);
  if (checked.maxTokens > 0) fillPadding(context, lane, dispatch);
  return total;
}

function takeStats(context: RankContext, lane: Lane, round: number, length: number): void {
  const { words } = context.own;
  for (let source = 0; source < lane.ranks; source++) {
    const active = context.isActive[source] === 1;
    const mine = source * length;
    const theirs = statsOffset(context, lane, round, source) / 4;
    for (let i = 0; i < length; i++) lane.gatheredStats[mine + i] = active ? words[theirs + i]! : 0;
  }
}

/** Makes a failed dispatch look like an empty round. */
export function spoilDispatch(context: RankContext, lane: Lane, dispatch: DispatchRound): void {
  lane.recvCounts.fill(0);
  lane.gatheredStats.fill(0);
  fillPadding(context, lane, dispatch);
}

/** Fills the padding slots of the expert-id payload, and with the debug switch those of the others. */
function fillPadding(context: RankContext, lane: Lane, dispatch: DispatchRound): void {
  const { own } = context;
  const { checked } = dispatch;
  const { maxTokens } = checked;
  if (maxTokens === 0 || (checked.expertIdPayloadIndex < 0 && !context.fillPadding)) return;
  const { offsets } = dispatch;
  for (let p = 0; p < checked.rowBytes.length; p++) {
    const isIds = p === checked.expertIdPayloadIndex;
    if (!isIds && !context.fillPadding) continue;
    const rowBytes = checked.rowBytes[p]!;
    for (let source = 0; source < lane.ranks; source++) {
      const from = offsets[p]! + (source * maxTokens + lane.recvCounts[source]!) * rowBytes;
      const to = offsets[p]! + (source + 1) * maxTokens * rowBytes;
      if (isIds) own.words.fill(checked.invalidTokenExpertId, from / 4, to / 4);
      else own.bytes.fill(0xff, from, to);
    }
  }
}

/** Where a combine's output goes. */
export interface Output {
  /** Views of the caller's tensor, or of this rank's private memory. */
  readonly data: Float32Array | Uint16Array;
  readonly dtype: CombineDType;
  /** The element of `data` with which row 0 starts. */
  readonly start: number;
}

/** What of a combine the summing side needs. */
export interface Summing {
  readonly numLocalTokens: number;
  readonly maxTokens: number;
  readonly hiddenSize: number;
  readonly dtype: CombineDType;
}

/**
 * Sums each local token's results: float32 from +0, in ascending k over the entries that stand first for their rank,
 * rounded once. The rows are read where the wire has them.
 */
export function takeCombine(context: RankContext, lane: Lane, summing: Summing, output: Output): void {
  const { wire, accumulator, maxTargets, activeRanks } = context;
  const { entryRanks, entrySlots, entryCounts, resultRows, resultStarts, tokenRows, tokenStarts } = lane;
  const { numLocalTokens, maxTokens, hiddenSize, dtype } = summing;
  const elementBytes = dtype === "float32" ? 4 : 2;
  const row = { maxTokens, bytes: hiddenSize * elementBytes };
  for (let i = 0; i < activeRanks.length; i++) {
    const owner = activeRanks[i]!;
    const { window, offset } = wire.resultsOf(owner, lane, row);
    resultRows[owner] = window.rows(dtype);
    resultStarts[owner] = offset / elementBytes;
  }
  for (let token = 0; token < numLocalTokens; token++) {
    const first = token * maxTargets;
    const count = entryCounts[token]!;
    for (let i = 0; i < count; i++) {
      const owner = entryRanks[first + i]!;
      tokenRows[i] = resultRows[owner]!;
      tokenStarts[i] = resultStarts[owner]! + entrySlots[first + i]! * hiddenSize;
    }
    const at = output.start + token * hiddenSize;
    sumRows(accumulator, tokenRows, tokenStarts, count, hiddenSize, dtype, output.data, at, output.dtype);
  }
}

/** Rounds after which flags that nobody stores are moved on. */
const FLAG_ROUNDS = 2 ** 16;

/**
 * Moves this window's combine flags past a round without slots, in which nobody stores them. Left behind, they would read
 * as ahead once half of all numbers have gone by; now and then is enough.
 */
export function passCombineFlags({ own, activeRanks }: RankContext, lane: Lane, round: number): void {
  if (wireRound(round) % FLAG_ROUNDS !== 0) return;
  for (let i = 0; i < activeRanks.length; i++) {
    own.store(lane.flag("combine", activeRanks[i]!), wireRound(round));
  }
}

/** Makes a failed combine's output NaN in every row. */
export function spoilCombine({ numLocalTokens, hiddenSize }: Summing, { data, dtype, start }: Output): void {
  // A caller may have transferred its array away meanwhile; it then has no length.
  if (data.length === 0) return;
  fillNaN(data.subarray(start, start + numLocalTokens * hiddenSize), dtype);
}
