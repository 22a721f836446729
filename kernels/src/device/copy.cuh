// Rows on their way to the peers' windows.
#pragma once

#include "route.cuh"

namespace moe_a2a {

// Accesses under way at once.
template <int Log2>
constexpr int kAheadOf = Log2 == 4 ? kHeldVectors : 2;

// Vectors of a row that one thread holds.
template <int Log2>
struct Held {
  Vector<Log2> v[kAheadOf<Log2>];

  __device__ __forceinline__ void load(const uint8_t *row, int first, int to, int lanes) {
#pragma unroll
    for (int i = 0; i < kAheadOf<Log2>; i++) {
      const int at = first + i * lanes;
      if (at < to) v[i].load(row + (static_cast<int64_t>(at) << Log2));
    }
  }
  __device__ __forceinline__ void store(uint8_t *row, int first, int to, int lanes) const {
#pragma unroll
    for (int i = 0; i < kAheadOf<Log2>; i++) {
      const int at = first + i * lanes;
      if (at < to) v[i].store(row + (static_cast<int64_t>(at) << Log2));
    }
  }
};

// Copies vectors [from, to) of a row to `count` places. `lane` of `lanes` threads.
template <int Log2, typename Place>
__device__ __forceinline__ void fanOut(const uint8_t *row, Place place, int count, int from, int to, int lane,
                                       int lanes) {
  Held<Log2> held;
  for (int first = from + lane; first < to; first += lanes * kAheadOf<Log2>) {
    held.load(row, first, to, lanes);
    for (int j = 0; j < count; j++) held.store(place(j), first, to, lanes);
  }
}

template <typename Place>
__device__ __forceinline__ void fanOutAny(int log2, const uint8_t *row, Place place, int count, int from, int to,
                                          int lane, int lanes) {
  switch (log2) {
    case 4:
      return fanOut<4>(row, place, count, from, to, lane, lanes);
    case 3:
      return fanOut<3>(row, place, count, from, to, lane, lanes);
    case 2:
      return fanOut<2>(row, place, count, from, to, lane, lanes);
    case 1:
      return fanOut<1>(row, place, count, from, to, lane, lanes);
    default:
      return fanOut<0>(row, place, count, from, to, lane, lanes);
  }
}

// One part of a token's rows, as a thread sends it. The longest row goes in 16-byte vectors where it can; words of
// short rows that fit next to it (host: PayloadParams::word) go in the same breath.
class TokenRows {
 public:
  __device__ __forceinline__ void begin(const DispatchParams &p, int part) {
    part_ = part;
    const int lanes = 1 << p.lanesLog2;
    lane_ = threadIdx.x & (lanes - 1);
    payload_ = -1;
    for (int q = 0; q < p.payloadCount && part == 0; q++) {
      const PayloadParams &payload = p.payloads[q];
      if (payload.word >= 0 && lane_ >= payload.word && lane_ < payload.word + (payload.rowBytes >> 2)) {
        payload_ = q;
        wordAt_ = (lane_ - payload.word) << 2;
      }
    }
    const Parts &parts = p.payloads[p.longest].parts;
    from_ = partStart(parts, part) + lane_;
    to_ = p.payloads[p.longest].vectorLog2 == 4 ? partStart(parts, part + 1) : from_;
  }

  // Loads this thread's word, and as much of the longest row as it can hold: ahead of its routing, if need be.
  __device__ __forceinline__ void load(const DispatchParams &p, int64_t token) {
    const PayloadParams &longest = p.payloads[p.longest];
    held_.load(longest.source + token * longest.rowBytes, from_, to_, 1 << p.lanesLog2);
    if (payload_ >= 0) word_.load(p.payloads[payload_].source + token * p.payloads[payload_].rowBytes + wordAt_);
  }

  // Stores what was loaded, and with `More` sends the rest.
  template <bool More>
  __device__ __forceinline__ void send(const DispatchParams &p, const BlockState &block, const Tile &t, int index,
                                       int64_t token) const {
    const int count = t.count[index], lanes = 1 << p.lanesLog2;
    for (int j = 0; j < count; j++) {
      held_.store(place(p, block, t, index, j, p.longest), from_, to_, lanes);
      if (payload_ >= 0) word_.store(place(p, block, t, index, j, payload_) + wordAt_);
    }
    if (More && p.hasMore && count > 0) sendMore(p, block, t, index, token, part_);
  }

 private:
  // What is neither held nor a word.
  static __device__ __noinline__ void sendMore(const DispatchParams &p, const BlockState &block, const Tile &t,
                                               int index, int64_t token, int part) {
    const int lanes = 1 << p.lanesLog2, lane = threadIdx.x & (lanes - 1);
    for (int q = 0; q < p.payloadCount; q++) {
      const PayloadParams &payload = p.payloads[q];
      if (payload.word >= 0) continue;
      const int sent = q == p.longest && payload.vectorLog2 == 4 ? lanes * kAheadOf<4> : 0;
      const auto target = [&](int j) { return place(p, block, t, index, j, q); };
      fanOutAny(payload.vectorLog2, payload.source + token * payload.rowBytes, target, t.count[index],
                partStart(payload.parts, part) + sent, partStart(payload.parts, part + 1), lane, lanes);
    }
  }
  // Where payload q of the token goes on the j-th of its ranks.
  static __device__ __forceinline__ uint8_t *place(const DispatchParams &p, const BlockState &block, const Tile &t,
                                                   int index, int j, int q) {
    const PayloadParams &payload = p.payloads[q];
    const int64_t slot = static_cast<int64_t>(p.phase.rank) * p.phase.maxTokens + t.slot[index][j];
    return reinterpret_cast<uint8_t *>(block.windows[t.rank[index][j]]) + payload.target + slot * payload.rowBytes;
  }

  int part_, lane_, from_, to_;
  int payload_, wordAt_;  // of this thread's word; -1: it has none
  Held<4> held_;
  Vector<2> word_;
};

// A piece of outgoing work: one part of each row of a tile of tokens.
struct Piece {
  int tile, part, count;
  int64_t start;

  __device__ __forceinline__ Piece(const DispatchParams &p, uint32_t ticket, int tokens) {
    tile = ticket / p.splits;
    part = ticket - tile * p.splits;
    start = static_cast<int64_t>(tile) * p.tokensPerTile;
    count = min(p.tokensPerTile, static_cast<int>(tokens - start));
  }

  // The id by which this thread routes its warp's first token.
  __device__ __forceinline__ int32_t firstId(const DispatchParams &p) const {
    const int warp = threadIdx.x >> 5;
    return warp < count ? laneIdOf(p, start + warp) : -1;
  }
  // Loads this thread's share of the first row that it sends.
  __device__ __forceinline__ void load(const DispatchParams &p, TokenRows &rows) const {
    const int group = threadIdx.x >> p.lanesLog2;
    rows.begin(p, part);
    if (group < count) rows.load(p, start + group);
  }
};

// Sends one part of each row of a tile. `rows` has loaded the first token of this thread's group, where there is one.
template <bool More>
__device__ __forceinline__ void sendTile(const DispatchParams &p, const BlockState &block, const Tile &t, int64_t start,
                                         int tokens, TokenRows &rows) {
  const int group = threadIdx.x >> p.lanesLog2, groups = kThreads >> p.lanesLog2;
  for (int index = group; index < tokens; index += groups) {
    if (index != group) rows.load(p, start + index);
    rows.send<More>(p, block, t, index, start + index);
  }
}

}  // namespace moe_a2a
