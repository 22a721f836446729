// How a block begins and ends a phase: what it reads first, how it takes work, and who is last.
#pragma once

#include "failure.cuh"
#include "trace.cuh"

namespace moe_a2a {

// What every block of a phase knows, in shared memory.
struct BlockState {
  uint64_t windows[MOE_A2A_MAX_RANKS];
  uint64_t active;
  uint32_t round;
  int32_t generation;
  uint32_t ticket;
  int32_t numTokens;
  // This rank may not send: it has failed, was told so, was stopped, or was left out by a reset.
  int32_t blocked;
};

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

// The rank may not send. One thread.
__device__ __noinline__ inline void refuse(const PhaseParams &p, uint32_t round, int phase, bool leftOut, int told) {
  markPhaseFailed(laneState(p));
  if (leftOut) failLeftOut(p, round, phase);
  else if (told >= 0) failAsTold(p, told);
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

// Waits until the kernels before this one are done; from here on what they left may be read.
__device__ __forceinline__ void awaitTurn(const PhaseParams &p, BlockState &block) {
  MOE_A2A_MARK(0);
  const int thread = threadIdx.x;
  // Windows stay where they are, so they may be looked up before.
  if (thread >= 32 && thread - 32 < p.ranks) block.windows[thread - 32] = rankState(p)->windows[thread - 32];
  waitForEarlierKernel();
  MOE_A2A_MARK(1);
  if (p.startNextEarly) letNextKernelStart();
}

// Reads what a phase depends on, takes the first ticket (`Ordered`; else blocks have theirs by number), and finds out
// whether this rank may send at all. Whole block.
template <bool Ordered>
__device__ __forceinline__ void beginPhase(const PhaseParams &p, int phase, const int32_t *tokenCount, int numTokens,
                                           BlockState &block) {
  const RankState *state = rankState(p);
  LaneState *lane = laneState(p);
  const int thread = threadIdx.x;
  if (thread < 32) {
    uint32_t first = blockIdx.x;
    if (Ordered && thread == 0 && gridDim.x > 1) {
      const bool admitted = gridDim.x <= static_cast<uint32_t>(p.maxBlocks) ||
                            addRelaxedGpu(&lane->admitted, 1) < static_cast<uint32_t>(p.maxBlocks);
      first = admitted ? addRelaxedGpu(&lane->ticket, 1) : kNoTicket;
    }
    // One load, in which each lane reads another word.
    const auto *active32 = reinterpret_cast<const int32_t *>(&state->active);
    const int32_t *address = thread == 1    ? reinterpret_cast<const int32_t *>(&lane->round)
                             : thread == 2  ? &state->generation
                             : thread == 3  ? controlWord(p, kGenerationWord)
                             : thread == 4  ? controlWord(p, kAlarmWord)
                             : thread == 5  ? &state->failed
                             : thread == 6  ? &state->stopped
                             : thread == 7  ? active32
                             : thread == 8  ? active32 + 1
                             : thread == 10 ? reinterpret_cast<const int32_t *>(&lane->completed)
                             : tokenCount   ? tokenCount
                                            : active32;
    uint32_t word = loadRelaxedSys(address);
    if (thread == 9 && !tokenCount) word = numTokens;
    if (thread == 0) word = first;
    const auto from = [&](int source) { return __shfl_sync(0xffffffff, word, source); };
    const uint32_t ticket = from(0), round = from(1), alarm = from(4), failed = from(5), stopped = from(6);
    const int32_t generation = from(2), windowGeneration = from(3);
    const uint64_t active = from(7) | static_cast<uint64_t>(from(8)) << 32;
    const int32_t count = from(9);
    // The lane's phase before this one has failed, perhaps without any failure of the rank: it was stopped in between.
    const bool broken = from(10) != phaseNumber(round, phase) - 1;
    const bool leftOut = generation != windowGeneration;
    const int told = alarm && !leftOut ? findVerdict(p, active, generation, phaseNumber(round, phase)) : -1;
    if (thread == 0) {
      block.ticket = ticket;
      block.round = round;
      block.generation = generation;
      block.active = active;
      block.numTokens = count;
      block.blocked = failed || stopped == kStopAll || leftOut || told >= 0 || broken;
      if (block.blocked) refuse(p, round, phase, leftOut, told);
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
__device__ __forceinline__ Last countLeft(uint64_t *counter, bool failed) {
  // Lest what the last block spoils comes before what this one has stored.
  if (threadIdx.x == 0 && gridDim.x > 1) fenceGpu();
  const bool blockFailed = __syncthreads_or(failed);
  if (gridDim.x == 1) return !blockFailed ? threadIdx.x == 0 ? kLast : kNotLast : kLastAfterFailure;
  bool last = false, anyFailed = false;
  if (threadIdx.x == 0) {
    const uint64_t mine = 1 + (blockFailed ? kOneFailed : 0);
    const uint64_t sum = addRelaxedGpu64(counter, mine) + mine;
    last = static_cast<uint32_t>(sum) == gridDim.x;
    anyFailed = last && sum >> 32 != 0;
    if (anyFailed) fenceGpu();
  }
  if (__syncthreads_or(anyFailed)) return kLastAfterFailure;
  // Where all went well, only one thread of the last block has something left to do.
  return last ? kLast : kNotLast;
}

// True where a reset has left this rank out meanwhile: what it has read must not pass as good.
__device__ __forceinline__ bool isLeftOut(const PhaseParams &p, const BlockState &block) {
  return static_cast<int32_t>(loadRelaxedSys(controlWord(p, kGenerationWord))) != block.generation;
}

// Ends a phase. One thread of the block that leaves last.
__device__ inline void endPhase(const PhaseParams &p, int phase, const BlockState &block, bool succeeded) {
  LaneState *lane = laneState(p);
  if (succeeded) {
    storeRelaxedSys(&lane->completed, phaseNumber(block.round, phase));
  } else {
    lane->phaseFailed = 0;
    lane->badEntry = 0;
  }
  if (gridDim.x > 1) {
    lane->ticket = 0;
    lane->admitted = 0;
    lane->done = 0;
    lane->exits = 0;
  }
}

}  // namespace moe_a2a
