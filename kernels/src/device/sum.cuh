// Sums of rows in float32: widened exactly, added in order, rounded once to nearest even. Nothing is flushed to zero,
// contracted or saturated.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "memory.cuh"

namespace moe_a2a {

template <int DType>
struct Element;
template <>
struct Element<MOE_A2A_FLOAT32> {
  using Bits = uint32_t;
  static constexpr Bits kNaN = 0x7fc00000;
  static __device__ __forceinline__ float widen(Bits v) { return __uint_as_float(v); }
  static __device__ __forceinline__ Bits round(float v) { return __float_as_uint(v); }
};
template <>
struct Element<MOE_A2A_FLOAT16> {
  using Bits = uint16_t;
  static constexpr Bits kNaN = 0x7e00;
  static __device__ __forceinline__ float widen(Bits v) { return __half2float(__ushort_as_half(v)); }
  static __device__ __forceinline__ Bits round(float v) { return __half_as_ushort(__float2half_rn(v)); }
};
template <>
struct Element<MOE_A2A_BFLOAT16> {
  using Bits = uint16_t;
  static constexpr Bits kNaN = 0x7fc0;
  static __device__ __forceinline__ float widen(Bits v) { return __uint_as_float(static_cast<uint32_t>(v) << 16); }
  static __device__ __forceinline__ Bits round(float v) { return __bfloat16_as_ushort(__float2bfloat16_rn(v)); }
};

// Element `i` of the 16 bytes in `v`.
template <int DType>
__device__ __forceinline__ float elementOf(const Vector<4> &v, int i) {
  if constexpr (sizeof(typename Element<DType>::Bits) == 4) return Element<DType>::widen(v.v[i]);
  else return Element<DType>::widen(static_cast<uint16_t>(v.v[i / 2] >> (16 * (i % 2))));
}

// Sums 16 bytes at offset `at` of `count` rows, and stores them as `OutDType` from element `at / size` on.
template <int DType, int OutDType>
__device__ __forceinline__ void sumVector(const uint8_t *const *rows, int count, int64_t at, uint8_t *output) {
  constexpr int kElements = 16 / sizeof(typename Element<DType>::Bits);
  constexpr int kAhead = 4;
  float sum[kElements];
#pragma unroll
  for (int i = 0; i < kElements; i++) sum[i] = 0.0f;
  for (int first = 0; first < count; first += kAhead) {
    Vector<4> held[kAhead];
#pragma unroll
    for (int j = 0; j < kAhead; j++) {
      if (first + j < count) held[j].load(rows[first + j] + at);
    }
#pragma unroll
    for (int j = 0; j < kAhead; j++) {
      if (first + j >= count) break;
#pragma unroll
      for (int i = 0; i < kElements; i++) sum[i] = __fadd_rn(sum[i], elementOf<DType>(held[j], i));
    }
  }
  using Out = typename Element<OutDType>::Bits;
  constexpr int kOutBytes = kElements * sizeof(Out);
  uint8_t *target = output + at / static_cast<int64_t>(sizeof(typename Element<DType>::Bits)) * sizeof(Out);
  if constexpr (kOutBytes == 8) {
    Vector<3> packed;
    packed.v = 0;
#pragma unroll
    for (int i = 0; i < kElements; i++) packed.v |= static_cast<uint64_t>(Element<OutDType>::round(sum[i])) << (16 * i);
    packed.store(target);
  } else {
    constexpr int kPerVector = 16 / sizeof(Out);
#pragma unroll
    for (int v = 0; v < kOutBytes / 16; v++) {
      Vector<4> packed{{0, 0, 0, 0}};
#pragma unroll
      for (int i = 0; i < kPerVector; i++) {
        constexpr int kPerWord = 4 / sizeof(Out);
        packed.v[i / kPerWord] |= static_cast<uint32_t>(Element<OutDType>::round(sum[v * kPerVector + i]))
                                  << (8 * sizeof(Out) * (i % kPerWord));
      }
      packed.store(target + 16 * v);
    }
  }
}

// Sums element `i` of `count` rows, where rows or output are not aligned.
template <int DType, int OutDType>
__device__ __forceinline__ void sumElement(const uint8_t *const *rows, int count, int64_t i, uint8_t *output) {
  using In = typename Element<DType>::Bits;
  using Out = typename Element<OutDType>::Bits;
  constexpr int kLog2 = sizeof(In) == 4 ? 2 : 1;
  float sum = 0.0f;
  for (int j = 0; j < count; j++) {
    Vector<kLog2> held;
    held.load(rows[j] + i * sizeof(In));
    sum = __fadd_rn(sum, Element<DType>::widen(static_cast<In>(held.v)));
  }
  reinterpret_cast<Out *>(output)[i] = Element<OutDType>::round(sum);
}

}  // namespace moe_a2a
