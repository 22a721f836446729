// Rows on their way to the peers' windows.
#pragma once

#include "route.cuh"

namespace moe_a2a {

// Copies vectors [from, to) of a row to `count` places. `lane` of `lanes` threads.
template <int Log2>
__device__ __forceinline__ void fanOut(const uint8_t *row, uint8_t *const *places, int count, int from, int to,
                                       int lane, int lanes) {
  constexpr int kAhead = Log2 == 4 ? 4 : 2;
  constexpr int kBytes = 1 << Log2;
  for (int first = from + lane; first < to; first += lanes * kAhead) {
    Vector<Log2> held[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; i++) {
      const int v = first + i * lanes;
      if (v < to) held[i].load(row + static_cast<int64_t>(v) * kBytes);
    }
    for (int place = 0; place < count; place++) {
      uint8_t *target = places[place];
#pragma unroll
      for (int i = 0; i < kAhead; i++) {
        const int v = first + i * lanes;
        if (v < to) held[i].store(target + static_cast<int64_t>(v) * kBytes);
      }
    }
  }
}

__device__ __forceinline__ void fanOutAny(int log2, const uint8_t *row, uint8_t *const *places, int count, int from,
                                          int to, int lane, int lanes) {
  switch (log2) {
    case 4:
      return fanOut<4>(row, places, count, from, to, lane, lanes);
    case 3:
      return fanOut<3>(row, places, count, from, to, lane, lanes);
    case 2:
      return fanOut<2>(row, places, count, from, to, lane, lanes);
    case 1:
      return fanOut<1>(row, places, count, from, to, lane, lanes);
    default:
      return fanOut<0>(row, places, count, from, to, lane, lanes);
  }
}

__device__ __forceinline__ int partStart(const Parts &parts, int part) {
  return part * parts.size + min(part, parts.larger);
}

// Sends one part of each row of a tile. `places`: room for one group's targets, in shared memory.
__device__ inline void sendTile(const DispatchParams &p, const BlockState &block, const Tile &t, int64_t start,
                                int tokens, int part, uint8_t *(*places)[MOE_A2A_MAX_TOP_K]) {
  const int lanes = 1 << p.lanesLog2;
  const int group = threadIdx.x >> p.lanesLog2, groups = kThreads >> p.lanesLog2, lane = threadIdx.x & (lanes - 1);
  const bool wholeBlock = p.lanesLog2 == kThreadsLog2;
  uint8_t **targets = places[group];
  for (int first = 0; first < tokens; first += groups) {
    const int index = first + group;
    const int count = index < tokens ? t.count[index] : 0;
    for (int q = 0; q < p.payloadCount; q++) {
      const PayloadParams &payload = p.payloads[q];
      if (lane < count) {
        const int64_t slot = static_cast<int64_t>(p.phase.rank) * p.phase.maxTokens + t.slot[index][lane];
        targets[lane] =
            reinterpret_cast<uint8_t *>(block.windows[t.rank[index][lane]]) + payload.target + slot * payload.rowBytes;
      }
      if (wholeBlock) __syncthreads();
      else __syncwarp();
      if (count) {
        fanOutAny(payload.vectorLog2, payload.source + (start + index) * payload.rowBytes, targets, count,
                  partStart(payload.parts, part), partStart(payload.parts, part + 1), lane, lanes);
      }
      if (wholeBlock) __syncthreads();
      else __syncwarp();
    }
  }
}

}  // namespace moe_a2a
