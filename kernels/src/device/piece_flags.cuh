// Flags of a dispatch in rows: each block vouches for the pieces that it has sent, so that none has to wait for the
// others and fence once more. A flag is a packet with their number, so that nothing but tags ever lies where its tag
// is; headers say how many pieces there are, and in how many places flags may come. See docs/protocol.md.
#pragma once

#include "arrival.cuh"
#include "vigil.cuh"

namespace moe_a2a {

// Where one of a rank's flags lies; the same in all windows.
__device__ __forceinline__ uint64_t flagAt(const DispatchParams &p, int source, int number) {
  return p.phase.at.dispatch_packets + (static_cast<uint64_t>(source) * p.flagsPerRank + number) * sizeof(RowPacket);
}

// Tells all active ranks, this one too, that the rows of so many pieces are there. One warp, after a barrier.
__device__ __forceinline__ void flagPieces(const DispatchParams &p, const BlockState &block, uint32_t number,
                                           uint32_t pieces) {
  const PhaseParams &phase = p.phase;
  const uint64_t flag = flagAt(p, phase.rank, static_cast<int>(number));
  fenceSys();
  delay(phase.delays.beforeFlag);
  for (int peer = threadIdx.x & 31; peer < phase.ranks; peer += 32) {
    if (!(block.active >> peer & 1)) continue;
    storeRowPacket(reinterpret_cast<uint8_t *>(block.windows[peer]) + flag, pieces, block.tag);
  }
  delay(phase.delays.afterFlag);
}

// Places where flags may come, as the threads of a block look at them: each at some of one rank's.
class FlagWatch {
 public:
  // Whole block. Costs no time before the turn.
  __device__ __forceinline__ explicit FlagWatch(const DispatchParams &p) {
    const int thread = threadIdx.x, ranks = p.phase.ranks;
    step_ = kThreads / ranks;
    first_ = thread / ranks;
    rank_ = thread - first_ * ranks;
    if (first_ >= step_) first_ = kPieces;
    at_ = p.phase.window + flagAt(p, rank_, first_);
  }

  // Waits for the flags that headers have told of. Whole block; `sh.seen` is 0 before.
  __device__ __forceinline__ Waited await(const DispatchParams &p, DispatchShared &sh, const Messages &messages) {
    const Vigil<kDispatchPackets> vigil(p.phase, sh.block, messages);
    // Of a peer with another layout there would be more.
    const int places = min(sh.wait.flags[rank_], p.flagsPerRank), pieces = sh.wait.pieces[rank_];
    Waited waited = kArrived;
    while (waited == kArrived && __any_sync(0xffffffff, first_ < places)) {
      uint32_t unseen = 0xffffffff;
      int looks = 0;
      waited = vigil.await(kForEver, [&]() -> uint64_t {
        const bool isMissing = look(sh, places, pieces, unseen);
        __syncwarp();
        if (isMissing) looks++;
        return isMissing ? 1ull << rank_ : 0;
      });
      if (looks > kSoon && rank_ != p.phase.rank) {
        atomicMax(reinterpret_cast<unsigned long long *>(waitsOf(p, sh.block) + rank_),
                  globalNanoseconds() - messages.start);
      }
      first_ += step_ * kWatchedAtOnce;
      at_ += step_ * kWatchedAtOnce * sizeof(RowPacket);
    }
    // Orders what any thread reads next after the flags that were acquired before it.
    return __syncthreads_or(waited != kArrived) ? kFailed : kArrived;
  }

 private:
  static constexpr int kWatchedAtOnce = 32;

  // Adds up the pieces that the flags vouch for that are here by now. True where more of this thread's may come.
  __device__ __forceinline__ bool look(DispatchShared &sh, int places, int pieces, uint32_t &unseen) const {
    bool isMissing = false;
    const uint8_t *at = at_;
    int number = first_;
#pragma unroll 1
    for (uint32_t bit = 1; bit && number < places; bit <<= 1, number += step_, at += step_ * sizeof(RowPacket)) {
      if (!(unseen & bit)) continue;
      const RowPacket flag = loadFlag(at);
      const bool isHere = flag.tag == sh.block.tag;
      if (isHere) atomicAdd(&sh.seen[rank_], static_cast<int32_t>(flag.data));
      // A block that had nothing to send flags nothing.
      if (isHere || loadRelaxedCta(&sh.seen[rank_]) >= pieces) unseen &= ~bit;
      else isMissing = true;
    }
    return isMissing;
  }

  int rank_, first_, step_;
  const uint8_t *at_;
};

}  // namespace moe_a2a
