// Which ranks the tokens of a tile go to, and in which slots: in token order, without atomics deciding places. Tokens
// are looked at in words of 32: with up to kMaxCounted tokens every block looks at all of them, with more each word is
// looked at once, and handed to the others; see scan.cuh.
#pragma once

#include "begin.cuh"

namespace moe_a2a {

// Routing of up to 32 tokens, in shared memory.
struct Tile {
  uint8_t count[kMaxTile];
  uint8_t rank[kMaxTile][MOE_A2A_MAX_TOP_K];
  int32_t slot[kMaxTile][MOE_A2A_MAX_TOP_K];
  // Where all tokens are looked at: which of them have entries for each rank, active or not, and which have entries for
  // none, word by word. In a scan: the words that the tile's tokens are of, active ranks only.
  uint32_t goes[kMaxCounted / 32][MOE_A2A_MAX_RANKS];
  uint32_t drops[kMaxCounted / 32];
  // In a scan: slots taken by the tokens of the words before, and how many words these are.
  int32_t first[MOE_A2A_MAX_RANKS];
  int32_t word;
  // The rank of each expert, where they are not too many.
  uint8_t owners[kMaxOwners];
};

// What a rank's dispatch comes to, where one block has found out.
struct Totals {
  int32_t sent[MOE_A2A_MAX_RANKS];
  int32_t dropped[3];
  uint64_t badEntry;  // ~(token * topK + k) of the first bad id; 0: none
};

// Those of a rank without tokens. One warp; read by it at once, by others after a barrier.
__device__ __forceinline__ void clear(Totals &totals) {
  const int laneId = threadIdx.x & 31;
  for (int r = laneId; r < MOE_A2A_MAX_RANKS; r += 32) totals.sent[r] = 0;
  if (laneId < 3) totals.dropped[laneId] = 0;
  if (laneId == 3) totals.badEntry = 0;
  __syncwarp();
}

__device__ __forceinline__ int ownerOf(const Placement &e, int32_t id) {
  const bool isEarly = id < e.boundary;
  const uint32_t n = isEarly ? id : id - e.boundary, multiplier = isEarly ? e.larger.multiplier : e.smaller.multiplier;
  const int shift = isEarly ? e.larger.shift : e.smaller.shift;
  return (isEarly ? 0 : e.extra) + static_cast<int>(static_cast<uint64_t>(n) * multiplier >> shift);
}

__device__ __forceinline__ bool isExpert(const Placement &e, int32_t id) {
  return static_cast<uint32_t>(id) < static_cast<uint32_t>(e.numExperts);
}

__device__ __forceinline__ int32_t loadId(const DispatchParams &p, int64_t token, int k) {
  Vector<2> id;
  id.load(reinterpret_cast<const uint8_t *>(p.ids + token * p.phase.topK + k));
  return static_cast<int32_t>(id.v);
}

// Whole block, ahead of a barrier and of lookAtAll().
__device__ __forceinline__ void listOwners(const DispatchParams &p, Tile &t) {
  if (p.placement.numExperts > kMaxOwners) return;
#pragma unroll 1
  for (int id = threadIdx.x; id < p.placement.numExperts; id += kThreads) t.owners[id] = ownerOf(p.placement, id);
}

// Ranks as bits, of which `high` are those from 32 on.
struct RankBits {
  uint32_t low = 0, high = 0;

  __device__ __forceinline__ void add(uint32_t rank) {
    low |= shifted(rank);
    high |= shifted(rank - 32);
  }
  __device__ __forceinline__ bool has(int rank) const { return (rank < 32 ? low >> rank : high >> (rank - 32)) & 1; }

 private:
  // 1 << bits, or 0 where that does not fit.
  static __device__ __forceinline__ uint32_t shifted(uint32_t bits) {
    uint32_t v;
    asm("shl.b32 %0, 1, %1;" : "=r"(v) : "r"(bits));
    return v;
  }
};

// This lane's share of the ids of 32 tokens that it looks at: up to 8 of one token.
struct SomeIds {
  static constexpr int kCount = 8;
  int32_t ids[kCount];

