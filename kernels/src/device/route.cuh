// Which ranks the tokens of a tile go to, and in which slots: in token order, without atomics deciding places.
#pragma once

#include "begin.cuh"

namespace moe_a2a {

// Routing of up to 32 tokens, in shared memory.
struct Tile {
  int32_t first[MOE_A2A_MAX_RANKS];   // slots taken by the tokens before this tile, by rank
  uint32_t chosen[MOE_A2A_MAX_RANKS];  // tokens of this tile that go to each rank, as a mask
  uint8_t count[kMaxTile];
  uint8_t rank[kMaxTile][MOE_A2A_MAX_TOP_K];
  int32_t slot[kMaxTile][MOE_A2A_MAX_TOP_K];
};

__device__ __forceinline__ uint32_t divide(uint32_t n, const Divisor &d) {
  return static_cast<uint32_t>(static_cast<uint64_t>(n) * d.multiplier >> d.shift);
}

__device__ __forceinline__ int ownerOf(const Placement &e, int32_t id) {
  return id < e.boundary ? divide(id, e.larger) : e.extra + divide(id - e.boundary, e.smaller);
}

__device__ __forceinline__ bool isExpert(const Placement &e, int32_t id) {
  return static_cast<uint32_t>(id) < static_cast<uint32_t>(e.numExperts);
}

// Active ranks that a token goes to.
__device__ __forceinline__ uint64_t targetsOf(const DispatchParams &p, uint64_t active, int64_t token) {
  const int32_t *ids = p.ids + token * p.phase.topK;
  uint64_t targets = 0;
#pragma unroll 8
  for (int k = 0; k < p.phase.topK; k++) {
    const int32_t id = ids[k];
    if (isExpert(p.placement, id)) targets |= 1ull << ownerOf(p.placement, id);
  }
  return targets & active;
}

// Adds to `first` how many tokens of [0, end) go to each rank. Whole block; `first` was cleared.
__device__ inline void countEarlier(const DispatchParams &p, const BlockState &block, int64_t end, int32_t *first) {
  const int laneId = threadIdx.x & 31;
  int32_t mine[2] = {0, 0};  // of ranks laneId and laneId + 32
  for (int64_t start = threadIdx.x - laneId; start < end; start += blockDim.x) {
    const int64_t token = start + laneId;
    const uint64_t targets = token < end ? targetsOf(p, block.active, token) : 0;
    for (int r = 0; r < p.phase.ranks; r++) {
      const int count = __popc(__ballot_sync(0xffffffff, targets >> r & 1));
      if (r == laneId) mine[0] += count;
      if (r == laneId + 32) mine[1] += count;
    }
  }
  if (laneId < p.phase.ranks && mine[0]) atomicAdd(first + laneId, mine[0]);
  if (laneId + 32 < p.phase.ranks && mine[1]) atomicAdd(first + laneId + 32, mine[1]);
}

// The same by a scan: each tile publishes its counts, tagged with the round, and adds up those of the tiles before it,
// which running blocks hold. False where the rank failed meanwhile.
__device__ inline bool scanEarlier(const DispatchParams &p, BlockState &block, int tile, bool publishes, Tile &t) {
  uint64_t *counts = reinterpret_cast<uint64_t *>(p.phase.own + p.phase.at.tile_counts);
  const int ranks = p.phase.ranks;
  const uint64_t tag = static_cast<uint64_t>(block.round) << 32;
  if (publishes) {
    for (int r = threadIdx.x; r < ranks; r += blockDim.x) {
      storeRelaxedGpu64(counts + static_cast<int64_t>(tile) * ranks + r, tag | __popc(t.chosen[r]));
    }
  }
  bool given = false;
  const uint64_t start = globalNanoseconds();
  for (int64_t i = threadIdx.x; i < static_cast<int64_t>(tile) * ranks && !given; i += blockDim.x) {
    uint64_t value;
    while (((value = loadRelaxedGpu64(counts + i)) ^ tag) >> 32 != 0) {
      given = loadRelaxedSys(&laneState(p.phase)->phaseFailed) || globalNanoseconds() - start > p.phase.timeoutNs;
      if (given) break;
    }
    if (!given) atomicAdd(t.first + i % ranks, static_cast<int32_t>(value));
  }
  return !__syncthreads_or(given);
}

// Counts what a tile drops, and notes the first bad id. One thread a token.
__device__ inline void countDropped(const DispatchParams &p, const BlockState &block, int64_t token) {
  LaneState *lane = laneState(p.phase);
  const int32_t *ids = p.ids + token * p.phase.topK;
  int dropped[3] = {0, 0, 0};
  for (int k = p.phase.topK - 1; k >= 0; k--) {
    const int32_t id = ids[k];
    if (isExpert(p.placement, id)) {
      dropped[kDroppedInactive] += !(block.active >> ownerOf(p.placement, id) & 1);
    } else if (id == -1) {
      dropped[kDroppedPadding]++;
    } else {
      dropped[kDroppedInvalid]++;
      if (!p.dropInvalid) {
        const uint64_t entry = static_cast<uint64_t>(token) * p.phase.topK + k;
        atomicMax(reinterpret_cast<unsigned long long *>(&lane->badEntry), static_cast<unsigned long long>(~entry));
      }
    }
  }
  for (int i = 0; i < 3; i++) {
    if (dropped[i]) atomicAdd(&lane->dropped[i], dropped[i]);
  }
}

// Routes the tokens [start, end) of `tile`. `records`: this block keeps what the combine and the report need. False where
// the rank failed meanwhile.
__device__ inline bool routeTile(const DispatchParams &p, BlockState &block, int tile, bool records, int64_t start, int64_t end,
                          int64_t tokens, Tile &t) {
  const int thread = threadIdx.x, ranks = p.phase.ranks, K = p.phase.topK;
  for (int r = thread; r < ranks; r += blockDim.x) t.first[r] = 0;
  const int64_t token = start + thread;
  if (thread < 32) {
    const uint64_t targets = token < end ? targetsOf(p, block.active, token) : 0;
    for (int r = 0; r < ranks; r++) {
      const uint32_t chosen = __ballot_sync(0xffffffff, targets >> r & 1);
      if (thread == 0) t.chosen[r] = chosen;
    }
  }
  __syncthreads();
  if (p.scan) {
    if (!scanEarlier(p, block, tile, records, t)) return false;
  } else {
    countEarlier(p, block, start, t.first);
    __syncthreads();
  }
  if (token < end) {  // at most 32 threads
    const int32_t *ids = p.ids + token * K;
    uint64_t seen = ~block.active;
    int count = 0;
    for (int k = 0; k < K; k++) {
      const int32_t id = ids[k];
      if (!isExpert(p.placement, id)) continue;
      const int owner = ownerOf(p.placement, id);
      if (seen >> owner & 1) continue;
      seen |= 1ull << owner;
      t.rank[thread][count] = owner;
      t.slot[thread][count] = t.first[owner] + __popc(t.chosen[owner] & ((1u << thread) - 1));
      count++;
    }
    t.count[thread] = count;
    if (records) {
      auto *entryRanks = p.phase.own + p.phase.at.entry_ranks + token * p.phase.maxTargets;
      auto *entrySlots = reinterpret_cast<int32_t *>(p.phase.own + p.phase.at.entry_slots) + token * p.phase.maxTargets;
      for (int i = 0; i < count; i++) {
        entryRanks[i] = t.rank[thread][i];
        entrySlots[i] = t.slot[thread][i];
      }
      (p.phase.own + p.phase.at.entry_counts)[token] = count;
      countDropped(p, block, token);
    }
  }
  if (records && end == tokens) {
    auto *sendCounts = reinterpret_cast<int32_t *>(p.phase.own + p.phase.at.send_counts);
    for (int r = thread; r < ranks; r += blockDim.x) sendCounts[r] = t.first[r] + __popc(t.chosen[r]);
  }
  __syncthreads();
  return true;
}

}  // namespace moe_a2a
