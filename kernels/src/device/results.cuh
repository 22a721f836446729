// What the ways to combine share: what a rank says to its peers, what it has kept of its dispatch, and how the phase
// ends.
#pragma once

#include "sum.cuh"
#include "together.cuh"
#include "wait.cuh"

namespace moe_a2a {

// What this rank says about the round, its generation aside.
__device__ inline void prepareMessage(const CombineParams &p, uint32_t *said) {
  if (threadIdx.x != 0) return;
  said[kWordHiddenSize] = p.hiddenSize;
  said[kWordDtype] = p.dtype;
}

__device__ __forceinline__ Packet messageOf(const CombineParams &p, const BlockState &block) {
  return {
      block.round,
      {static_cast<uint32_t>(block.generation), static_cast<uint32_t>(p.hiddenSize), static_cast<uint32_t>(p.dtype)}};
}

// Tells all active ranks, this one too, that this rank's results may be read, which a fence of this warp has seen to.
// That its earlier reads are over needs none: the kernels that made them are complete. One warp.
__device__ inline void publish(const CombineParams &p, const BlockState &block) {
  const PhaseParams &phase = p.phase;
  delay(phase.delays.beforeFlag);
  for (int peer = threadIdx.x & 31; peer < phase.ranks; peer += 32) {
    if (!(block.active >> peer & 1)) continue;
    storePacket(
        reinterpret_cast<uint8_t *>(block.windows[peer]) + phase.at.combine_headers + phase.rank * kCombineHeaderBytes,
        messageOf(p, block));
  }
  delay(phase.delays.afterFlag);
}

// The headers of a round, which are waited for from now on.
__device__ __forceinline__ Messages messagesOf(const CombineParams &p) {
  return {MOE_A2A_COMBINE, p.phase.at.combine_headers, kCombineHeaderBytes, globalNanoseconds()};
}

// Waits for all peers, and compares what they said. Whole block.
__device__ inline Waited awaitResults(const CombineParams &p, BlockState &block, const Messages &messages,
                                      WaitState &wait, uint32_t patience = kForEver) {
  const Waited waited =
      awaitMessages<kCombinePackets>(p.phase, block, messages, kCombineFields, -1, wait, nullptr, patience);
  delay(p.phase.delays.afterWait);
  return waited;
}

// Where a token's dispatch went for one of its entries, as kept by it.
struct KeptEntry {
  int32_t index, j;  // token of the tile, and place in its order of k
  uint8_t count;     // of the token's entries
  uint8_t rank;
  int32_t slot;

  // Loads entry `item` of a tile; rows beyond the tokens there are may be looked at, and mean nothing.
  __device__ __forceinline__ void load(const CombineParams &p, int64_t start, int item) {
    const PhaseParams &phase = p.phase;
    index = item / phase.maxTargets;
    j = item - index * phase.maxTargets;
    const int64_t token = start + index, entry = token * phase.maxTargets + j;
    Vector<0> counted, owner;
    Vector<2> at;
    counted.load(phase.own + phase.at.entry_counts + token);
    owner.load(phase.own + phase.at.entry_ranks + entry);
    at.load(phase.own + phase.at.entry_slots + 4 * entry);
    count = counted.v;
    rank = owner.v;
    slot = at.v;
  }
};

__device__ __noinline__ inline void spoil(const CombineParams &p, int tokens) {
  const int64_t elements = static_cast<int64_t>(tokens) * p.hiddenSize;
  asDType(p.outDtype, [&](auto out) {
    using Out = decltype(out);
    for (int64_t i = threadIdx.x; i < elements; i += blockDim.x) {
      reinterpret_cast<typename Out::Bits *>(p.output)[i] = Out::kNaN;
    }
  });
}

// Where the output's row of a token begins.
__device__ __forceinline__ uint8_t *outputOf(const CombineParams &p, int64_t token) {
  return p.output + token * p.hiddenSize * (p.outDtype == MOE_A2A_FLOAT32 ? 4 : 2);
}

// One thread.
__device__ __forceinline__ void startNextRound(LaneState *lane, const BlockState &block) {
  const uint32_t era = eraOf(block.tag);
  storePair(&lane->round, block.round + 1, block.round + 1 == 0 ? era % kLastEra + 1 : era);
}

// What a reset that left this rank out let others overwrite while a block read from them must not pass as good. The
// last thread, after a barrier; true where that may be so.
__device__ __forceinline__ bool hasReadTooLate(const CombineParams &p, const BlockState &block, bool arrived) {
  const bool leftOut = arrived && threadIdx.x == kThreads - 1 && isLeftOut(p.phase, block);
  if (leftOut) failLeftOut(p.phase, block.round, MOE_A2A_COMBINE);
  return leftOut;
}

// Where the first block was blocked, others that began late had to see the round as it was. When all have left.
__device__ __forceinline__ void startNextAfterBlocked(const PhaseParams &p, const BlockState &block) {
  if (block.blocked && threadIdx.x == 0) startNextRound(laneState(p), block);
}

// The first block has heard from all peers, or has failed. Its keeper.
__device__ __forceinline__ void endCombine(const CombineParams &p, const BlockState &block, bool arrived) {
  endTogether(p.phase, block, MOE_A2A_COMBINE, arrived, block.numTokens);
  if (!block.blocked) startNextRound(laneState(p.phase), block);
}

// Leaves a combine; where it has failed for this block, its first `tokens` are spoiled. Whole block.
__device__ __forceinline__ void leaveCombine(const CombineParams &p, const BlockState &block, bool isFirst, bool failed,
                                             bool release, int tokens) {
  if (!leaveTogether(p.phase, block, MOE_A2A_COMBINE, failed, release)) return;
  if (isFirst) startNextAfterBlocked(p.phase, block);
  spoil(p, tokens);
}

// The kernel for results of a type, of those that `kernelOf` hands out for each.
template <typename KernelOf>
const void *kernelFor(int dtype, KernelOf kernelOf) {
  switch (dtype) {
    case MOE_A2A_FLOAT32:
      return reinterpret_cast<const void *>(kernelOf(Element<MOE_A2A_FLOAT32>()));
    case MOE_A2A_FLOAT16:
      return reinterpret_cast<const void *>(kernelOf(Element<MOE_A2A_FLOAT16>()));
    default:
      return reinterpret_cast<const void *>(kernelOf(Element<MOE_A2A_BFLOAT16>()));
  }
}

}  // namespace moe_a2a
