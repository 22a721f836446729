// A kernel that keeps storing to a window and loading from it, and what its host needs.
#pragma once

#include <chrono>
#include <thread>

#include "world.cuh"

constexpr int kPumpWords = 4096;

// Goes on until the word `stop` is set; `beats` tells the host that it does, `wrong` counts what was not read as
// stored.
__global__ void pumpKernel(volatile uint32_t *data, const volatile uint32_t *stop, volatile uint32_t *beats,
                           uint32_t *wrong, uint64_t limitNs) {
  const auto now = [] {
    uint64_t t;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t));
    return t;
  };
  const uint64_t start = now();
  for (uint32_t turn = 1;; turn++) {
    for (int i = threadIdx.x; i < kPumpWords; i += blockDim.x) data[i] = turn ^ i;
    __threadfence_system();
    __syncthreads();
    for (int i = threadIdx.x; i < kPumpWords; i += blockDim.x) {
      const uint32_t j = kPumpWords - 1 - i;
      if (data[j] != (turn ^ j)) atomicAdd(wrong, 1);
    }
    __syncthreads();
    bool isOver = false;
    if (threadIdx.x == 0) {
      *beats = turn;
      __threadfence_system();
      const bool isLate = now() - start > limitNs;
      if (isLate) atomicAdd(wrong, 1 << 20);
      isOver = isLate || *stop != 0;
    }
    if (__syncthreads_or(isOver)) return;
  }
}

inline void upload(uint64_t target, const void *source, size_t bytes, cudaStream_t stream) {
  CHECK_CUDA(cudaMemcpyAsync(reinterpret_cast<void *>(target), source, bytes, cudaMemcpyHostToDevice, stream));
  CHECK_CUDA(cudaStreamSynchronize(stream));
}
inline void download(void *target, uint64_t source, size_t bytes, cudaStream_t stream) {
  CHECK_CUDA(cudaMemcpyAsync(target, reinterpret_cast<void *>(source), bytes, cudaMemcpyDeviceToHost, stream));
  CHECK_CUDA(cudaStreamSynchronize(stream));
}

struct Pump {
  cudaStream_t stream, side;
  volatile uint32_t *beats;
  uint32_t *wrong;

  Pump() {
    CHECK_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    CHECK_CUDA(cudaStreamCreateWithFlags(&side, cudaStreamNonBlocking));
    void *mapped = nullptr;
    CHECK_CUDA(cudaHostAlloc(&mapped, sizeof(uint32_t), cudaHostAllocMapped));
    beats = static_cast<volatile uint32_t *>(mapped);
    *beats = 0;
    CHECK_CUDA(cudaMalloc(&wrong, sizeof(uint32_t)));
    CHECK_CUDA(cudaMemset(wrong, 0, sizeof(uint32_t)));
    CHECK_CUDA(cudaDeviceSynchronize());
  }
  void start(uint64_t data, uint64_t stop, int seconds) {
    pumpKernel<<<1, 256, 0, stream>>>(reinterpret_cast<uint32_t *>(data), reinterpret_cast<uint32_t *>(stop), beats,
                                      wrong, seconds * 1000000000ull);
    CHECK_CUDA(cudaGetLastError());
  }
  bool goesOn() const {
    const uint32_t before = *beats;
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    while (*beats - before < 100) {
      if (std::chrono::steady_clock::now() > limit) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
  }
  uint32_t countWrong() const {
    uint32_t count = 1;
    download(&count, reinterpret_cast<uint64_t>(wrong), sizeof count, side);
    return count;
  }
};
