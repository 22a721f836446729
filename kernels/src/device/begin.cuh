// How a block begins and ends a phase: what it reads first, how it takes work, and who is last.
#pragma once

#include "failure.cuh"

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
  int32_t flag;
};

// Takes the next piece of work; pieces are numbered, so whoever holds one knows that all before it are in running blocks.
__device__ __forceinline__ void takeTicket(LaneState *lane, BlockState &block) {
  __syncthreads();
  if (threadIdx.x == 0) block.ticket = gridDim.x == 1 ? block.ticket + 1 : addRelaxedGpu(&lane->ticket, 1);
  __syncthreads();
}

// Reads what a phase depends on, takes the first ticket, and finds out whether this rank may send at all.
__device__ inline void beginPhase(const PhaseParams &p, int phase, const int32_t *tokenCount, int numTokens, BlockState &block) {
  waitForEarlierKernel();
  letNextKernelStart();
  const RankState *state = rankState(p);
  LaneState *lane = laneState(p);
  const int thread = threadIdx.x;
  if (thread < 32) {
    // One load a lane, so that they travel together.
    uint32_t word = 0;
    if (thread == 0) word = gridDim.x == 1 ? 0 : addRelaxedGpu(&lane->ticket, 1);
    if (thread == 1) word = loadRelaxedSys(&lane->round);
    if (thread == 2) word = loadRelaxedSys(&state->generation);
    if (thread == 3) word = loadRelaxedSys(controlWord(p, kGenerationWord));
    if (thread == 4) word = loadRelaxedSys(controlWord(p, kAlarmWord));
    if (thread == 5) word = loadRelaxedSys(&state->failed);
    if (thread == 6) word = loadRelaxedSys(&state->stopped);
    if (thread == 7) word = loadRelaxedSys(reinterpret_cast<const uint32_t *>(&state->active));
    if (thread == 8) word = loadRelaxedSys(reinterpret_cast<const uint32_t *>(&state->active) + 1);
    if (thread == 9) word = tokenCount ? loadRelaxedSys(tokenCount) : numTokens;
    const auto from = [&](int source) { return __shfl_sync(0xffffffff, word, source); };
    const uint32_t ticket = from(0), round = from(1), alarm = from(4), failed = from(5), stopped = from(6);
    const int32_t generation = from(2), windowGeneration = from(3);
    const uint64_t active = from(7) | static_cast<uint64_t>(from(8)) << 32;
    const int32_t count = from(9);
    const bool leftOut = generation != windowGeneration;
    const int told = alarm && !leftOut ? findVerdict(p, active, generation, phaseNumber(round, phase)) : -1;
    if (thread == 0) {
      block.ticket = ticket;
      block.round = round;
      block.generation = generation;
      block.active = active;
      block.numTokens = count;
      block.blocked = failed || stopped == kStopAll || leftOut || told >= 0;
      if (block.blocked) {
        markPhaseFailed(lane);
        if (leftOut) failLeftOut(p, round, phase);
        else if (told >= 0) failAsTold(p, told);
      }
    }
  }
  for (int r = thread; r < p.ranks; r += blockDim.x) block.windows[r] = state->windows[r];
  __syncthreads();
  delay(p.delays.beforeStores);
}

// Counts `pieces` of outgoing work done; true for the block that completes them all. Every block's stores are ordered
// before its count, so that this block may vouch for them.
__device__ inline bool countDone(LaneState *lane, BlockState &block, uint32_t pieces, uint32_t all) {
  __syncthreads();
  if (gridDim.x == 1) return true;
  if (threadIdx.x == 0) {
    fenceSys();
    block.flag = addRelaxedGpu(&lane->done, pieces) + pieces == all;
    fenceSys();
  }
  __syncthreads();
  return block.flag != 0;
}

// True for the block that leaves a phase last: all others have done their work.
__device__ inline bool leavesLast(LaneState *lane, BlockState &block) {
  __syncthreads();
  if (gridDim.x == 1) return true;
  if (threadIdx.x == 0) {
    fenceGpu();
    block.flag = addRelaxedGpu(&lane->exits, 1) == gridDim.x - 1;
    fenceGpu();
  }
  __syncthreads();
  return block.flag != 0;
}

// Whether the phase succeeded, for the block that leaves last. A reset may have left this rank out meanwhile: what it
// then read must not pass as good.
__device__ inline bool endPhase(const PhaseParams &p, int phase, BlockState &block) {
  LaneState *lane = laneState(p);
  if (threadIdx.x == 0) {
    const bool leftOut =
        static_cast<int32_t>(loadRelaxedSys(controlWord(p, kGenerationWord))) != block.generation;
    bool failed = loadRelaxedSys(&lane->phaseFailed) != 0;
    if (leftOut && !failed) {
      failLeftOut(p, block.round, phase);
      failed = true;
    }
    if (!failed) storeRelaxedSys(&lane->completed, phaseNumber(block.round, phase));
    lane->ticket = 0;
    lane->done = 0;
    lane->exits = 0;
    lane->phaseFailed = 0;
    lane->badEntry = 0;
    block.flag = !failed;
  }
  __syncthreads();
  return block.flag != 0;
}

}  // namespace moe_a2a
