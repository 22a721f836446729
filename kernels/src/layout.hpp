// Where everything of one rank's workspace lies; the same numbers as packages/core/src/layout.ts.
#pragma once

#include <cstdint>

#include "moe_a2a.h"

#ifdef __CUDACC__
#define MOE_A2A_BOTH __host__ __device__
#else
#define MOE_A2A_BOTH
#endif

namespace moe_a2a {

constexpr uint64_t kRegionAlignment = 256;
constexpr uint64_t kFlagStride = 64;
constexpr uint64_t kDispatchHeaderBytes = 128;
constexpr uint64_t kCombineHeaderBytes = 64;
constexpr uint64_t kAbortRecordBytes = 4096;
constexpr uint64_t kStateBytes = 32768;
constexpr int kRoundBuffers = 2;
// Packets of rows: 8 bytes of the row, and a tag of 8 bytes.
constexpr uint64_t kPacketBytes = 16;
constexpr uint64_t kPacketDataBytes = 8;
constexpr int kPacketSlots = 64;
constexpr uint64_t kPacketAreaBytes = 2097152;
constexpr int kPieces = 1024;

constexpr uint64_t alignUp(uint64_t bytes, uint64_t alignment = kRegionAlignment) {
  return (bytes + alignment - 1) / alignment * alignment;
}

// Bytes of a lane's packets of one phase in a window.
uint64_t packetArea(const moe_a2a_config &config, uint64_t packetsPerToken);
constexpr uint64_t packetsOf(uint64_t rowBytes) { return (rowBytes + kPacketDataBytes - 1) / kPacketDataBytes; }

// Words of the control region, in bytes from its start.
constexpr uint64_t kGenerationWord = 0;
constexpr uint64_t kAlarmWord = 4;
MOE_A2A_BOTH constexpr uint64_t closedWord(int peer) { return kFlagStride * static_cast<uint64_t>(1 + peer); }

}  // namespace moe_a2a
