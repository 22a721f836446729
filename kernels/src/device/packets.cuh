// Rows in packets of 16 bytes, each stored and loaded whole: 8 bytes of the row and the tag of the round, so that each
// vouches for itself. No fence comes before anything, and nothing is wiped, as no tag comes again.
#pragma once

#include "wait.cuh"

namespace moe_a2a {

// Packets that a thread has under way at once.
constexpr int kHeldPackets = 2;
// Looks, and turns of looks, before a block sees whether others of its grid have not begun.
constexpr int kPatience = 64;

// How up to 8 bytes are accessed: 0 for all at once, else bytes * 2, plus 1 where they take more than accesses of 4.
struct Width {
  int code;

  Width() = default;
  // `left` bytes of the row or more; `log2` is the widest access that address and row length allow.
  __device__ __forceinline__ Width(int left, int log2)
      : code(log2 >= 3 ? 0 : min(static_cast<int>(kPacketDataBytes), left) * 2 + (log2 < 2)) {}
};

__device__ __noinline__ inline uint64_t loadPieces(const uint8_t *from, int code) {
  uint64_t data = 0;
  const int bytes = code >> 1, step = code & 1 ? 1 : 4;
  for (int at = 0; at < bytes; at += step) {
    uint64_t piece;
    if (step == 4) {
      Vector<2> v;
      v.load(from + at);
      piece = v.v;
    } else {
      Vector<0> v;
      v.load(from + at);
      piece = v.v;
    }
    data |= piece << (8 * at);
  }
  return data;
}
__device__ __noinline__ inline void storePieces(uint8_t *to, uint64_t data, int code) {
  const int bytes = code >> 1, step = code & 1 ? 1 : 4;
  for (int at = 0; at < bytes; at += step) {
    if (step == 4) Vector<2>{static_cast<uint32_t>(data >> (8 * at))}.store(to + at);
    else Vector<0>{static_cast<uint32_t>(data >> (8 * at) & 0xff)}.store(to + at);
  }
}
__device__ __forceinline__ uint64_t loadUpTo8(const uint8_t *from, Width width) {
  if (width.code) return loadPieces(from, width.code);
  Vector<3> v;
  v.load(from);
  return v.v;
}
__device__ __forceinline__ void storeUpTo8(uint8_t *to, uint64_t data, Width width) {
  if (width.code) storePieces(to, data, width.code);
  else Vector<3>{data}.store(to);
}

// Where a slot's packets lie in a window: [rank, slot, packet].
__device__ __forceinline__ uint64_t packetsAt(const PhaseParams &p, const PacketParams &packets, uint64_t area,
                                              int rank, int slot) {
  return area + static_cast<uint32_t>((rank * p.maxTokens + slot) * packets.perRow) * kPacketBytes;
}

}  // namespace moe_a2a
