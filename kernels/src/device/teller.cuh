// The block of a dispatch in rows that tells the peers what this rank sends, and waits for them and their rows.
#pragma once

#include "announce.cuh"
#include "piece_flags.cuh"
#include "together.cuh"

namespace moe_a2a {

// Tells what the tokens come to, which the first warp knows. False where that is wrong. Whole block.
__device__ __forceinline__ bool tell(const DispatchParams &p, DispatchShared &sh, const ShortMessage &message,
                                     bool badCount, Pieces pieces) {
  if (p.statsLength) {
    sendStats(p, sh.block);
    __syncthreads();
  }
  bool told = true;
  if (threadIdx.x < 32) {
    if (p.statsLength) fenceSys();
    told = announce(p, sh, message, badCount, pieces);
  }
  MOE_A2A_MARK(3);
  return __syncthreads_and(told);
}

// Waits for what all ranks say, takes it, and waits for their rows. True where all went well. Whole block.
__device__ __forceinline__ bool receive(const DispatchParams &p, DispatchShared &sh, FlagWatch &watch) {
  const Messages messages = messagesOf(p, sh.block);
  const bool soon =
      comesSoon<kDispatchPackets, true>(p.phase, sh.block, messages, kWordCount, sh.wait, waitsOf(p, sh.block));
  if (!soon && awaitArrival(p, sh, messages, true) != kArrived) return false;
  takeCounts(p, sh);
  fillPadding(p, sh.wait.counts, 0, p.receivers);
  MOE_A2A_MARK(6);
  return watch.await(p, sh, messages) == kArrived;
}

}  // namespace moe_a2a
