import type { CheckedCombine, CheckedTensor, CpuTensor } from "@moe-a2a/core";
import type { RankContext } from "../context.js";
import {
  type CombineNotice,
  type DispatchNotice,
  readCount,
  renewDispatchHeader,
  writeCombineHeader,
  writeDispatchHeader,
} from "../headers.js";
import type { Lane } from "../lane.js";
import { copyBytes } from "../loops/copy.js";
import type { Window } from "../memory.js";
import { bufferOf, wireRound } from "../round-number.js";
import type { DispatchRound } from "./wire.js";

export function bytesOf({ data }: CheckedTensor<CpuTensor>): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/**
 * Copies every row of a payload to the slots that routing found, in the windows that are given. Tokens that follow one
 * another to the same target lie side by side there, so such runs are copied at once.
 */
function storePayload(
  { maxTargets }: RankContext,
  lane: Lane,
  payload: Uint8Array,
  rowBytes: number,
  slotsAt: number,
  numLocalTokens: number,
  windows: readonly (Window | undefined)[],
): void {
  const { entryRanks, entrySlots, entryCounts } = lane;
  // Per target, the open run: its tokens [start, end) and its first slot. lastTokens is free again after routing.
  const runEnds = lane.lastTokens.fill(-1);
  const { runStarts, runSlots } = lane;
  const flush = (target: number): void => {
    const window = windows[target];
    if (!window) return;
    const tokens = runEnds[target]! - runStarts[target]!;
    copyBytes(
      window.bytes,
      slotsAt + runSlots[target]! * rowBytes,
      payload,
      runStarts[target]! * rowBytes,
      tokens * rowBytes,
    );
  };
  for (let token = 0; token < numLocalTokens; token++) {
    const first = token * maxTargets;
    for (let i = 0; i < entryCounts[token]!; i++) {
      const target = entryRanks[first + i]!;
      if (runEnds[target] !== token) {
        if (runEnds[target] !== -1) flush(target);
        runStarts[target] = token;
        runSlots[target] = entrySlots[first + i]!;
      }
      runEnds[target] = token + 1;
    }
  }
  for (let target = 0; target < windows.length; target++) if (runEnds[target] !== -1) flush(target);
}

/** Stores the rows of all payloads into the windows that are given, by rank. */
export function storeRows(
  context: RankContext,
  lane: Lane,
  { checked, offsets }: DispatchRound,
  windows: readonly (Window | undefined)[],
): void {
  const { numLocalTokens, payloads } = checked;
  for (let p = 0; p < payloads.length; p++) {
    const rowBytes = checked.rowBytes[p]!;
    if (rowBytes === 0) continue;
    const slotsAt = offsets[p]! + context.rank * checked.maxTokens * rowBytes;
    storePayload(context, lane, bytesOf(payloads[p]!), rowBytes, slotsAt, numLocalTokens, windows);
  }
}

/** Where `source`'s statistics of a round lie in a window, in bytes. */
export function statsOffset(
  { config, layout }: RankContext,
  lane: Lane,
  round: number,
  source: number,
): number {
  return lane.at.expertStats + (bufferOf(round) * config.epSize + source) * layout.statsRowBytes;
}

/** Stores statistics, header and flag of `source`'s dispatch into a window that has its rows, `count` of them. */
export function storeDispatchNotice(
  context: RankContext,
  lane: Lane,
  window: Window,
  source: number,
  notice: DispatchNotice,
  count: number,
): void {
  const { round, checked, stats } = notice;
  if (stats && checked.statsLength > 0) {
    window.words.set(stats, statsOffset(context, lane, round, source) / 4);
  }
  writeDispatchHeader(window, lane, source, notice, count);
  window.store(lane.flag("dispatch", source), wireRound(round));
}

/** The same where the header says all but round and count already, and there are no statistics. */
export function renewDispatchNotice(
  lane: Lane,
  window: Window,
  source: number,
  round: number,
  count: number,
): void {
  renewDispatchHeader(window, lane, source, round, count);
  window.store(lane.flag("dispatch", source), wireRound(round));
}

/** Puts the results of the given ranks' tokens where they are read from, unless they lie there. */
export function storeResults(
  context: RankContext,
  lane: Lane,
  round: { readonly number: number; readonly maxTokens: number },
  checked: CheckedCombine<CpuTensor>,
  ranks: readonly number[],
): void {
  const { own } = context;
  const source = bytesOf(checked.expertOutput);
  if (source.buffer === own.memory && source.byteOffset === lane.at.combine) return;
  for (let i = 0; i < ranks.length; i++) {
    const peer = ranks[i]!;
    // From the header: recvCounts is the caller's to write on.
    const rows = readCount(own, lane, round.number, peer);
    const start = peer * round.maxTokens * checked.rowBytes;
    copyBytes(own.bytes, lane.at.combine + start, source, start, rows * checked.rowBytes);
  }
}

/** Stores header and flag of `source`'s combine into a window. */
export function storeCombineNotice(lane: Lane, window: Window, source: number, notice: CombineNotice): void {
  writeCombineHeader(window, lane, source, notice);
  window.store(lane.flag("combine", source), wireRound(notice.round));
}
