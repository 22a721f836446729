// Rows on their way to the peers' windows.
#pragma once

#include "route.cuh"

namespace moe_a2a {

// Copies vectors [from, to) of a row to `count` places. `lane` of `lanes` threads.
template <int Log2>
__device__ __forceinline__ void fanOut(const uint8_t *row, uint8_t *const *places, int count, int from, int to, int lane,
                                       int lanes) {
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

__device__ __forceinline__ void fanOutAny(int log2, const uint8_t *row, uint8_t *const *places, int count, int from, int to,
                                          int lane, int lanes) {
  switch (log2) {
    case 4: return fanOut<4>(row, places, count, from, to, lane, lanes);
    case 3: return fanOut<3>(row, places, count, from, to, lane, lanes);
    case 2: return fanOut<2>(row, places, count, from, to, lane, lanes);
    case 1: return fanOut<1>(row, places, count, from, to, lane, lanes);
    default: return fanOut<0>(row, places, count, from, to, lane, lanes);
  }
}

// Part `part` of `splits` of [0, vectors).
__device__ __forceinline__ int partStart(int vectors, int part, int splits) {
  return static_cast<int>(static_cast<int64_t>(vectors) * part / splits);
}

// Sends one part of each row of a tile. `places`: room for one group's targets, in shared memory.
__device__ inline void sendTile(const DispatchParams &p, const BlockState &block, const Tile &t, int64_t start, int64_t end, int part,
                         uint8_t *(*places)[MOE_A2A_MAX_TOP_K]) {
  const int lanes = p.blockPerToken ? blockDim.x : 32;
  const int group = threadIdx.x / lanes, groups = blockDim.x / lanes, lane = threadIdx.x % lanes;
  uint8_t **targets = places[group];
  const int rounds = static_cast<int>((end - start + groups - 1) / groups);
  for (int i = 0; i < rounds; i++) {
    const int index = i * groups + group;
    const bool has = index < end - start;
    const int count = has ? t.count[index] : 0;
    for (int q = 0; q < p.payloadCount; q++) {
      const PayloadParams &payload = p.payloads[q];
      if (lane < count) {
        const int64_t slot = static_cast<int64_t>(p.phase.rank) * p.phase.maxTokens + t.slot[index][lane];
        targets[lane] = reinterpret_cast<uint8_t *>(block.windows[t.rank[index][lane]]) + payload.target +
                        slot * payload.rowBytes;
      }
      if (p.blockPerToken) __syncthreads();
      else __syncwarp();
      if (count) {
        const int vectors = payload.rowBytes >> payload.vectorLog2;
        fanOutAny(payload.vectorLog2, payload.source + (start + index) * payload.rowBytes, targets, count,
                  partStart(vectors, part, p.splits), partStart(vectors, part + 1, p.splits), lane, lanes);
      }
      if (p.blockPerToken) __syncthreads();
      else __syncwarp();
    }
  }
}

}  // namespace moe_a2a
