import type { CheckedCombine, CheckedDispatch, CheckedTensor, CpuTensor } from "@moe-a2a/core";
import type { RankContext } from "./context.js";
import { bufferOf, readCount, writeCombineHeader, writeDispatchHeader } from "./headers.js";
import type { Lane } from "./lane.js";
import { copyBytes } from "./loops/copy.js";
import type { Window } from "./memory.js";
import { wireRound } from "./round-number.js";

function bytesOf({ data }: CheckedTensor<CpuTensor>): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/**
 * Copies every row of a payload to the slots that routing found. Tokens that follow one another to the same target lie
 * side by side there, so such runs are copied at once.
 */
function sendRows(
  context: RankContext,
  lane: Lane,
  payload: Uint8Array,
  rowBytes: number,
  slotsAt: number,
  numLocalTokens: number,
): void {
  const { windows, maxTargets } = context;
  const { entryRanks, entrySlots, entryCounts } = lane;
  // Per target, the open run: its tokens [start, end) and its first slot. lastTokens is free again after routing.
  const runEnds = lane.lastTokens.fill(-1);
  const { runStarts, runSlots } = lane;
  const flush = (target: number): void => {
    const tokens = runEnds[target]! - runStarts[target]!;
    copyBytes(
      (windows[target] as Window).bytes,
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

/** Sends a round's rows, statistics, headers and flags to all active ranks, this one included. */
export function sendDispatch(
  context: RankContext,
  lane: Lane,
  round: number,
  checked: CheckedDispatch<CpuTensor>,
  offsets: readonly number[],
): void {
  const { rank, config, layout, windows, activeRanks } = context;
  const ranks = config.epSize;
  const { numLocalTokens, payloads, expertStats } = checked;
  for (let p = 0; p < payloads.length && numLocalTokens > 0; p++) {
    const rowBytes = checked.rowBytes[p]!;
    if (rowBytes === 0) continue;
    const slotsAt = offsets[p]! + rank * checked.maxTokens * rowBytes;
    sendRows(context, lane, bytesOf(payloads[p]!), rowBytes, slotsAt, numLocalTokens);
  }
  const statsAt = (lane.at.expertStats + (bufferOf(round) * ranks + rank) * layout.statsRowBytes) / 4;
  const place = { lane, round, source: rank, ranks };
  for (let i = 0; i < activeRanks.length; i++) {
    const target = activeRanks[i]!;
    const window = windows[target] as Window;
    if (expertStats && checked.statsLength > 0) window.words.set(expertStats.data as Int32Array, statsAt);
    writeDispatchHeader(window, place, context.generation, checked, lane.sendCounts[target]!);
    // The flag vouches for everything before it: a sequentially consistent store, read by Atomics.load.
    Atomics.store(window.words, lane.flag("dispatch", rank), wireRound(round));
  }
  ringPeers(context);
}

/** Offers this rank's expert output to the ranks whose tokens it holds, and tells all active ranks so. */
export function sendCombine(
  context: RankContext,
  lane: Lane,
  round: { readonly number: number; readonly maxTokens: number },
  checked: CheckedCombine<CpuTensor>,
): void {
  const { rank, config, own, windows, activeRanks } = context;
  const ranks = config.epSize;
  const source = bytesOf(checked.expertOutput);
  const inPlace = source.buffer === own.memory && source.byteOffset === lane.at.combine;
  if (!inPlace) {
    for (let i = 0; i < activeRanks.length; i++) {
      const peer = activeRanks[i]!;
      // From the header: recvCounts is the caller's to write on.
      const rows = readCount(own, { lane, round: round.number, source: peer, ranks });
      const start = peer * round.maxTokens * checked.rowBytes;
      copyBytes(own.bytes, lane.at.combine + start, source, start, rows * checked.rowBytes);
    }
  }
  const place = { lane, round: round.number, source: rank, ranks };
  for (let i = 0; i < activeRanks.length; i++) {
    const window = windows[activeRanks[i]!] as Window;
    writeCombineHeader(window, place, context.generation, checked);
    Atomics.store(window.words, lane.flag("combine", rank), wireRound(round.number));
  }
  ringPeers(context);
}

function ringPeers({ activeRanks, rank, group }: RankContext): void {
  for (let i = 0; i < activeRanks.length; i++) if (activeRanks[i] !== rank) group.ring(activeRanks[i]!);
}
