// Routing of too many tokens for every block to look at all of them: a word of 32 tokens is looked at by the block that
// has the ticket of its number, and handed to the others through memory, tagged with the round. A tile's slots need the
// words up to its own, which are of earlier tickets.
#pragma once

#include "arrival.cuh"
#include "vigil.cuh"

namespace moe_a2a {

__device__ __forceinline__ int wordsOf(int tokens) { return (tokens + 31) / 32; }

__device__ __forceinline__ uint64_t *handedWords(const DispatchParams &p) {
  return reinterpret_cast<uint64_t *>(p.phase.own + p.phase.at.tile_counts);
}
__device__ __forceinline__ uint64_t wordTag(const BlockState &block) {
  return static_cast<uint64_t>(block.round) << 32;
}

// Looks at a word of tokens, and hands it to all blocks. One warp.
__device__ __forceinline__ void handWord(const DispatchParams &p, const BlockState &block, const Tile &t, int word,
                                         int tokens) {
  const int laneId = threadIdx.x & 31, ranks = p.phase.ranks;
  const Look look(p, t, word, tokens);
  LaneState *lane = laneState(p.phase);
  bool drops = look.drops;
  for (int h = 0; h < 2; h++) drops |= look.goes[h] && !(block.active >> (laneId + 32 * h) & 1);
  if (__any_sync(0xffffffff, drops)) {
    const int token = word * 32 + laneId;
    if (token < tokens) countDropped(p, block.active, token, lane->dropped, &lane->badEntry);
    // Who adds up all words has these with them.
    __syncwarp();
    fenceGpu();
  }
  uint64_t *words = handedWords(p) + static_cast<int64_t>(word) * ranks;
  for (int h = 0; h < 2; h++) {
    const int r = laneId + 32 * h;
    if (r < ranks) storeRelaxedGpu64(words + r, wordTag(block) | (block.active >> r & 1 ? look.goes[h] : 0));
  }
}

// Waits for the words [from, to) of all ranks, for as long as a phase may take. One warp. Kept apart: words are mostly
// about to come.
__device__ __noinline__ inline Waited keepWaiting(const DispatchParams &p, const BlockState &block, int from, int to) {
  const Vigil<kDispatchPackets> vigil(p.phase, block, messagesOf(p, block), true);
  const uint64_t *words = handedWords(p);
  const int64_t end = static_cast<int64_t>(to) * p.phase.ranks;
  int64_t item = static_cast<int64_t>(from) * p.phase.ranks + (threadIdx.x & 31);
  return vigil.await(kForEver, [&]() -> uint64_t {
    while (item < end && (loadRelaxedGpu64(words + item) ^ wordTag(block)) >> 32 == 0) item += 32;
    // Whoever else is missed: blocks of this very rank are kept from running.
    return item < end ? 1ull << p.phase.rank : 0;
  });
}

// Calls `take` with the words [from, to) as they come, of all ranks; a thread sees those of one rank. Whole block;
// false for the warps where the phase has failed.
template <typename Take>
__device__ __forceinline__ bool awaitWords(const DispatchParams &p, const BlockState &block, int from, int to,
                                           Take take) {
  const uint64_t *words = handedWords(p);
  const int ranks = p.phase.ranks, thread = threadIdx.x;
  const int step = kThreads / ranks, row = thread / ranks, rank = thread - row * ranks;
  for (int first = from; first < to; first += step) {
    const bool isAwaited = row < step && first + row < to;
    const uint64_t *at = words + (first + row) * ranks + rank;
    uint64_t held = 0;
    for (int looks = 0;; looks++) {
      if (isAwaited) held = loadRelaxedGpu64(at);
      if (!__any_sync(0xffffffff, isAwaited && static_cast<uint32_t>(held >> 32) != block.round)) break;
      if (looks == kSoon && keepWaiting(p, block, from, to) != kArrived) return false;
    }
    if (isAwaited) take(first + row, rank, static_cast<uint32_t>(held));
  }
  return true;
}

// Learns which slots the tokens before a tile have taken. False where the phase has failed. Whole block.
__device__ __forceinline__ bool scanUpTo(const DispatchParams &p, const BlockState &block, int64_t start, int count,
                                         Tile &t) {
  const int own = static_cast<int>(start >> 5), end = static_cast<int>((start + count - 1) >> 5) + 1;
  uint32_t before = 0;
  const bool arrived = awaitWords(p, block, t.word, end, [&](int word, int rank, uint32_t goes) {
    if (word < own) before += __popc(goes);
    else t.goes[word - own][rank] = goes;
  });
  if (before) atomicAdd(t.first + threadIdx.x % p.phase.ranks, static_cast<int>(before));
  const bool failed = __syncthreads_or(!arrived);
  if (threadIdx.x == 0) t.word = own;
  __syncthreads();
  return !failed;
}

// Routes a tile: looks at the word of its number, learns what came before it, and finds the places of its tokens. False
// where the phase has failed. Whole block.
__device__ __forceinline__ bool routeByScan(const DispatchParams &p, const BlockState &block, int tile, bool records,
                                            int64_t start, int count, int tokens, int32_t firstId, Tile &t) {
  if (records && tile < wordsOf(tokens) && threadIdx.x >= kThreads - 32) handWord(p, block, t, tile, tokens);
  if (!scanUpTo(p, block, start, count, t)) return false;
  routeTile<true>(p, block, records, start, count, firstId, t);
  return true;
}

// Adds up all words. False where the phase has failed. Whole block.
__device__ __forceinline__ bool addUpWords(const DispatchParams &p, const BlockState &block, int tokens,
                                           Totals &totals) {
  LaneState *lane = laneState(p.phase);
  const int thread = threadIdx.x;
  if (thread < 32) clear(totals);
  __syncthreads();
  int sent = 0;
  const bool arrived = awaitWords(p, block, 0, wordsOf(tokens), [&](int, int, uint32_t goes) { sent += __popc(goes); });
  if (sent) atomicAdd(totals.sent + thread % p.phase.ranks, sent);
  // What the blocks that handed them on have counted before.
  fenceGpu();
  if (__syncthreads_or(!arrived)) return false;
  // Nobody adds to these any more; the next round does.
  if (thread < 3) {
    totals.dropped[thread] = static_cast<int32_t>(loadRelaxedSys(&lane->dropped[thread]));
    lane->dropped[thread] = 0;
  }
  if (thread == 3) {
    totals.badEntry = loadRelaxedGpu64(&lane->badEntry);
    lane->badEntry = 0;
  }
  __syncthreads();
  return true;
}

}  // namespace moe_a2a
