// The sending half of a dispatch, rows aside: what a rank says to its peers.
#pragma once

#include "arrival.cuh"

namespace moe_a2a {

// What this rank says about the round to all, its generation and row counts aside.
__device__ inline void prepareMessage(const DispatchParams &p, uint32_t *said) {
  const int w = threadIdx.x;
  if (w >= kDispatchPackets * 3) return;
  const int q = w - kWordRowBytes;
  said[w] = w == kWordMaxTokens            ? p.phase.maxTokens
            : w == kWordPayloadCount       ? p.payloadCount
            : w == kWordStatsLength        ? p.statsLength
            : q >= 0 && q < p.payloadCount ? p.payloads[q].rowBytes
                                           : 0;
}

// In how many pieces the rows go, which flags vouch for in so many places at most.
struct Pieces {
  uint32_t count, flags;
};

// Tells all active ranks, this one too, what this rank believes about the round. That its earlier reads are over needs
// no fence: the kernels that made them are complete. One warp.
__device__ inline void publish(const DispatchParams &p, const DispatchShared &sh, Pieces pieces) {
  const BlockState &block = sh.block;
  delay(p.phase.delays.beforeFlag);
#pragma unroll 1
  for (int item = threadIdx.x & 31; item < p.phase.ranks * kDispatchPackets; item += 32) {
    const int peer = item / kDispatchPackets, packet = item % kDispatchPackets;
    if (!(block.active >> peer & 1)) continue;
    Packet message{block.round, {0, 0, 0}};
#pragma unroll
    for (int i = 0; i < 3; i++) {
      const int w = packet * 3 + i;
      message.words[i] = w == kWordCount        ? sh.totals.sent[peer]
                         : w == kWordPieces     ? pieces.count
                         : w == kWordFlags      ? pieces.flags
                         : w == kWordGeneration ? block.generation
                                                : sh.wait.said[w];
    }
    storePacket(reinterpret_cast<uint8_t *>(block.windows[peer]) + headersAt(p.phase, block.round) +
                    p.phase.rank * kDispatchHeaderBytes + packet * sizeof(Packet),
                message);
  }
  delay(p.phase.delays.afterFlag);
}

// The same where headers are few: a lane has one packet of a header to tell, of which it knows most beforehand.
class ShortMessage {
 public:
  __device__ __forceinline__ explicit ShortMessage(const DispatchParams &p, const uint32_t *said) {
    const int item = threadIdx.x & 31;
    peer_ = item / kDispatchPackets;
    packet_ = item - peer_ * kDispatchPackets;
    if (peer_ >= p.phase.ranks) return;
#pragma unroll
    for (int i = 0; i < 3; i++) words_[i] = said[packet_ * 3 + i];
  }
  static __device__ __forceinline__ bool suffices(const DispatchParams &p) {
    return p.phase.ranks * kDispatchPackets <= 32;
  }

  __device__ __forceinline__ void publish(const DispatchParams &p, const DispatchShared &sh, Pieces pieces) const {
    static_assert(kWordGeneration == 0 && kWordCount == 3);
    const BlockState &block = sh.block;
    delay(p.phase.delays.beforeFlag);
    if (peer_ < p.phase.ranks && (block.active >> peer_ & 1)) {
      const uint32_t first = packet_ == 0 ? block.generation : packet_ == 1 ? sh.totals.sent[peer_] : words_[0];
      const uint32_t second = packet_ == 1 ? pieces.count : words_[1], third = packet_ == 1 ? pieces.flags : words_[2];
      storePacket(reinterpret_cast<uint8_t *>(block.windows[peer_]) + headersAt(p.phase, block.round) +
                      p.phase.rank * kDispatchHeaderBytes + packet_ * sizeof(Packet),
                  {block.round, {first, second, third}});
    }
    delay(p.phase.delays.afterFlag);
  }

 private:
  int peer_, packet_;
  uint32_t words_[3];
};

// The count or an id in device memory is wrong. One thread.
__device__ __noinline__ inline void failOnArgument(const DispatchParams &p, const DispatchShared &sh, bool badCount) {
  const BlockState &block = sh.block;
  const uint64_t entry = ~sh.totals.badEntry;
  fail(p.phase, block.round, MOE_A2A_DISPATCH, badCount ? MOE_A2A_FAIL_CAPACITY : MOE_A2A_FAIL_EXPERT_ID, true,
       [&](Finding &f) {
         f.rank = p.phase.rank;
         if (badCount) {
           f.value = block.numTokens;
           f.limit = p.numTokens;
         } else {
           f.token = static_cast<int32_t>(entry / p.phase.topK);
           f.k = static_cast<int32_t>(entry % p.phase.topK);
           f.id = p.ids[entry];
         }
       });
}

// Fails where a device-side argument is wrong; true where none is. One warp.
__device__ __forceinline__ bool isRight(const DispatchParams &p, const DispatchShared &sh, bool badCount) {
  const bool bad = badCount || sh.totals.badEntry;
  if (bad && (threadIdx.x & 31) == 0) failOnArgument(p, sh, badCount);
  return !bad;
}

// Tells what all tokens come to; true unless an argument is wrong. One warp.
__device__ __forceinline__ bool announce(const DispatchParams &p, DispatchShared &sh, const ShortMessage &message,
                                         bool badCount, Pieces pieces) {
  if (!isRight(p, sh, badCount)) return false;
  if (ShortMessage::suffices(p)) message.publish(p, sh, pieces);
  else publish(p, sh, pieces);
  return true;
}

// Stores this rank's statistics where its headers vouch for them. Whole block.
__device__ __noinline__ inline void sendStats(const DispatchParams &p, const BlockState &block) {
  const uint64_t offset = statsAt(p, block.round, p.phase.rank);
#pragma unroll 1
  for (int peer = 0; peer < p.phase.ranks; peer++) {
    if (!(block.active >> peer & 1)) continue;
    auto *target = reinterpret_cast<int32_t *>(block.windows[peer] + offset);
#pragma unroll 1
    for (int i = threadIdx.x; i < p.statsLength; i += blockDim.x) target[i] = p.stats[i];
  }
}

// A count in device memory is only seen here.
__device__ __forceinline__ bool isBadCount(const DispatchParams &p, const BlockState &block) {
  return block.numTokens < 0 || block.numTokens > p.numTokens;
}

}  // namespace moe_a2a
