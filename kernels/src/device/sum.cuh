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
  static constexpr int kDType = MOE_A2A_FLOAT32;
  using Bits = uint32_t;
  static constexpr Bits kNaN = 0x7fc00000;
  static __device__ __forceinline__ float widen(Bits v) { return __uint_as_float(v); }
  static __device__ __forceinline__ Bits round(float v) { return __float_as_uint(v); }
};
template <>
struct Element<MOE_A2A_FLOAT16> {
  static constexpr int kDType = MOE_A2A_FLOAT16;
  using Bits = uint16_t;
  static constexpr Bits kNaN = 0x7e00;
  static __device__ __forceinline__ float widen(Bits v) { return __half2float(__ushort_as_half(v)); }
  static __device__ __forceinline__ Bits round(float v) { return __half_as_ushort(__float2half_rn(v)); }
};
template <>
struct Element<MOE_A2A_BFLOAT16> {
  static constexpr int kDType = MOE_A2A_BFLOAT16;
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

template <int DType>
constexpr int kVectorElements = 16 / sizeof(typename Element<DType>::Bits);

// Calls `store` for the element type that `dtype` stands for: what few instructions depend on need not be compiled
// three times as a whole.
template <typename Store>
__device__ __forceinline__ void asDType(int dtype, Store store) {
  if (dtype == MOE_A2A_BFLOAT16) store(Element<MOE_A2A_BFLOAT16>());
  else if (dtype == MOE_A2A_FLOAT16) store(Element<MOE_A2A_FLOAT16>());
  else store(Element<MOE_A2A_FLOAT32>());
}

// Rounds `Count` sums to elements and stores them; `to` is aligned to all of them, up to 16 bytes.
template <typename Out, int Count>
__device__ __forceinline__ void storeSums(const float *sum, uint8_t *to) {
  using Bits = typename Out::Bits;
  constexpr int kPerWord = 4 / sizeof(Bits), kWords = Count / kPerWord;
  uint32_t words[kWords] = {};
#pragma unroll
  for (int i = 0; i < Count; i++) {
    words[i / kPerWord] |= static_cast<uint32_t>(Out::round(sum[i])) << (8 * sizeof(Bits) * (i % kPerWord));
  }
  if constexpr (kWords >= 4) {
#pragma unroll
    for (int w = 0; w < kWords; w += 4) {
      Vector<4>{{words[w], words[w + 1], words[w + 2], words[w + 3]}}.store(to + 4 * w);
    }
  } else if constexpr (kWords == 2) {
    Vector<3>{words[0] | static_cast<uint64_t>(words[1]) << 32}.store(to);
  } else {
    Vector<2>{words[0]}.store(to);
  }
}

// Columns of 16 bytes that a thread sums at once, and rows of each that it has under way.
constexpr int kSumColumns = 2, kSumAhead = 4;

// Sums kSumColumns times 16 bytes of `count` rows, `step` vectors apart from the `at`-th on, as far as there are `end`
// vectors; and stores them as elements of `outDtype`. `row` hands out where each row lies.
template <int DType, typename Row>
__device__ __forceinline__ void sumVectors(Row row, int count, int at, int step, int end, int outDtype,
                                           uint8_t *output) {
  constexpr int kElements = kVectorElements<DType>;
  float sum[kSumColumns][kElements] = {};
  for (int first = 0; first < count; first += kSumAhead) {
    Vector<4> held[kSumAhead][kSumColumns];
#pragma unroll
    for (int j = 0; j < kSumAhead; j++) {
      if (first + j >= count) break;
      const uint8_t *from = row(first + j) + static_cast<int64_t>(at) * 16;
#pragma unroll
      for (int c = 0; c < kSumColumns; c++) {
        if (at + c * step < end) held[j][c].load(from + c * step * 16);
      }
    }
#pragma unroll
    for (int j = 0; j < kSumAhead; j++) {
      if (first + j >= count) break;
#pragma unroll
      for (int c = 0; c < kSumColumns; c++) {
#pragma unroll
        for (int i = 0; i < kElements; i++) sum[c][i] = __fadd_rn(sum[c][i], elementOf<DType>(held[j][c], i));
      }
    }
  }
  asDType(outDtype, [&](auto out) {
    using Out = decltype(out);
    constexpr int kBytes = kElements * sizeof(typename Out::Bits);
#pragma unroll
    for (int c = 0; c < kSumColumns; c++) {
      if (at + c * step < end) storeSums<Out, kElements>(sum[c], output + static_cast<int64_t>(at + c * step) * kBytes);
    }
  });
}

// Sums element `i` of `count` rows, where rows or output are not aligned.
template <int DType, typename Row>
__device__ __forceinline__ void sumElement(Row row, int count, int64_t i, int outDtype, uint8_t *output) {
  using In = typename Element<DType>::Bits;
  constexpr int kLog2 = sizeof(In) == 4 ? 2 : 1;
  float sum = 0.0f;
  for (int j = 0; j < count; j++) {
    Vector<kLog2> held;
    held.load(row(j) + i * sizeof(In));
    sum = __fadd_rn(sum, Element<DType>::widen(static_cast<In>(held.v)));
  }
  asDType(outDtype, [&](auto out) {
    using Out = decltype(out);
    reinterpret_cast<typename Out::Bits *>(output)[i] = Out::round(sum);
  });
}

}  // namespace moe_a2a
