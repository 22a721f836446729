// How a block begins and ends a phase: what it reads first, how it takes work, and who is last.
#pragma once

#include "state.cuh"
#include "trace.cuh"

namespace moe_a2a {

constexpr uint32_t kNoTicket = 0xffffffff;

// Blocks that take part in a phase; a grid that was forced to be larger has others, which leave at once.
__device__ __forceinline__ uint32_t blocksAtWork(const PhaseParams &p) {
  return min(gridDim.x, static_cast<uint32_t>(p.maxBlocks));
}

// Takes the next piece of work; pieces are numbered, so whoever holds one knows that all before it are in running
// blocks.
__device__ __forceinline__ void takeTicket(LaneState *lane, BlockState &block) {
  __syncthreads();
  if (threadIdx.x == 0) block.ticket = gridDim.x == 1 ? block.ticket + 1 : addRelaxedGpu(&lane->ticket, 1);
  __syncthreads();
}

// A launch's parameters lie in memory that no kernel has read before. Asked for while the kernels before are still at
// work, they cost no time: one load for each line of the constant cache, shared out over the warps.
template <typename Params>
__device__ __forceinline__ void warmUp(const Params &p) {
  constexpr unsigned kLine = 64;
#pragma unroll
  for (unsigned at = 0; at < sizeof(Params); at += kLine) {
    if (at / kLine % (kThreads / 32) != threadIdx.x / 32) continue;
    const uint32_t word = *reinterpret_cast<const uint32_t *>(reinterpret_cast<const uint8_t *>(&p) + at);
    asm volatile("" ::"r"(word));
  }
}

// Learns what can be known before the kernels before this one are done. Whole block.
__device__ __forceinline__ void lookAhead(const PhaseParams &p, int phase, State &state, BlockState &block) {
  MOE_A2A_MARK(0);
  const int thread = threadIdx.x;
  // Windows stay where they are.
  if (thread >= 32 && thread - 32 < p.ranks) block.windows[thread - 32] = rankState(p)->windows[thread - 32];
  if (thread < 32) state.lookAhead(p, phase);
}

// Waits until the kernels before this one are done; from here on what they left may be read.
__device__ __forceinline__ void awaitTurn(const PhaseParams &p) {
  waitForEarlierKernel();
  MOE_A2A_MARK(1);
  if (p.startNextEarly) letNextKernelStart();
}

__device__ __forceinline__ int partStart(const Parts &parts, int part) {
  return part * parts.size + min(part, parts.larger);
}

// Takes the first ticket (`Ordered`; else blocks have theirs by number), and finds out whether this rank may send at
// all. Whole block; `state` of the first warp.
template <bool Ordered>
__device__ __forceinline__ void beginPhase(const PhaseParams &p, int phase, State &state, BlockState &block) {
  LaneState *lane = laneState(p);
  const int thread = threadIdx.x;
  if (thread < 32) {
    uint32_t first = blockIdx.x;
    if (Ordered && thread == 0 && gridDim.x > 1) {
      const bool admitted = gridDim.x <= static_cast<uint32_t>(p.maxBlocks) ||
                            addRelaxedGpu(&lane->admitted, 1) < static_cast<uint32_t>(p.maxBlocks);
      first = admitted ? addRelaxedGpu(&lane->ticket, 1) : kNoTicket;
    }
    const bool blocked = !state.settle(p, phase, block) && mayNotSend(p, phase, state, block);
    if (thread == 0) {
      block.ticket = first;
      block.blocked = blocked;
      if (blockIdx.x == 0) storePair(&lane->together[1 - phase].blocks, 0, 0);
    }
  }
  __syncthreads();
  delay(p.delays.beforeStores);
}

constexpr uint64_t kOneFailed = 1ull << 32;

enum Last { kNotLast, kLast, kLastAfterFailure };

// Counts pieces of outgoing work as done. Every block's stores are ordered before its count (`stored`: there are any),
// so the first warp of the block that makes it `all`, which alone is told, may vouch for them by what it stores next.
// Whole block.
__device__ __forceinline__ Last countSent(uint64_t *counter, uint32_t amount, uint32_t all, bool failed, bool stored) {
  const bool blockFailed = __syncthreads_or(failed);
  if (threadIdx.x >= 32) return kNotLast;
  uint64_t sum = all + (blockFailed ? kOneFailed : 0);
  if (gridDim.x > 1) {
    if (threadIdx.x == 0) {
      if (stored) fenceSys();
      const uint64_t mine = amount + (blockFailed ? kOneFailed : 0);
      sum = addRelaxedGpu64(counter, mine) + mine;
    }
    sum = __shfl_sync(0xffffffff, sum, 0);
  }
  if (static_cast<uint32_t>(sum) != all) return kNotLast;
  // Takes in what the others vouched for, and comes before what this warp stores.
  if (stored || gridDim.x > 1) fenceSys();
  return sum >> 32 ? kLastAfterFailure : kLast;
}

// Counts a block that leaves, after a barrier; tells the one that leaves last. Whole block.
__device__ __forceinline__ Last countLeft(uint64_t *counter, bool failed, BlockState &block) {
  // Lest what the last block spoils comes before what this one has stored.
  if (threadIdx.x == 0 && gridDim.x > 1) fenceGpu();
  const bool blockFailed = __syncthreads_or(failed);
  if (gridDim.x == 1) return blockFailed ? kLastAfterFailure : kLast;
  if (threadIdx.x == 0) {
    const uint64_t mine = 1 + (blockFailed ? kOneFailed : 0);
    const uint64_t sum = addRelaxedGpu64(counter, mine) + mine;
    const bool last = static_cast<uint32_t>(sum) == gridDim.x;
    block.left = !last ? kNotLast : sum >> 32 ? kLastAfterFailure : kLast;
    if (block.left == kLastAfterFailure) fenceGpu();
  }
  __syncthreads();
  return static_cast<Last>(block.left);
}

// True where a reset has left this rank out meanwhile: what it has read must not pass as good.
__device__ __forceinline__ bool isLeftOut(const PhaseParams &p, const BlockState &block) {
  return static_cast<int32_t>(loadRelaxedSys(controlWord(p, kGenerationWord))) != block.generation;
}

// Ends a phase; `tokens` are those of the round. One thread of the block that leaves last.
__device__ inline void endPhase(const PhaseParams &p, int phase, const BlockState &block, bool succeeded, int tokens) {
  LaneState *lane = laneState(p);
  if (!succeeded) {
    lane->phaseFailed = 0;
    lane->badEntry = 0;
  }
  lane->sums = 0;
  if (gridDim.x > 1) {
    lane->ticket = 0;
    lane->admitted = 0;
    lane->done = 0;
    lane->exits = 0;
  }
  if (succeeded) storePair(&lane->completed, phaseNumber(block.round, phase), tokens);
  else storePair(&lane->completed, loadRelaxedSys(&lane->completed), tokens);
}

}  // namespace moe_a2a
