// Waiting of a warp for what comes without a header: packets, and flags of rows.
#pragma once

#include "wait.cuh"

namespace moe_a2a {

// Never longer than the phase may take.
template <int HeaderPackets>
class Vigil {
 public:
  // `sends`: for what this rank has yet to send.
  __device__ __forceinline__ Vigil(const PhaseParams &p, const BlockState &block, const Messages &messages,
                                   bool sends = false)
      : p_(p), block_(block), messages_(messages), sends_(sends) {}

  // Looks until nothing is missing, or kNotYet after `patience` looks, if that is not 0. `look` says which ranks this
  // lane still misses something of.
  template <typename Look>
  __device__ __forceinline__ Waited await(int patience, Look look) const {
    Suspects suspects{0, 0};
    for (int looks = 1;; looks++) {
      const uint64_t missing = look();
      if (!__any_sync(0xffffffff, missing != 0)) return kArrived;
      if (looks == patience) return kNotYet;
      if (suspects.ranks && !acquits(missing, suspects)) return kFailed;
      suspects.ranks = 0;
      if (looks % kLooksPerTurn == 0 && isRaised() && !investigates(missing, suspects)) return kFailed;
    }
  }

 private:
  __device__ __forceinline__ bool isRaised() const {
    const int laneId = threadIdx.x & 31;
    bool raised = laneId < kWatched && Eye(p_, block_, laneId).sees();
    if (laneId == kWatched) raised = globalNanoseconds() - messages_.start > p_.timeoutNs;
    return __any_sync(0xffffffff, raised);
  }
  // Who has not even told the round is missing for all warps; who has, for those that miss its packets.
  __device__ __forceinline__ uint64_t allMissing(uint64_t mine) const {
    const auto low = static_cast<uint32_t>(mine), high = static_cast<uint32_t>(mine >> 32);
    const uint64_t rows = __reduce_or_sync(0xffffffff, low) | static_cast<uint64_t>(__reduce_or_sync(0xffffffff, high))
                                                                  << 32;
    return rows | stillMissing<HeaderPackets>(p_, block_, messages_, block_.active);
  }
  __device__ __noinline__ bool investigates(uint64_t mine, Suspects &suspects) const {
    return investigate(p_, block_, messages_, allMissing(mine), suspects, sends_);
  }
  // After another look.
  __device__ __noinline__ bool acquits(uint64_t mine, Suspects suspects) const {
    suspects.ranks &= allMissing(mine);
    if (suspects.ranks) blame(p_, block_, messages_, suspects);
    return suspects.ranks == 0;
  }

  const PhaseParams &p_;
  const BlockState &block_;
  const Messages messages_;
  const bool sends_;
};

}  // namespace moe_a2a
