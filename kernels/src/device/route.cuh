// Which ranks the tokens of a tile go to, and in which slots: in token order, without atomics deciding places.
#pragma once

#include "begin.cuh"

namespace moe_a2a {

// Routing of up to 32 tokens, in shared memory.
struct Tile {
  int32_t first[MOE_A2A_MAX_RANKS];    // slots taken by the tokens before this tile, by rank
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
#pragma unroll 4
  for (int k = 0; k < p.phase.topK; k++) {
    const int32_t id = ids[k];
    if (isExpert(p.placement, id)) targets |= 1ull << ownerOf(p.placement, id);
  }
  return targets & active;
}

// Adds to `first` how many tokens of [0, end) go to each rank. All warps but the first; `first` was cleared.
__device__ inline void countEarlier(const DispatchParams &p, const BlockState &block, int64_t end, int32_t *first) {
  const int laneId = threadIdx.x & 31;
  int32_t mine[2] = {0, 0};  // of ranks laneId and laneId + 32
  for (int64_t start = threadIdx.x - laneId - 32; start < end; start += blockDim.x - 32) {
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
  bool given = false, late = false;
  const uint64_t start = globalNanoseconds();
  for (int64_t i = threadIdx.x; i < static_cast<int64_t>(tile) * ranks && !given; i += blockDim.x) {
    uint64_t value;
    while (((value = loadRelaxedGpu64(counts + i)) ^ tag) >> 32 != 0) {
      late = globalNanoseconds() - start > p.phase.timeoutNs;
      given = late || loadRelaxedSys(&laneState(p.phase)->phaseFailed);
      if (given) break;
    }
    if (!given) atomicAdd(t.first + i % ranks, static_cast<int32_t>(value));
  }
  if (__syncthreads_or(late) && threadIdx.x == 0) {
    // Blocks of this very rank were kept from running.
    fail(p.phase, block.round, MOE_A2A_DISPATCH, MOE_A2A_FAIL_MISSING, true, [&](Finding &f) {
      f.missingMask = 1ull << p.phase.rank;
      f.kind = MOE_A2A_TIMEOUT;
    });
  }
  return !__syncthreads_or(given);
}

// Counts what a token drops, and notes its first bad id. One warp, one entry a lane.
__device__ inline void countDropped(const DispatchParams &p, int64_t token, int32_t id, bool isEntry, bool isActive) {
  LaneState *lane = laneState(p.phase);
  const int laneId = threadIdx.x & 31;
  const bool known = isEntry && isExpert(p.placement, id);
  const unsigned padding = __ballot_sync(0xffffffff, isEntry && id == -1);
  const unsigned invalid = __ballot_sync(0xffffffff, isEntry && !known && id != -1);
  const unsigned inactive = __ballot_sync(0xffffffff, known && !isActive);
  if (laneId != 0 || !(padding | invalid | inactive)) return;
  if (padding) atomicAdd(&lane->dropped[kDroppedPadding], __popc(padding));
  if (invalid) atomicAdd(&lane->dropped[kDroppedInvalid], __popc(invalid));
  if (inactive) atomicAdd(&lane->dropped[kDroppedInactive], __popc(inactive));
  if (invalid && !p.dropInvalid) {
    const uint64_t entry = static_cast<uint64_t>(token) * p.phase.topK + __ffs(invalid) - 1;
    atomicMax(reinterpret_cast<unsigned long long *>(&lane->badEntry), static_cast<unsigned long long>(~entry));
  }
}

// Which ranks a token of the tile goes to, in order of k. One warp, one entry a lane.
__device__ inline void routeToken(const DispatchParams &p, const BlockState &block, int64_t token, int index,
                                  bool records, Tile &t) {
  const int laneId = threadIdx.x & 31;
  const bool isEntry = laneId < p.phase.topK;
  const int32_t id = isEntry ? p.ids[token * p.phase.topK + laneId] : -1;
  int owner = isExpert(p.placement, id) ? ownerOf(p.placement, id) : -1;
  const bool isActive = owner >= 0 && (block.active >> owner & 1);
  if (!isActive) owner = -1;
  // The lowest lane among those with the same owner stands first for its rank.
  const unsigned same = __match_any_sync(0xffffffff, owner);
  const bool leads = isActive && laneId == __ffs(same) - 1;
  const unsigned leaders = __ballot_sync(0xffffffff, leads);
  if (leads) {
    t.rank[index][__popc(leaders & ((1u << laneId) - 1))] = owner;
    atomicOr(&t.chosen[owner], 1u << index);
  }
  if (laneId == 0) t.count[index] = __popc(leaders);
  if (records) countDropped(p, token, id, isEntry, isActive);
}

// Routes `count` tokens of `tile`, from `start` on. `records`: this block keeps what the combine and the report need.
// Whole block; false where the rank failed meanwhile.
__device__ inline bool routeTile(const DispatchParams &p, BlockState &block, int tile, bool records, int64_t start,
                                 int count, int tokens, Tile &t) {
  const int thread = threadIdx.x, ranks = p.phase.ranks, warp = thread >> 5, laneId = thread & 31;
  if (thread < ranks) {
    t.first[thread] = 0;
    t.chosen[thread] = 0;
  }
  __syncthreads();
  // The first warps route the tile's tokens while the others count those before it.
  for (int index = warp; index < count; index += kThreads / 32) routeToken(p, block, start + index, index, records, t);
  if (!p.scan && warp > 0) countEarlier(p, block, start, t.first);
  __syncthreads();
  if (p.scan && !scanEarlier(p, block, tile, records, t)) return false;

  for (int index = warp; index < count; index += kThreads / 32) {
    if (laneId >= t.count[index]) continue;
    const int owner = t.rank[index][laneId];
    const int slot = t.first[owner] + __popc(t.chosen[owner] & ((1u << index) - 1));
    t.slot[index][laneId] = slot;
    if (records) {
      const int64_t entry = (start + index) * p.phase.maxTargets + laneId;
      (p.phase.own + p.phase.at.entry_ranks)[entry] = owner;
      reinterpret_cast<int32_t *>(p.phase.own + p.phase.at.entry_slots)[entry] = slot;
    }
  }
  if (records && thread < count) (p.phase.own + p.phase.at.entry_counts)[start + thread] = t.count[thread];
  if (records && start + count == tokens && thread < ranks) {
    auto *sendCounts = reinterpret_cast<int32_t *>(p.phase.own + p.phase.at.send_counts);
    sendCounts[thread] = t.first[thread] + __popc(t.chosen[thread]);
  }
  __syncthreads();
  return true;
}

}  // namespace moe_a2a
