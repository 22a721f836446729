// How the blocks of a phase leave where none waits for the others: the first block ends the phase as far as the lane's
// state goes, and the next phase looks whether all have left.
#pragma once

#include "begin.cuh"

namespace moe_a2a {

// The thread of the first block that keeps the lane's state: of a warp that neither tells nor looks at headers where
// there are few ranks.
constexpr int kKeeper = kThreads / 2;

// The first block ends the phase as far as the lane's state goes, when it has heard from all peers: that it may tell
// blocks that begin later. The keeper, before the block waits.
__device__ __forceinline__ void beginTogether(const PhaseParams &p, const BlockState &block, int phase) {
  LaneState *lane = laneState(p);
  lane->tags[phase] = block.tag;
  storeRelaxedSys(&lane->together[phase].blocks, blocksAtWork(p));
  fenceGpu();
}

// The first block has heard from all peers, or has failed; `tokens` are those of the round. The keeper.
__device__ __forceinline__ void endTogether(const PhaseParams &p, const BlockState &block, int phase, bool succeeded,
                                            uint32_t tokens) {
  LaneState *lane = laneState(p);
  if (succeeded) storePair(&lane->completed, phaseNumber(block.round, phase), tokens | kEndedEarly);
  else storePair(&lane->completed, loadRelaxedSys(&lane->completed), tokens);
}

// Waits until no other block stores anything any more. Whole block.
__device__ __noinline__ inline void awaitOthers(const PhaseParams &p, const BlockState &block, int phase) {
  LaneState *lane = laneState(p);
  const uint64_t start = globalNanoseconds();
  if (threadIdx.x == 0) {
    // Each of them waits for as long as the time limit.
    const auto left = [&] { return loadAcquireGpu(&lane->together[phase].left) % kOneFailed; };
    while (left() < blocksAtWork(p) && globalNanoseconds() - start < 2 * p.timeoutNs) __nanosleep(200);
    const uint32_t number = phaseNumber(block.round, phase);
    if (loadRelaxedSys(&lane->completed) == number) {
      storePair(&lane->completed, number - 1, loadRelaxedSys(&lane->tokens) & ~kEndedEarly);
    }
  }
  __syncthreads();
}

// Leaves a phase; true where it has failed for this block, which has to spoil its results then. Whole block. Nobody
// waits for others where all went well. `release`: orders what this block has stored before that it has left, for one
// that fails alone; a caller that passes false has seen to it.
__device__ __forceinline__ bool leaveTogether(const PhaseParams &p, const BlockState &block, int phase, bool failed,
                                              bool release) {
  const bool anyFailed = __syncthreads_or(failed);
  if (threadIdx.x == 0) {
    uint32_t *left = &laneState(p)->together[phase].left;
    const uint32_t mine = 1 + (anyFailed ? kOneFailed : 0);
    if (release) addReleaseGpu(left, mine);
    else atomicAdd(left, mine);
  }
  if (anyFailed) awaitOthers(p, block, phase);
  return anyFailed;
}

}  // namespace moe_a2a
