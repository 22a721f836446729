import type { CheckedDispatch, CheckedTensor, CombineDType, CpuTensor } from "@moe-a2a/core";
import type { RankContext } from "./context.js";
import { bufferOf, readCount } from "./headers.js";
import type { Lane } from "./lane.js";
import { fillNaN, sumRows } from "./loops/sum.js";
import { wireRound } from "./round-number.js";

/** What of a dispatch the receiving side needs. */
export interface Receiving {
  readonly round: number;
  readonly checked: CheckedDispatch;
  /** Of each payload, in this rank's window. */
  readonly offsets: readonly number[];
}

/** Takes counts and statistics into private memory, where no peer writes, and makes padding look like padding. */
export function takeDispatch(context: RankContext, lane: Lane, { round, checked, offsets }: Receiving): void {
  const { own, config, isActive, layout } = context;
  const ranks = config.epSize;
  for (let source = 0; source < ranks; source++) {
    const active = isActive[source] === 1;
    lane.recvCounts[source] = active ? readCount(own, { lane, round, source, ranks }) : 0;
    const mine = source * checked.statsLength;
    const theirs = (lane.at.expertStats + (bufferOf(round) * ranks + source) * layout.statsRowBytes) / 4;
    for (let i = 0; i < checked.statsLength; i++) {
      lane.gatheredStats[mine + i] = active ? own.words[theirs + i]! : 0;
    }
  }
  fillPadding(context, lane, { round, checked, offsets });
}

/** Makes a failed dispatch look like an empty round. */
export function spoilDispatch(context: RankContext, lane: Lane, receiving: Receiving): void {
  lane.recvCounts.fill(0);
  lane.gatheredStats.fill(0);
  fillPadding(context, lane, receiving);
}

/** Fills the padding slots of the expert-id payload, and with the debug switch those of the others. */
function fillPadding(context: RankContext, lane: Lane, { checked, offsets }: Receiving): void {
  const { own, config } = context;
  const { maxTokens } = checked;
  for (let p = 0; p < checked.rowBytes.length; p++) {
    const isIds = p === checked.expertIdPayloadIndex;
    if (!isIds && !context.fillPadding) continue;
    const rowBytes = checked.rowBytes[p]!;
    for (let source = 0; source < config.epSize; source++) {
      const from = offsets[p]! + (source * maxTokens + lane.recvCounts[source]!) * rowBytes;
      const to = offsets[p]! + (source + 1) * maxTokens * rowBytes;
      if (isIds) own.words.fill(checked.invalidTokenExpertId, from / 4, to / 4);
      else own.bytes.fill(0xff, from, to);
    }
  }
}

/** What of a combine the summing side needs. */
export interface Summing {
  readonly numLocalTokens: number;
  readonly maxTokens: number;
  readonly hiddenSize: number;
  readonly dtype: CombineDType;
  readonly output: CheckedTensor<CpuTensor>;
}

/**
 * Sums each local token's results: float32 from +0, in ascending k over the entries that stand first for their rank,
 * rounded once. The rows are read where the wire has them.
 */
export function takeCombine(context: RankContext, lane: Lane, summing: Summing): void {
  const { wire, accumulator, maxTargets, activeRanks } = context;
  const { entryRanks, entrySlots, entryCounts, resultRows, resultStarts, tokenRows, tokenStarts } = lane;
  const { numLocalTokens, maxTokens, hiddenSize, dtype } = summing;
  const output = summing.output.data as Float32Array | Uint16Array;
  const outputDType = summing.output.dtype as CombineDType;
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
    const at = token * hiddenSize;
    sumRows(accumulator, tokenRows, tokenStarts, count, hiddenSize, dtype, output, at, outputDType);
  }
}

/**
 * Moves this window's combine flags past a round without slots, in which nobody stores them. Left behind, they would read
 * as ahead once half of all numbers have gone by.
 */
export function passCombineFlags({ own, activeRanks }: RankContext, lane: Lane, round: number): void {
  for (let i = 0; i < activeRanks.length; i++) {
    Atomics.store(own.words, lane.flag("combine", activeRanks[i]!), wireRound(round));
  }
}

/** Makes a failed combine's output NaN in every row. */
export function spoilCombine(output: CheckedTensor<CpuTensor>): void {
  // A caller may have transferred its array away meanwhile; it then has no length.
  if (output.data.length === 0) return;
  fillNaN(output.data as Float32Array | Uint16Array, output.dtype as CombineDType);
}
