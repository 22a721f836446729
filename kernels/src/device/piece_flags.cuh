// Flags of the pieces of a dispatch in rows: each block vouches for its own, so that none has to wait for the others
// and fence once more. A flag is the tag of a packet without data, so that nothing but tags ever lies there; headers
// say how many there are. See docs/protocol.md.
#pragma once

#include <cstddef>

#include "arrival.cuh"
#include "vigil.cuh"

namespace moe_a2a {

// Flags that a thread has under way at once.
constexpr int kHeldFlags = 4;

// Where the flag of a rank's piece lies; the same in all windows.
__device__ __forceinline__ uint64_t flagAt(const DispatchParams &p, int source, int piece) {
  return p.phase.at.dispatch_packets + (static_cast<uint64_t>(source) * p.flagsPerRank + piece) * sizeof(RowPacket) +
         offsetof(RowPacket, tag);
}

// Tells all active ranks, this one too, that the rows of a piece are there. One warp, after a barrier.
__device__ __forceinline__ void flagPiece(const DispatchParams &p, const BlockState &block, int piece) {
  const PhaseParams &phase = p.phase;
  const uint64_t flag = flagAt(p, phase.rank, piece);
  fenceSys();
  delay(phase.delays.beforeFlag);
  for (int peer = threadIdx.x & 31; peer < phase.ranks; peer += 32) {
    if (!(block.active >> peer & 1)) continue;
    storeRelaxedSys64(reinterpret_cast<uint64_t *>(block.windows[peer] + flag), block.tag);
  }
  delay(phase.delays.afterFlag);
}

// Flags of all ranks' pieces, as many for each rank as the one with most has. A thread looks at some of them.
struct SomeFlags {
  const uint64_t *at[kHeldFlags];
  int source[kHeldFlags];  // -1: there is no such flag, or it has been seen

  __device__ __forceinline__ SomeFlags(const DispatchParams &p, const DispatchShared &sh, int first, int most) {
#pragma unroll
    for (int h = 0; h < kHeldFlags; h++) {
      const int item = first + h * kThreads, rank = item / most, piece = item - rank * most;
      const bool isThere = rank < p.phase.ranks && piece < piecesOf(p, sh, rank);
      source[h] = isThere ? rank : -1;
      at[h] = reinterpret_cast<const uint64_t *>(p.phase.window + flagAt(p, rank, piece));
    }
  }
  static __device__ __forceinline__ int piecesOf(const DispatchParams &p, const DispatchShared &sh, int rank) {
    return min(max(sh.wait.pieces[rank], 0), p.flagsPerRank);
  }
  // Ranks of which some are still missing.
  __device__ __forceinline__ uint64_t look(uint64_t tag) {
    uint64_t missing = 0;
#pragma unroll
    for (int h = 0; h < kHeldFlags; h++) {
      if (source[h] < 0) continue;
      if (loadAcquireSys64(at[h]) == tag) source[h] = -1;
      else missing |= 1ull << source[h];
    }
    return missing;
  }
};

// Waits for the flags that headers have told of. Whole block.
__device__ inline Waited awaitPieces(const DispatchParams &p, const DispatchShared &sh, const Messages &messages) {
  const Vigil<kDispatchPackets> vigil(p.phase, sh.block, messages);
  const int laneId = threadIdx.x & 31, ranks = p.phase.ranks;
  uint64_t *waitNs = waitsOf(p, sh.block);
  int most = 0;
  for (int r = laneId; r < ranks; r += 32) most = max(most, SomeFlags::piecesOf(p, sh, r));
  most = __reduce_max_sync(0xffffffff, most);
  Waited waited = kArrived;
  for (int first = threadIdx.x; first - laneId < ranks * most && waited == kArrived; first += kThreads * kHeldFlags) {
    SomeFlags flags(p, sh, first, most);
    uint64_t late = 0;
    int looks = 0;
    waited = vigil.await(kForEver, [&] {
      const uint64_t missing = flags.look(sh.block.tag);
      if (missing && ++looks > kSoon) late = missing;
      return missing;
    });
    if (!__any_sync(0xffffffff, late != 0)) continue;
    late &= ~(1ull << p.phase.rank);
    const uint32_t low = __reduce_or_sync(0xffffffff, static_cast<uint32_t>(late)),
                   high = __reduce_or_sync(0xffffffff, static_cast<uint32_t>(late >> 32));
    for (int r = laneId; r < ranks; r += 32) {
      if ((r < 32 ? low >> r : high >> (r - 32)) & 1)
        atomicMax(reinterpret_cast<unsigned long long *>(waitNs + r), globalNanoseconds() - messages.start);
    }
  }
  // Orders what any thread reads next after the flags that were acquired before it.
  return __syncthreads_or(waited != kArrived) ? kFailed : kArrived;
}

// Waits for what all ranks say, takes it, and waits for their rows. True where all went well. Whole block.
__device__ __forceinline__ bool receive(const DispatchParams &p, DispatchShared &sh) {
  const Messages messages = messagesOf(p, sh.block);
  const bool soon =
      comesSoon<kDispatchPackets, true>(p.phase, sh.block, messages, kWordCount, sh.wait, waitsOf(p, sh.block));
  if (!soon && awaitArrival(p, sh, messages, true) != kArrived) return false;
  takeCounts(p, sh);
  fillPadding(p, sh.wait.counts, 0, p.receivers);
  MOE_A2A_MARK(6);
  return awaitPieces(p, sh, messages) == kArrived;
}

}  // namespace moe_a2a
