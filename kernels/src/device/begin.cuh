// How a block begins a phase: what it reads first, and how it takes work.
#pragma once

#include "state.cuh"
#include "trace.cuh"

namespace moe_a2a {

constexpr uint32_t kNoTicket = 0xffffffff;

// Blocks that take part in a phase; a grid that was forced to be larger has others, which leave at once.
__device__ __forceinline__ uint32_t blocksAtWork(const PhaseParams &p) {
  return min(gridDim.x, static_cast<uint32_t>(p.maxBlocks));
}

__device__ __forceinline__ Work &workOf(const PhaseParams &p, int phase) { return laneState(p)->work[phase]; }

// Takes the next piece of work; pieces are numbered, so whoever holds one knows that all before it are in running
// blocks.
__device__ __forceinline__ void takeTicket(const PhaseParams &p, int phase, BlockState &block) {
  __syncthreads();
  if (threadIdx.x == 0) {
    block.ticket = gridDim.x == 1 ? block.ticket + 1 : addRelaxedGpu(&workOf(p, phase).ticket, 1);
  }
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
  const int thread = threadIdx.x;
  if (thread < 32) {
    uint32_t number = blockIdx.x, first = blockIdx.x;
    if (Ordered && thread == 0 && gridDim.x > 1) {
      Work &work = workOf(p, phase);
      const auto most = static_cast<uint32_t>(p.maxBlocks);
      if (gridDim.x > most) number = addRelaxedGpu(&work.admitted, 1);
      first = number < most ? addRelaxedGpu(&work.ticket, 1) : kNoTicket;
    }
    const bool blocked = !state.settle(p, phase, block) && mayNotSend(p, phase, state, block);
    if (thread == 0) {
      block.number = number;
      block.ticket = first;
      block.blocked = blocked;
      if (blockIdx.x == 0) {
        storePair(&laneState(p)->together[1 - phase].blocks, 0, 0);
        workOf(p, 1 - phase) = {};
      }
    }
  }
  __syncthreads();
  delay(p.delays.beforeStores);
}

// Counts pieces of outgoing work as done; each block's stores are ordered before its count. True in the first warp of
// the block that makes it `all`, if none has failed: it may vouch for all of them by what it stores next. Whole block.
__device__ __forceinline__ bool countSent(const PhaseParams &p, int phase, uint32_t amount, uint32_t all, bool failed) {
  const bool blockFailed = __syncthreads_or(failed);
  if (threadIdx.x >= 32) return false;
  uint32_t sum = all + (blockFailed ? kOneFailed : 0);
  if (gridDim.x > 1) {
    if (threadIdx.x == 0) {
      fenceSys();
      const uint32_t mine = amount + (blockFailed ? kOneFailed : 0);
      sum = addRelaxedGpu(&workOf(p, phase).done, mine) + mine;
    }
    sum = __shfl_sync(0xffffffff, sum, 0);
  }
  if (sum != all) return false;
  // Takes in what the others vouched for, and comes before what this warp stores.
  fenceSys();
  return true;
}

// True where a reset has left this rank out meanwhile: what it has read must not pass as good.
__device__ __forceinline__ bool isLeftOut(const PhaseParams &p, const BlockState &block) {
  return static_cast<int32_t>(loadRelaxedSys(controlWord(p, kGenerationWord))) != block.generation;
}

}  // namespace moe_a2a
