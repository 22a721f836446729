import type { CheckedCombine, CheckedDispatch, CpuTensor } from "@moe-a2a/core";
import type { RankContext } from "./context.js";
import { bufferOf, writeCombineHeader, writeDispatchHeader } from "./headers.js";
import type { Lane } from "./lane.js";
import { copyBytes } from "./loops/copy.js";
import type { Window } from "./memory.js";
import { wireRound } from "./round-number.js";

function bytesOf({ data }: CpuTensor): Uint8Array {
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
  const { windows, activeRanks, maxTargets } = context;
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
  for (const target of activeRanks) if (runEnds[target] !== -1) flush(target);
}

/** Sends a round's rows, statistics, headers and flags to all active ranks, this one included. */
export function sendDispatch(
  context: RankContext,
  lane: Lane,
  round: number,
  checked: CheckedDispatch,
  tensors: { readonly payloads: readonly CpuTensor[]; readonly expertStats: CpuTensor | undefined },
  offsets: readonly number[],
): void {
  const { rank, config, layout, windows } = context;
  const ranks = config.epSize;
  if (checked.numLocalTokens > 0) {
    for (const [p, payload] of tensors.payloads.entries()) {
      const rowBytes = checked.rowBytes[p]!;
      if (rowBytes === 0) continue;
      const slotsAt = offsets[p]! + rank * checked.maxTokens * rowBytes;
      sendRows(context, lane, bytesOf(payload), rowBytes, slotsAt, checked.numLocalTokens);
    }
  }
  const statsAt = (lane.at.expertStats + (bufferOf(round) * ranks + rank) * layout.statsRowBytes) / 4;
  for (const target of context.activeRanks) {
    const window = windows[target] as Window;
    if (tensors.expertStats) window.words.set(tensors.expertStats.data as Int32Array, statsAt);
    const place = { lane, round, source: rank, ranks };
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
  expertOutput: CpuTensor,
  checked: CheckedCombine,
): void {
  const { rank, config, own, windows } = context;
  const source = bytesOf(expertOutput);
  const inPlace = source.buffer === own.memory && source.byteOffset === lane.at.combine;
  if (!inPlace) {
    for (const peer of context.activeRanks) {
      const start = peer * round.maxTokens * checked.rowBytes;
      copyBytes(own.bytes, lane.at.combine + start, source, start, lane.recvCounts[peer]! * checked.rowBytes);
    }
  }
  for (const target of context.activeRanks) {
    const window = windows[target] as Window;
    const place = { lane, round: round.number, source: rank, ranks: config.epSize };
    writeCombineHeader(window, place, context.generation, checked);
    Atomics.store(window.words, lane.flag("combine", rank), wireRound(round.number));
  }
  ringPeers(context);
}

function ringPeers(context: RankContext): void {
  for (const peer of context.activeRanks) if (peer !== context.rank) context.group.ring(peer);
}
