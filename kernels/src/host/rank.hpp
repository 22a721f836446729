// One rank, as the host sees it.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstring>
#include <string>

#include "../params.hpp"
#include "check.hpp"

// What the combine needs to know of its lane's dispatch.
struct LaneRecord {
  int32_t maxTokens = 0;
  int32_t rows = 0;
  bool dispatched = false;
};

namespace moe_a2a {

// Events of a lane's phases of one kind: each takes the next.
struct PhaseEvents {
  cudaEvent_t events[MOE_A2A_PHASE_EVENTS] = {};
  uint32_t taken = 0;

  cudaEvent_t next() const { return events[taken % MOE_A2A_PHASE_EVENTS]; }
  // Passes with the last phase, and so after all others.
  cudaEvent_t last() const { return events[(taken - 1) % MOE_A2A_PHASE_EVENTS]; }
};

// A lane's last launch of a phase: the same arguments make the same one again, and were checked.
template <typename Arguments, typename Params>
struct Prepared {
  Arguments arguments;
  Params params;
  const void *kernel = nullptr;  // null: nothing is prepared
  int blocks = 0;

  // Byte by byte: padding that differs only costs time.
  bool isFor(const Arguments &asked) const { return kernel && std::memcmp(&arguments, &asked, sizeof(Arguments)) == 0; }
  void keep(const Arguments &asked, const void *function, int grid) {
    std::memcpy(&arguments, &asked, sizeof(Arguments));
    kernel = function;
    blocks = grid;
  }
};

}  // namespace moe_a2a

struct moe_a2a_rank {
  moe_a2a_config config{};
  moe_a2a_rank_options options{};
  moe_a2a_layout layout{};
  uint8_t *window = nullptr;
  bool ownsWindow = true;
  uint8_t *own = nullptr;
  moe_a2a::HostPage *host = nullptr;  // mapped host memory
  moe_a2a::HostPage *hostOnDevice = nullptr;
  uint8_t *staging = nullptr;  // pinned host memory
  cudaStream_t stream = nullptr;
  cudaStream_t side = nullptr;                        // for copies of a few bytes, never behind a phase
  moe_a2a::PhaseEvents events[MOE_A2A_MAX_LANES][2];  // by lane and phase
  cudaEvent_t replayEvent = nullptr;                  // passes with the last graph that was noted
  uint64_t windows[MOE_A2A_MAX_RANKS] = {};
  uint64_t active = 0;
  int32_t generation = 0;
  int maxBlocks = 1;
  int maxPacketBlocks = 1;
  bool programmaticLaunch = false;
  bool connected = false;
  bool aborted = false;
  std::string abortReason;
  moe_a2a::Placement placement{};
  LaneRecord lanes[MOE_A2A_MAX_LANES];
  // By lane and phase, what is the same for all of them.
  moe_a2a::PhaseParams phases[MOE_A2A_MAX_LANES][2] = {};
  moe_a2a::Prepared<moe_a2a_dispatch_args, moe_a2a::DispatchParams> dispatches[MOE_A2A_MAX_LANES] = {};
  moe_a2a::Prepared<moe_a2a_combine_args, moe_a2a::CombineParams> combines[MOE_A2A_MAX_LANES] = {};
};

namespace moe_a2a {

constexpr uint64_t kStagingBytes = 65536;

inline uint64_t laneStateAt(const moe_a2a_rank &rank, int lane) {
  return rank.layout.state + kLaneStates + static_cast<uint64_t>(lane) * kLaneStateBytes;
}

// Copies between the pinned staging memory and device memory, of this rank or a peer; enqueues on the side stream.
inline cudaError_t copyToDevice(moe_a2a_rank &rank, void *target, const void *staged, uint64_t bytes) {
  return cudaMemcpyAsync(target, staged, bytes, cudaMemcpyHostToDevice, rank.side);
}
inline cudaError_t copyToHost(moe_a2a_rank &rank, void *staged, const void *source, uint64_t bytes) {
  return cudaMemcpyAsync(staged, source, bytes, cudaMemcpyDeviceToHost, rank.side);
}

}  // namespace moe_a2a
