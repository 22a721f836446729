// Kernels of others, which hold most of a GPU meanwhile: blocks of a grid begin when there is room, and far apart.
#pragma once

#include "world.cuh"

// As many threads as an SM has room for, in two blocks.
constexpr int kOccupyingThreads = 1024, kOccupyingBlocks = 2;
// SMs that are left to the ranks.
constexpr int kFreeSms = 2;

__global__ void __launch_bounds__(kOccupyingThreads, kOccupyingBlocks) occupy(long long clocks) {
  const long long start = clock64();
  while (clock64() - start < clocks) __nanosleep(1000);
}

// Holds the GPUs of a world for some time, again and again.
class Occupant {
 public:
  Occupant(const World &w, int microseconds) : microseconds_(microseconds) {
    if (microseconds == 0) return;
    for (const RankMemory &mem : w.ranks) {
      bool isNew = true;
      for (const Place &place : places_) isNew &= place.device != mem.device;
      if (!isNew) continue;
      Place place{mem.device};
      cudaDeviceProp properties;
      CHECK_CUDA(cudaSetDevice(place.device));
      CHECK_CUDA(cudaGetDeviceProperties(&properties, place.device));
      place.blocks = kOccupyingBlocks * std::max(1, properties.multiProcessorCount - kFreeSms);
      CHECK_CUDA(cudaStreamCreateWithFlags(&place.stream, cudaStreamNonBlocking));
      CHECK_CUDA(cudaEventCreateWithFlags(&place.over, cudaEventDisableTiming));
      places_.push_back(place);
    }
  }
  ~Occupant() {
    for (const Place &place : places_) {
      CHECK_CUDA(cudaStreamSynchronize(place.stream));
      CHECK_CUDA(cudaEventDestroy(place.over));
      CHECK_CUDA(cudaStreamDestroy(place.stream));
    }
  }
  Occupant(const Occupant &) = delete;
  Occupant &operator=(const Occupant &) = delete;

  void begin() {
    if (places_.empty()) return;
    constexpr long long kClocksPerMicrosecond = 1900;
    for (const Place &place : places_) {
      CHECK_CUDA(cudaSetDevice(place.device));
      occupy<<<place.blocks, kOccupyingThreads, 0, place.stream>>>(microseconds_ * kClocksPerMicrosecond);
      CHECK_CUDA(cudaGetLastError());
      CHECK_CUDA(cudaEventRecord(place.over, place.stream));
    }
    stays_++;
  }
  // Notes whether the GPUs are still held, now that all has been enqueued.
  void look() {
    bool isThere = true;
    for (const Place &place : places_) isThere &= cudaEventQuery(place.over) == cudaErrorNotReady;
    if (!places_.empty() && isThere) seen_++;
  }
  // Whether it was there for most of what was enqueued beside it.
  bool wasThere() const { return seen_ * 2 >= stays_; }

 private:
  struct Place {
    int device;
    int blocks = 0;
    cudaStream_t stream = nullptr;
    cudaEvent_t over = nullptr;
  };
  std::vector<Place> places_;
  long long microseconds_;
  int stays_ = 0, seen_ = 0;
};
