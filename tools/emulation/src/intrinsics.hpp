// What device code calls, for kernels that are compiled for the CPU. Included ahead of every kernel's source.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <type_traits>

#include "device.hpp"
#include "simt.hpp"

#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __grid_constant__
#define __grid_constant__
#undef __global__
#define __global__
#undef __device__
#define __device__
#undef __forceinline__
#define __forceinline__ inline
#undef __noinline__
#define __noinline__
#define threadIdx (::emulation::threadIndex())
#define blockIdx (::emulation::self().block->index)
#define blockDim (::emulation::self().block->size)
#define gridDim (::emulation::self().block->kernel->grid)

namespace emulation {

inline uint3 threadIndex() { return {static_cast<unsigned>(self().index), 0, 0}; }

template <typename T>
T &shared() {
  return *static_cast<T *>(sharedMemory(sizeof(T)));
}

template <typename T, typename Change>
T change(T *at, Change to) {
  maybeYield();
  settle(at, sizeof(T));
  const T old = *at;
  *at = to(old);
  note();
  return old;
}

template <typename T>
uint64_t bitsOf(T value) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return bits;
}

}  // namespace emulation

template <typename A, typename B>
std::common_type_t<A, B> min(A a, B b) {
  return static_cast<std::common_type_t<A, B>>(b) < static_cast<std::common_type_t<A, B>>(a) ? b : a;
}
template <typename A, typename B>
std::common_type_t<A, B> max(A a, B b) {
  return static_cast<std::common_type_t<A, B>>(a) < static_cast<std::common_type_t<A, B>>(b) ? b : a;
}

inline void cudaTriggerProgrammaticLaunchCompletion() { emulation::triggerNext(); }
inline void __syncthreads() { emulation::barrier(); }
inline int __syncthreads_or(int value) { return emulation::barrierOr(value); }
inline int __syncthreads_and(int value) { return emulation::barrierAnd(value); }
inline void __syncwarp() { emulation::meet(emulation::Meeting::kSyncWarp, 0, nullptr); }
inline void __nanosleep(unsigned) { emulation::yield(); }
inline long long clock64() { return static_cast<long long>(emulation::now()); }

template <typename T>
T __shfl_sync(unsigned, T value, int source) {
  const uint64_t bits = emulation::meet(emulation::Meeting::kShuffle, emulation::bitsOf(value),
                                        [&](const uint64_t *all, int) { return all[source & 31]; });
  T result;
  std::memcpy(&result, &bits, sizeof(T));
  return result;
}
inline unsigned __ballot_sync(unsigned, int value) {
  return static_cast<unsigned>(emulation::meet(emulation::Meeting::kBallot, value != 0, [](const uint64_t *all, int) {
    uint64_t mask = 0;
    for (int i = 0; i < 32; i++) mask |= all[i] << i;
    return mask;
  }));
}
// What all lanes' values come to, one after the other.
template <typename Fold>
uint64_t foldLanes(emulation::Meeting meeting, uint64_t value, Fold fold) {
  return emulation::meet(meeting, value, [&](const uint64_t *all, int) {
    uint64_t sum = all[0];
    for (int i = 1; i < 32; i++) sum = fold(sum, all[i]);
    return sum;
  });
}
inline int __all_sync(unsigned, int value) {
  return static_cast<int>(foldLanes(emulation::Meeting::kAll, value != 0, std::bit_and<uint64_t>()));
}
inline int __any_sync(unsigned, int value) {
  return static_cast<int>(foldLanes(emulation::Meeting::kAny, value != 0, std::bit_or<uint64_t>()));
}
template <typename T>
T __reduce_add_sync(unsigned, T value) {
  return static_cast<T>(foldLanes(emulation::Meeting::kReduceAdd, emulation::bitsOf(value), std::plus<uint64_t>()));
}
template <typename T>
T __reduce_or_sync(unsigned, T value) {
  return static_cast<T>(foldLanes(emulation::Meeting::kReduceOr, emulation::bitsOf(value), std::bit_or<uint64_t>()));
}
template <typename T>
T __reduce_max_sync(unsigned, T value) {
  const auto larger = [](uint64_t a, uint64_t b) {
    return emulation::bitsOf(std::max(static_cast<T>(a), static_cast<T>(b)));
  };
  return static_cast<T>(foldLanes(emulation::Meeting::kReduceMax, emulation::bitsOf(value), larger));
}
template <typename T>
unsigned __match_any_sync(unsigned, T value) {
  return static_cast<unsigned>(
      emulation::meet(emulation::Meeting::kMatch, emulation::bitsOf(value), [](const uint64_t *all, int lane) {
        uint64_t mask = 0;
        for (int i = 0; i < 32; i++) mask |= static_cast<uint64_t>(all[i] == all[lane]) << i;
        return mask;
      }));
}

inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __uint_as_float(unsigned v) {
  float f;
  std::memcpy(&f, &v, 4);
  return f;
}
inline unsigned __float_as_uint(float f) {
  unsigned v;
  std::memcpy(&v, &f, 4);
  return v;
}

template <typename T, typename U>
T atomicAdd(T *at, U value) {
  return emulation::change(at, [&](T old) { return static_cast<T>(old + static_cast<T>(value)); });
}
template <typename T, typename U>
T atomicOr(T *at, U value) {
  return emulation::change(at, [&](T old) { return static_cast<T>(old | static_cast<T>(value)); });
}
template <typename T, typename U>
T atomicMin(T *at, U value) {
  return emulation::change(at, [&](T old) { return std::min(old, static_cast<T>(value)); });
}
template <typename T, typename U>
T atomicMax(T *at, U value) {
  return emulation::change(at, [&](T old) { return std::max(old, static_cast<T>(value)); });
}
template <typename T, typename U, typename V>
T atomicCAS(T *at, U compare, V value) {
  return emulation::change(at, [&](T old) { return old == static_cast<T>(compare) ? static_cast<T>(value) : old; });
}
