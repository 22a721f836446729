// Ranks of one process for the native tests: random inputs, a round on all ranks, and what it has to come to.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "moe_a2a.h"

#define CHECK_CUDA(done)                                                                         \
  do {                                                                                           \
    const cudaError_t e = (done);                                                                \
    if (e != cudaSuccess) {                                                                      \
      std::fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #done, cudaGetErrorString(e)); \
      std::exit(2);                                                                              \
    }                                                                                            \
  } while (0)
#define CHECK_A2A(done)                                                                         \
  do {                                                                                          \
    if ((done) != MOE_A2A_OK) {                                                                 \
      moe_a2a_error e;                                                                          \
      moe_a2a_last_error(&e);                                                                   \
      std::fprintf(stderr, "%s:%d: %s: %s %s\n", __FILE__, __LINE__, #done, e.call, e.message); \
      std::exit(2);                                                                             \
    }                                                                                           \
  } while (0)

inline float widen(uint16_t v) {
  const uint32_t bits = static_cast<uint32_t>(v) << 16;
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}
inline uint16_t roundToBf16(float f) {
  uint32_t bits;
  std::memcpy(&bits, &f, 4);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// The expert of the tests: scales by a power of two that depends on the rank, which is exact. Like many kernels it lets
// the next one take its place before it has done anything.
__global__ void expertKernel(const uint16_t *recv, const int32_t *counts, uint16_t *out, int maxTokens, int hidden,
                             int rank) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  cudaTriggerProgrammaticLaunchCompletion();
#endif
  const int source = blockIdx.y;
  const float scale = 1.0f / static_cast<float>(1 << rank % 4);
  for (int row = blockIdx.x; row < counts[source]; row += gridDim.x) {
    const int64_t at = (static_cast<int64_t>(source) * maxTokens + row) * hidden;
    for (int h = threadIdx.x; h < hidden; h += blockDim.x) {
      const float x = __uint_as_float(static_cast<uint32_t>(recv[at + h]) << 16) * scale;
      const uint32_t bits = __float_as_uint(x);
      out[at + h] = static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    }
  }
}

struct RankMemory {
  int device = 0;
  moe_a2a_rank *rank = nullptr;
  uint64_t window = 0, own = 0, stream = 0;
  int32_t *ids = nullptr;
  uint16_t *hidden = nullptr;
  uint8_t *extra = nullptr;
  int32_t *stats = nullptr;
  uint16_t *output = nullptr;
  uint16_t *offered = nullptr;  // expert output outside the window
  int32_t *count = nullptr;
  uint64_t capture = 0;  // what phases are enqueued for
};

struct World {
  moe_a2a_config config{};
  moe_a2a_layout layout{};
  int hidden, extraBytes, statsLength;
  std::vector<RankMemory> ranks;

  World(int R, int E, int K, int M, int H, int extra, int stats, int devices, int lanes = 1, int fill = 1,
        int timeoutMs = 5000, int wire = 0, int maxSms = 0, int alone = 0)
      : hidden(H), extraBytes(extra), statsLength(stats) {
    config = {sizeof(config), R, E, K, M, H * 2 + K * 4 + extra, H * 2, stats, 0, timeoutMs, lanes};
    layout.struct_size = sizeof(layout);
    if (moe_a2a_plan(&config, &layout)) std::exit(2);
    ranks.resize(R);
    std::vector<uint64_t> windows(R);
    std::vector<int32_t> where(R);
    for (int r = 0; r < R; r++) {
      RankMemory &m = ranks[r];
      m.device = where[r] = r % devices;
      moe_a2a_rank_options options{
          sizeof(options),       r,   m.device, 0xfffffffeu, maxSms, fill, alone ? 1 : (R + devices - 1) / devices,
          MOE_A2A_NOT_SHAREABLE, wire};
      CHECK_A2A(moe_a2a_rank_create(&config, &options, &m.rank));
      uint64_t bytes;
      CHECK_A2A(moe_a2a_rank_window(m.rank, &m.window, &bytes));
      CHECK_A2A(moe_a2a_rank_private(m.rank, &m.own, &bytes));
      CHECK_A2A(moe_a2a_rank_stream(m.rank, &m.stream));
      windows[r] = m.window;
      CHECK_CUDA(cudaSetDevice(m.device));
      CHECK_CUDA(cudaMalloc(&m.ids, static_cast<size_t>(M) * K * 4));
      CHECK_CUDA(cudaMalloc(&m.hidden, static_cast<size_t>(M) * H * 2));
      CHECK_CUDA(cudaMalloc(&m.extra, static_cast<size_t>(M) * extra + 16));
      CHECK_CUDA(cudaMalloc(&m.stats, stats * 4 + 4));
      CHECK_CUDA(cudaMalloc(&m.output, static_cast<size_t>(M) * H * 2));
      CHECK_CUDA(cudaMalloc(&m.offered, static_cast<size_t>(R) * M * H * 2));
      CHECK_CUDA(cudaMalloc(&m.count, 4));
    }
    for (RankMemory &m : ranks) CHECK_A2A(moe_a2a_rank_connect(m.rank, windows.data(), where.data()));
  }
  ~World() {
    for (RankMemory &m : ranks) CHECK_A2A(moe_a2a_drain(m.rank));
    for (RankMemory &m : ranks) {
      CHECK_CUDA(cudaSetDevice(m.device));
      for (void *p : {(void *)m.ids, (void *)m.hidden, (void *)m.extra, (void *)m.stats, (void *)m.output,
                      (void *)m.offered, (void *)m.count})
        CHECK_CUDA(cudaFree(p));
      moe_a2a_rank_destroy(m.rank);
    }
  }
  int owner(int id) const {
    const int base = config.num_experts / config.ep_size, extra = config.num_experts % config.ep_size,
              boundary = extra * (base + 1);
    return id < boundary ? id / (base + 1) : extra + (id - boundary) / base;
  }
};
