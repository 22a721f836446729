// Loads, stores and fences, by the PTX memory model. Windows are never read through the non-coherent path, and nothing
// here relies on `volatile`.
#pragma once

#include <cstdint>

#include "../wire.hpp"

namespace moe_a2a {

template <typename T>
__device__ __forceinline__ uint32_t loadRelaxedSys(const T *p) {
  static_assert(sizeof(T) == 4);
  uint32_t v;
  asm volatile("ld.relaxed.sys.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
  return v;
}
template <typename T>
__device__ __forceinline__ void storeRelaxedSys(T *p, uint32_t v) {
  static_assert(sizeof(T) == 4);
  asm volatile("st.relaxed.sys.global.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}
template <typename T>
__device__ __forceinline__ void storeReleaseSys(T *p, uint32_t v) {
  static_assert(sizeof(T) == 4);
  asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}
__device__ __forceinline__ uint64_t loadAcquireSys64(const uint64_t *p) {
  uint64_t v;
  asm volatile("ld.acquire.sys.global.u64 %0, [%1];" : "=l"(v) : "l"(p) : "memory");
  return v;
}
__device__ __forceinline__ uint64_t loadRelaxedSys64(const void *p) {
  uint64_t v;
  asm volatile("ld.relaxed.sys.global.u64 %0, [%1];" : "=l"(v) : "l"(p) : "memory");
  return v;
}
__device__ __forceinline__ void storeRelaxedSys64(uint64_t *p, uint64_t v) {
  asm volatile("st.relaxed.sys.global.u64 [%0], %1;" ::"l"(p), "l"(v) : "memory");
}
// Two words that belong together, the first of which is at a multiple of 8.
template <typename T>
__device__ __forceinline__ void storePair(T *first, uint32_t low, uint32_t high) {
  static_assert(sizeof(T) == 4);
  storeRelaxedSys64(reinterpret_cast<uint64_t *>(first), low | static_cast<uint64_t>(high) << 32);
}
// What threads of the same block change meanwhile.
__device__ __forceinline__ int32_t loadRelaxedCta(const int32_t *p) {
  int32_t v;
  asm volatile("ld.relaxed.cta.s32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
  return v;
}
__device__ __forceinline__ uint32_t loadRelaxedGpu(const uint32_t *p) {
  uint32_t v;
  asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
  return v;
}
__device__ __forceinline__ uint64_t loadRelaxedGpu64(const uint64_t *p) {
  uint64_t v;
  asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(v) : "l"(p) : "memory");
  return v;
}
__device__ __forceinline__ void storeRelaxedGpu64(uint64_t *p, uint64_t v) {
  asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(p), "l"(v) : "memory");
}
__device__ __forceinline__ uint32_t addRelaxedGpu(uint32_t *p, uint32_t v) {
  uint32_t old;
  asm volatile("atom.add.relaxed.gpu.global.u32 %0, [%1], %2;" : "=r"(old) : "l"(p), "r"(v) : "memory");
  return old;
}
__device__ __forceinline__ void addReleaseGpu(uint32_t *p, uint32_t v) {
  asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}
__device__ __forceinline__ uint32_t loadAcquireGpu(const uint32_t *p) {
  uint32_t v;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
  return v;
}
// Whole 16 bytes at once, as the memory model grants for .b128 alone. What is read later is ordered after it.
__device__ __forceinline__ Packet loadPacket(const uint8_t *p) {
  uint64_t low, high;
  asm volatile("{ .reg .b128 v; ld.acquire.sys.global.b128 v, [%2]; mov.b128 {%0, %1}, v; }"
               : "=l"(low), "=l"(high)
               : "l"(p)
               : "memory");
  return {static_cast<uint32_t>(low),
          {static_cast<uint32_t>(low >> 32), static_cast<uint32_t>(high), static_cast<uint32_t>(high >> 32)}};
}
__device__ __forceinline__ void storePacket(uint8_t *p, const Packet &packet) {
  const uint64_t low = packet.round | static_cast<uint64_t>(packet.words[0]) << 32;
  const uint64_t high = packet.words[1] | static_cast<uint64_t>(packet.words[2]) << 32;
  asm volatile("{ .reg .b128 v; mov.b128 v, {%1, %2}; st.relaxed.sys.global.b128 [%0], v; }" ::"l"(p), "l"(low),
               "l"(high)
               : "memory");
}
// A look at it, which orders nothing.
__device__ __forceinline__ Packet peekPacket(const uint8_t *p) {
  uint64_t low, high;
  asm volatile("{ .reg .b128 v; ld.relaxed.sys.global.b128 v, [%2]; mov.b128 {%0, %1}, v; }"
               : "=l"(low), "=l"(high)
               : "l"(p)
               : "memory");
  return {static_cast<uint32_t>(low),
          {static_cast<uint32_t>(low >> 32), static_cast<uint32_t>(high), static_cast<uint32_t>(high >> 32)}};
}
// The same for a packet of a row, which vouches for itself alone: nothing is ordered after it.
__device__ __forceinline__ RowPacket loadRowPacket(const uint8_t *p) {
  RowPacket packet;
  asm volatile("{ .reg .b128 v; ld.relaxed.sys.global.b128 v, [%2]; mov.b128 {%0, %1}, v; }"
               : "=l"(packet.data), "=l"(packet.tag)
               : "l"(p)
               : "memory");
  return packet;
}
// What is read later is ordered after it.
__device__ __forceinline__ RowPacket loadFlag(const uint8_t *p) {
  RowPacket packet;
  asm volatile("{ .reg .b128 v; ld.acquire.sys.global.b128 v, [%2]; mov.b128 {%0, %1}, v; }"
               : "=l"(packet.data), "=l"(packet.tag)
               : "l"(p)
               : "memory");
  return packet;
}
__device__ __forceinline__ void storeRowPacket(uint8_t *p, uint64_t data, uint64_t tag) {
  asm volatile("{ .reg .b128 v; mov.b128 v, {%1, %2}; st.relaxed.sys.global.b128 [%0], v; }" ::"l"(p), "l"(data),
               "l"(tag)
               : "memory");
}
__device__ __forceinline__ void fenceSys() { asm volatile("fence.acq_rel.sys;" ::: "memory"); }
__device__ __forceinline__ void fenceGpu() { asm volatile("fence.acq_rel.gpu;" ::: "memory"); }

__device__ __forceinline__ uint64_t globalNanoseconds() {
  uint64_t t;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t)::"memory");
  return t;
}
__device__ __forceinline__ void delay(uint32_t nanoseconds) {
  if (nanoseconds == 0) return;
  const uint64_t end = globalNanoseconds() + nanoseconds;
  while (globalNanoseconds() < end) __nanosleep(100);
}

// Programmatic dependent launch: the next kernel may be set up, and this one goes on once the one before is complete.
__device__ __forceinline__ void waitForEarlierKernel() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
__device__ __forceinline__ void letNextKernelStart() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// One access of 1, 2, 4, 8 or 16 bytes. Plain coherent accesses: fences and flags order them.
template <int Log2>
struct Vector;
template <>
struct Vector<0> {
  uint32_t v;
  __device__ __forceinline__ void load(const uint8_t *p) {
    asm volatile("ld.global.u8 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
  }
  __device__ __forceinline__ void store(uint8_t *p) const {
    asm volatile("st.global.u8 [%0], %1;" ::"l"(p), "r"(v) : "memory");
  }
};
template <>
struct Vector<1> {
  uint16_t v;
  __device__ __forceinline__ void load(const uint8_t *p) {
    asm volatile("ld.global.u16 %0, [%1];" : "=h"(v) : "l"(p) : "memory");
  }
  __device__ __forceinline__ void store(uint8_t *p) const {
    asm volatile("st.global.u16 [%0], %1;" ::"l"(p), "h"(v) : "memory");
  }
};
template <>
struct Vector<2> {
  uint32_t v;
  __device__ __forceinline__ void load(const uint8_t *p) {
    asm volatile("ld.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
  }
  __device__ __forceinline__ void store(uint8_t *p) const {
    asm volatile("st.global.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
  }
};
template <>
struct Vector<3> {
  uint64_t v;
  __device__ __forceinline__ void load(const uint8_t *p) {
    asm volatile("ld.global.u64 %0, [%1];" : "=l"(v) : "l"(p) : "memory");
  }
  __device__ __forceinline__ void store(uint8_t *p) const {
    asm volatile("st.global.u64 [%0], %1;" ::"l"(p), "l"(v) : "memory");
  }
};
template <>
struct Vector<4> {
  uint32_t v[4];
  __device__ __forceinline__ void load(const uint8_t *p) {
    asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
                 : "l"(p)
                 : "memory");
  }
  __device__ __forceinline__ void store(uint8_t *p) const {
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(p), "r"(v[0]), "r"(v[1]), "r"(v[2]), "r"(v[3])
                 : "memory");
  }
};

}  // namespace moe_a2a
