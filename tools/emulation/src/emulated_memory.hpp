// src/device/memory.cuh for kernels that run on the CPU.
#pragma once

#include "wire.hpp"
#include "intrinsics.hpp"

namespace moe_a2a {

template <typename T>
T emulatedLoad(const void *p) {
  T v;
  ::emulation::load(&v, p, sizeof(T));
  return v;
}
template <typename T>
void emulatedStore(void *p, const T &v) {
  ::emulation::store(p, &v, sizeof(T));
}

template <typename T>
uint32_t loadRelaxedSys(const T *p) {
  static_assert(sizeof(T) == 4);
  return emulatedLoad<uint32_t>(p);
}
template <typename T>
void storeRelaxedSys(T *p, uint32_t v) {
  static_assert(sizeof(T) == 4);
  emulatedStore(p, v);
}
template <typename T>
void storeReleaseSys(T *p, uint32_t v) {
  ::emulation::fence();
  emulatedStore(p, v);
}
inline uint32_t loadAcquireSys(const uint32_t *p) { return emulatedLoad<uint32_t>(p); }
inline uint64_t loadAcquireSys64(const uint64_t *p) { return emulatedLoad<uint64_t>(p); }
inline uint64_t loadRelaxedSys64(const void *p) { return emulatedLoad<uint64_t>(p); }
inline void storeRelaxedSys64(uint64_t *p, uint64_t v) { emulatedStore(p, v); }
template <typename T>
void storePair(T *first, uint32_t low, uint32_t high) {
  static_assert(sizeof(T) == 4);
  emulatedStore(first, low | static_cast<uint64_t>(high) << 32);
}
inline int32_t loadRelaxedCta(const int32_t *p) { return emulatedLoad<int32_t>(p); }
inline uint32_t loadRelaxedGpu(const uint32_t *p) { return emulatedLoad<uint32_t>(p); }
inline uint64_t loadRelaxedGpu64(const uint64_t *p) { return emulatedLoad<uint64_t>(p); }
inline void storeRelaxedGpu64(uint64_t *p, uint64_t v) { emulatedStore(p, v); }
inline uint32_t addRelaxedGpu(uint32_t *p, uint32_t v) { return atomicAdd(p, v); }
inline void addReleaseGpu(uint32_t *p, uint32_t v) {
  ::emulation::fence();
  atomicAdd(p, v);
}
inline uint32_t loadAcquireGpu(const uint32_t *p) { return emulatedLoad<uint32_t>(p); }
inline Packet loadPacket(const uint8_t *p) { return emulatedLoad<Packet>(p); }
inline void storePacket(uint8_t *p, const Packet &packet) { emulatedStore(p, packet); }
inline Packet peekPacket(const uint8_t *p) { return emulatedLoad<Packet>(p); }
inline RowPacket loadRowPacket(const uint8_t *p) { return emulatedLoad<RowPacket>(p); }
inline RowPacket loadFlag(const uint8_t *p) { return emulatedLoad<RowPacket>(p); }
inline void storeRowPacket(uint8_t *p, uint64_t data, uint64_t tag) { emulatedStore(p, RowPacket{data, tag}); }
inline void fenceSys() { ::emulation::fence(); }
inline void fenceGpu() { ::emulation::fence(); }
inline uint64_t globalNanoseconds() {
  ::emulation::maybeYield();
  return ::emulation::now();
}
inline void delay(uint32_t nanoseconds) {
  if (nanoseconds == 0) return;
  const uint64_t end = globalNanoseconds() + nanoseconds;
  while (globalNanoseconds() < end) __nanosleep(100);
}
inline void waitForEarlierKernel() { ::emulation::waitForEarlier(); }
inline void letNextKernelStart() { ::emulation::triggerNext(); }

template <int Log2>
struct Vector {
  using Value =
      std::conditional_t<Log2 == 0, uint32_t,
                         std::conditional_t<Log2 == 1, uint16_t, std::conditional_t<Log2 == 2, uint32_t, uint64_t>>>;
  Value v;
  void load(const uint8_t *p) {
    v = 0;
    ::emulation::load(&v, p, 1 << Log2);
  }
  void store(uint8_t *p) const { ::emulation::store(p, &v, 1 << Log2); }
};
template <>
struct Vector<4> {
  uint32_t v[4];
  void load(const uint8_t *p) { ::emulation::load(v, p, 16); }
  void store(uint8_t *p) const { ::emulation::store(p, v, 16); }
};

}  // namespace moe_a2a
