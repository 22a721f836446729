// The rows of a dispatch as packets: where they come from, where they go, and where they end.
#pragma once

#include "packets.cuh"
#include "route.cuh"
#include "vigil.cuh"

namespace moe_a2a {

// Where 8 bytes or fewer of a token's rows lie, which go in one packet.
struct Slice {
  uint8_t *at;  // in row 0
  int rowBytes;
  Width width;

  Slice() = default;
  __device__ __forceinline__ Slice(const DispatchParams &p, int packet, bool isSource) {
    int q = 0;
#pragma unroll
    for (int next = 1; next < MOE_A2A_MAX_PAYLOADS; next++) q += packet >= p.payloads[next].firstPacket;
    const PayloadParams &payload = p.payloads[q];
    const int offset = (packet - payload.firstPacket) * static_cast<int>(kPacketDataBytes);
    at = (isSource ? const_cast<uint8_t *>(payload.source) : p.phase.window + payload.target) + offset;
    rowBytes = payload.rowBytes;
    width = Width(rowBytes - offset, isSource ? payload.vectorLog2 : __ffs(rowBytes | 8) - 1);
  }
  __device__ __forceinline__ uint8_t *inRow(int64_t row) const { return at + row * rowBytes; }
};

// Outgoing work: one part of one token's rows.
struct Outgoing {
  int token, part, first, to;
  const uint8_t *from[kHeldPackets];
  Width widths[kHeldPackets];
  uint64_t data[kHeldPackets];

  __device__ __forceinline__ Outgoing(const DispatchParams &p, int item) {
    token = item / p.packets.sendSplits;
    part = item - token * p.packets.sendSplits;
    to = partStart(p.packets.sent, part + 1);
    plan(p, partStart(p.packets.sent, part) + static_cast<int>(threadIdx.x));
  }
  __device__ __forceinline__ void plan(const DispatchParams &p, int packet) {
    first = packet;
#pragma unroll
    for (int h = 0; h < kHeldPackets; h++) {
      if (!has(h)) continue;
      const Slice slice(p, first + h * kThreads, true);
      from[h] = slice.inRow(token);
      widths[h] = slice.width;
    }
  }
  __device__ __forceinline__ bool has(int h) const { return first + h * kThreads < to; }
  __device__ __forceinline__ void load() {
#pragma unroll
    for (int h = 0; h < kHeldPackets; h++) {
      if (has(h)) data[h] = loadUpTo8(from[h], widths[h]);
    }
  }
};

// Incoming work: one part of one slot's rows. Slots that may stay empty come last.
struct Incoming {
  int source, slot, first, to;
  const uint8_t *packets;
  uint8_t *target[kHeldPackets];
  Width widths[kHeldPackets];

  __device__ __forceinline__ Incoming(const DispatchParams &p, int item) {
    const PhaseParams &phase = p.phase;
    const int splits = p.packets.receiveSplits, row = item / splits, part = item - row * splits;
    slot = row / phase.ranks;
    source = row - slot * phase.ranks;
    to = partStart(p.packets.received, part + 1);
    packets = phase.window + packetsAt(phase, p.packets, phase.at.dispatch_packets, source, slot);
    plan(p, partStart(p.packets.received, part) + static_cast<int>(threadIdx.x));
  }
  __device__ __forceinline__ void plan(const DispatchParams &p, int packet) {
    first = packet;
#pragma unroll
    for (int h = 0; h < kHeldPackets; h++) {
      if (!has(h)) continue;
      const Slice slice(p, first + h * kThreads, false);
      target[h] = slice.inRow(static_cast<int64_t>(source) * p.phase.maxTokens + slot);
      widths[h] = slice.width;
    }
  }
  __device__ __forceinline__ bool has(int h) const { return first + h * kThreads < to; }
};

// Where a token's rows go: each lane knows of two ranks. One warp.
class Targets {
 public:
  __device__ __forceinline__ Targets(const DispatchParams &p, const BlockState &block, const Tile &t, int token) {
    look(p, block, t, token, 0);
    if (p.phase.ranks > 32) look(p, block, t, token, 1);
    else ranks_[1] = 0;
  }

  __device__ __forceinline__ void send(const BlockState &block, const Outgoing &row) const {
#pragma unroll
    for (int high = 0; high < 2; high++) {
      for (uint32_t left = ranks_[high]; left; left &= left - 1) {
        uint8_t *packets = reinterpret_cast<uint8_t *>(__shfl_sync(0xffffffff, packets_[high], __ffs(left) - 1)) +
                           row.first * kPacketBytes;
#pragma unroll
        for (int h = 0; h < kHeldPackets; h++) {
          if (row.has(h)) storeRowPacket(packets + h * kThreads * kPacketBytes, row.data[h], block.tag);
        }
      }
    }
  }

  // Keeps for the combine where a token's entries went.
  __device__ __forceinline__ void keep(const DispatchParams &p, const BlockState &block, int token) const {
    const Entry entry = routeToken(p, block.active, laneIdOf(p, token));
    const int count = __popc(__ballot_sync(0xffffffff, entry.owner >= 0));
    if ((threadIdx.x & 31) == 0) (p.phase.own + p.phase.at.entry_counts)[token] = count;
    const int low = __shfl_sync(0xffffffff, slots_[0], entry.owner & 31),
              high = __shfl_sync(0xffffffff, slots_[1], entry.owner & 31);
    if (entry.owner >= 0) keepEntry(p, token, entry.place, entry.owner, entry.owner < 32 ? low : high);
  }

 private:
  __device__ __forceinline__ void look(const DispatchParams &p, const BlockState &block, const Tile &t, int token,
                                       int high) {
    const int rank = (threadIdx.x & 31) + 32 * high, word = token >> 5;
    const uint32_t bit = 1u << (token & 31);
    uint32_t tokens = 0;
    if (rank < p.phase.ranks) {
      tokens = t.goes[word][rank];
      slots_[high] = __popc(tokens & (bit - 1)) + (word > 0 ? __popc(t.goes[0][rank]) : 0);
      packets_[high] =
          block.windows[rank] + packetsAt(p.phase, p.packets, p.phase.at.dispatch_packets, p.phase.rank, slots_[high]);
    }
    ranks_[high] = __ballot_sync(0xffffffff, tokens & bit) & static_cast<uint32_t>(block.active >> (32 * high));
  }

  uint32_t ranks_[2];
  int slots_[2];
  uint64_t packets_[2];
};

// Finds out which ranks a token goes to, by one of its entries.
__device__ __forceinline__ void lookAtEntry(const DispatchParams &p, Tile &t, int token, int k) {
  const int32_t id = loadId(p, token, k);
  uint32_t *word = isExpert(p.placement, id) ? &t.goes[token >> 5][ownerOf(p.placement, id)] : &t.drops[token >> 5];
  atomicOr(word, 1u << (token & 31));
}

}  // namespace moe_a2a
