// Results that are read where they were computed.
#pragma once

#include "results.cuh"
#include "sum.cuh"

namespace moe_a2a {

struct CombineShared {
  BlockState block;
  WaitState wait;
  const uint8_t *rows[kMaxTile][MOE_A2A_MAX_TOP_K];  // what a tile's tokens sum up, in order of k
  uint8_t counts[kMaxTile];
  int32_t ends[MOE_A2A_MAX_RANKS];  // running sums of the received rows
};

// Keeps where an entry's result lies. Read after a barrier.
__device__ __forceinline__ void keepRow(const CombineParams &p, CombineShared &sh, const KeptEntry &entry) {
  const PhaseParams &phase = p.phase;
  if (entry.j == 0) sh.counts[entry.index] = entry.count;
  if (entry.j >= entry.count) return;
  const int64_t row = static_cast<int64_t>(phase.rank) * phase.maxTokens + entry.slot;
  sh.rows[entry.index][entry.j] =
      reinterpret_cast<const uint8_t *>(sh.block.windows[entry.rank]) + phase.at.combine + row * p.rowBytes;
}

// Finds the rows that a tile's tokens sum up. Whole block; read them after a barrier.
__device__ inline void findRows(const CombineParams &p, CombineShared &sh, int64_t start, int count, int from) {
  for (int item = from + threadIdx.x; item < count * p.phase.maxTargets; item += kThreads) {
    KeptEntry entry;
    entry.load(p, start, item);
    keepRow(p, sh, entry);
  }
}

// Sums one part of each row of a tile of tokens whose rows were found. Whole block. `Vectors`: 16 bytes at once.
template <int DType, bool Vectors>
__device__ __forceinline__ void sumTile(const CombineParams &p, const CombineShared &sh, int64_t start, int count,
                                        int part, int outDtype) {
  const int lanes = 1 << p.lanesLog2;
  const int group = threadIdx.x >> p.lanesLog2, groups = kThreads >> p.lanesLog2, lane = threadIdx.x & (lanes - 1);
  const int from = partStart(p.parts, part), to = partStart(p.parts, part + 1);
  for (int index = group; index < count; index += groups) {
    uint8_t *output = outputOf(p, start + index);
    const auto row = [&](int j) { return sh.rows[index][j]; };
    if constexpr (Vectors) {
      for (int v = from + lane; v < to; v += lanes * kSumColumns) {
        sumVectors<DType>(row, sh.counts[index], v, lanes, to, outDtype, output);
      }
    } else {
      for (int h = from + lane; h < to; h += lanes) {
        sumElement<DType>(row, sh.counts[index], h, outDtype, output);
      }
    }
  }
}

// A combine that exchanges nothing moves its messages on all the same, lest they fall behind by half of all numbers.
// One warp.
__device__ inline void advanceMessages(const CombineParams &p, const BlockState &block) {
  for (int source = threadIdx.x & 31; source < p.phase.ranks; source += 32) {
    if (!(block.active >> source & 1)) continue;
    storePacket(p.phase.window + p.phase.at.combine_headers + source * kCombineHeaderBytes, messageOf(p, block));
  }
}

// Tells the peers, where there is anything to exchange. The last warp.
__device__ __forceinline__ void publishAtOnce(const CombineParams &p, const BlockState &block) {
  if (p.phase.maxTokens > 0) publish(p, block);
  else advanceMessages(p, block);
}

}  // namespace moe_a2a
