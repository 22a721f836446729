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

// Reads what a phase depends on, takes the first ticket, and finds out whether this rank may send at all. True where
// any of `counts` (one a rank, or null) is not 0.
__device__ inline bool beginPhase(const PhaseParams &p, int phase, const int32_t *tokenCount, int numTokens,
                                  const int32_t *counts, BlockState &block) {
  MOE_A2A_MARK(0);
  const RankState *state = rankState(p);
  LaneState *lane = laneState(p);
  const int thread = threadIdx.x;
  // Windows stay where they are, so they may be looked up before the kernels before this one are done.
  if (thread >= 32 && thread - 32 < p.ranks) block.windows[thread - 32] = state->windows[thread - 32];
  waitForEarlierKernel();
  MOE_A2A_MARK(1);
  if (p.startNextEarly) letNextKernelStart();
  if (thread < 32) {
    uint32_t first = 0;
    if (thread == 0 && gridDim.x > 1) {
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
      if (block.blocked) {
        markPhaseFailed(lane);
        if (leftOut) failLeftOut(p, round, phase);
        else if (told >= 0) failAsTold(p, told);
      }
    }
  }
  const int counted = thread - 2 * 32;
  const bool any = counts && counted >= 0 && counted < p.ranks && loadRelaxedSys(counts + counted) != 0;
  const bool result = __syncthreads_or(any);
  delay(p.delays.beforeStores);
  return result;
}

constexpr uint64_t kOneFailed = 1ull << 32;

enum Last { kNotLast, kLast, kLastAfterFailure };

// Adds `amount` to a counter of this phase; tells the block that makes it `all`, and whether any block has failed.
// Every block's stores are ordered before its count, so that the last one may vouch for them.
template <bool PeersSee>
__device__ inline Last countToLast(uint64_t *counter, uint32_t amount, uint32_t all, bool failed) {
  if (gridDim.x == 1) return __syncthreads_or(failed) ? kLastAfterFailure : kLast;
  const bool blockFailed = __syncthreads_or(failed);
  bool last = false, anyFailed = false;
  if (threadIdx.x == 0) {
    if (PeersSee) fenceSys();
    else fenceGpu();
    const uint64_t sum =
        addRelaxedGpu64(counter, amount + (blockFailed ? kOneFailed : 0)) + amount + (blockFailed ? kOneFailed : 0);
    last = static_cast<uint32_t>(sum) == all;
    anyFailed = last && sum >> 32 != 0;
    if (last) fenceGpu();
  }
  if (!__syncthreads_or(last)) return kNotLast;
  return __syncthreads_or(anyFailed) ? kLastAfterFailure : kLast;
}

// True for the caller whose rank a reset has left out meanwhile: what it has read must not pass as good.
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