  __device__ __forceinline__ void load(const DispatchParams &p, int token, int k) {
    if (p.idVectors) {
#pragma unroll
      for (int j = 0; j < kCount; j += 4) {
        if (k + j >= p.phase.topK) break;
        Vector<4> four;
        four.load(reinterpret_cast<const uint8_t *>(p.ids + static_cast<int64_t>(token) * p.phase.topK + k + j));
#pragma unroll
        for (int i = 0; i < 4; i++) ids[j + i] = static_cast<int32_t>(four.v[i]);
      }
    } else {
#pragma unroll
      for (int j = 0; j < kCount; j++) {
        if (k + j < p.phase.topK) ids[j] = loadId(p, token, k + j);
      }
    }
  }
};

// What a warp finds at a look at 32 tokens: a lane knows which of them have entries for the ranks of its number and 32
// more, active or not; all know which have entries for none.
struct Look {
  uint32_t goes[2], drops;

  __device__ __forceinline__ Look(const DispatchParams &p, const Tile &t, int word, int tokens) {
    const int laneId = threadIdx.x & 31, token = word * 32 + laneId;
    const bool isListed = p.placement.numExperts <= kMaxOwners;
    RankBits targets;
    bool isDropped = false;
#pragma unroll 1
    for (int k = 0; k < p.phase.topK && token < tokens; k += SomeIds::kCount) {
      SomeIds some;
      some.load(p, token, k);
#pragma unroll
      for (int j = 0; j < SomeIds::kCount; j++) {
        if (k + j >= p.phase.topK) break;
        const int32_t id = some.ids[j];
        if (isExpert(p.placement, id)) targets.add(isListed ? t.owners[id] : ownerOf(p.placement, id));
        else isDropped = true;
      }
    }
    __syncwarp();
    goes[0] = goes[1] = 0;
#pragma unroll 1
    for (int r = 0; r < p.phase.ranks; r++) {
      const uint32_t go = __ballot_sync(0xffffffff, targets.has(r));
      if (r == laneId) goes[0] = go;
      if (r == laneId + 32) goes[1] = go;
    }
    drops = __ballot_sync(0xffffffff, isDropped);
  }
};

// Looks at the entries of all tokens, of which nothing depends on what earlier kernels leave in a rank's state. All
// warps but the first; read after a barrier.
__device__ inline void lookAtAll(const DispatchParams &p, Tile &t) {
  const int laneId = threadIdx.x & 31;
#pragma unroll 1
  for (int word = (threadIdx.x >> 5) - 1; word >= 0 && word * 32 < p.numTokens; word += kThreads / 32 - 1) {
    const Look look(p, t, word, p.numTokens);
    for (int h = 0; h < 2; h++) {
      if (laneId + 32 * h < p.phase.ranks) t.goes[word][laneId + 32 * h] = look.goes[h];
    }
    if (laneId == 0) t.drops[word] = look.drops;
  }
}

// Those of the tokens of a word that there are.
__device__ __forceinline__ uint32_t presentIn(int word, int tokens) {
  return tokens - word * 32 >= 32 ? 0xffffffff : (1u << (tokens - word * 32)) - 1;
}

// Adds up what the entries of a token drop, and notes its first bad id. One thread.
__device__ __noinline__ inline void countDropped(const DispatchParams &p, uint64_t active, int64_t token,
                                                 int32_t *dropped, uint64_t *badEntry) {
#pragma unroll 1
  for (int k = 0; k < p.phase.topK; k++) {
    const int32_t id = loadId(p, token, k);
    if (isExpert(p.placement, id)) {
      if (!(active >> ownerOf(p.placement, id) & 1)) atomicAdd(dropped + kDroppedInactive, 1);
    } else if (id == -1) {
      atomicAdd(dropped + kDroppedPadding, 1);
    } else {
      atomicAdd(dropped + kDroppedInvalid, 1);
      const uint64_t entry = static_cast<uint64_t>(token) * p.phase.topK + k;
      if (!p.dropInvalid)
        atomicMax(reinterpret_cast<unsigned long long *>(badEntry), static_cast<unsigned long long>(~entry));
    }
  }
}

// Adds up what a look at all tokens has found. One warp; read by it at once, by others after a barrier.
__device__ inline void addUp(const DispatchParams &p, uint64_t active, int tokens, const Tile &t, Totals &totals) {
  if (tokens == 0) return clear(totals);
  const int laneId = threadIdx.x & 31;
  bool drops = false;
#pragma unroll 1
  for (int r = laneId; r < p.phase.ranks; r += 32) {
    int sent = 0;
#pragma unroll 1
    for (int word = 0; word * 32 < tokens; word++) sent += __popc(t.goes[word][r] & presentIn(word, tokens));
    drops |= sent > 0 && !(active >> r & 1);
    totals.sent[r] = active >> r & 1 ? sent : 0;
  }
#pragma unroll 1
  for (int word = laneId; word * 32 < tokens; word += 32) drops |= (t.drops[word] & presentIn(word, tokens)) != 0;
  if (laneId < 3) totals.dropped[laneId] = 0;
  if (laneId == 3) totals.badEntry = 0;
  if (__any_sync(0xffffffff, drops)) {
#pragma unroll 1
    for (int token = laneId; token < tokens; token += 32) {
      countDropped(p, active, token, totals.dropped, &totals.badEntry);
    }
  }
  __syncwarp();
}

// How many of the tokens before `token` go to `rank`.
__device__ __forceinline__ int slotOf(const Tile &t, int token, int rank) {
  const int last = token >> 5;
  int slot = __popc(t.goes[last][rank] & ((1u << (token & 31)) - 1));
#pragma unroll 1
  for (int word = 0; word < last; word++) slot += __popc(t.goes[word][rank]);
  return slot;
}

// Where a token goes, as one lane of its warp knows it.
struct Entry {
  int32_t owner;  // the rank that this lane's entry stands first for, or -1
  int32_t place;  // of that rank among the token's, in order of k
};

// Routes a token whose k-th id lane k has. One warp.
__device__ __forceinline__ Entry routeToken(const DispatchParams &p, uint64_t active, int32_t id) {
  const int laneId = threadIdx.x & 31;
  int owner = laneId < p.phase.topK && isExpert(p.placement, id) ? ownerOf(p.placement, id) : -1;
  if (owner >= 0 && !(active >> owner & 1)) owner = -1;
  // The lowest lane among those with the same owner stands first for its rank.
  const unsigned same = __match_any_sync(0xffffffff, owner);
  const bool leads = owner >= 0 && laneId == __ffs(same) - 1;
  const unsigned leaders = __ballot_sync(0xffffffff, leads);
  return {leads ? owner : -1, __popc(leaders & ((1u << laneId) - 1))};
}

// Keeps for the combine where an entry went.
__device__ __forceinline__ void keepEntry(const DispatchParams &p, int64_t token, int place, int owner, int slot) {
  const int64_t entry = token * p.phase.maxTargets + place;
  (p.phase.own + p.phase.at.entry_ranks)[entry] = owner;
  reinterpret_cast<int32_t *>(p.phase.own + p.phase.at.entry_slots)[entry] = slot;
}

// This lane's id of a token.
__device__ __forceinline__ int32_t laneIdOf(const DispatchParams &p, int64_t token) {
  const int k = threadIdx.x & 31;
  return k < p.phase.topK ? loadId(p, token, k) : -1;
}

// Routes `count` tokens from `start` on, after a look at all (`Scanned`: at the words that they are of). `records`:
// this block keeps what the combine needs. `firstId`: this lane's id of its warp's first token. Whole block.
template <bool Scanned>
__device__ __forceinline__ void routeTile(const DispatchParams &p, const BlockState &block, bool records, int64_t start,
                                          int count, int32_t firstId, Tile &t) {
  const int warp = threadIdx.x >> 5, laneId = threadIdx.x & 31;
#pragma unroll 1
  for (int index = warp; index < count; index += kThreads / 32) {
    const int64_t token = start + index;
    const Entry entry = routeToken(p, block.active, index == warp ? firstId : laneIdOf(p, token));
    const int targets = __popc(__ballot_sync(0xffffffff, entry.owner >= 0));
    if (laneId == 0) t.count[index] = targets;
    if (records && laneId == 0) (p.phase.own + p.phase.at.entry_counts)[token] = targets;
    if (entry.owner < 0) continue;
    const int slot = Scanned ? t.first[entry.owner] + slotOf(t, static_cast<int>(token - t.word * 32), entry.owner)
                             : slotOf(t, token, entry.owner);
    t.rank[index][entry.place] = entry.owner;
    t.slot[index][entry.place] = slot;
    if (records) keepEntry(p, token, entry.place, entry.owner, slot);
  }
  __syncthreads();
}

}  // namespace moe_a2a
