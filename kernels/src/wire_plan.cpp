#include "wire_plan.hpp"

#include <algorithm>

namespace moe_a2a {
namespace {

// Packets of a row that a thread should have at least: more blocks cost more than what they save.
constexpr int kUsefulPackets = 2;

// Measured on two H200. With all SMs there are enough loads under way to pull, and no second pass through memory.
constexpr int kFewSms = 32, kVeryFewSms = 16;
constexpr uint64_t kPushedBytes = 16ull << 20, kPushedBytesWithVeryFewSms = 4ull << 20;
// With so few blocks, half of them are needed to keep the links busy.
constexpr int kFewBlocks = 3 * kFewSms;

Parts partsOf(int count, int parts) { return {count / parts, count % parts}; }

}  // namespace

bool goesInPackets(const moe_a2a_config &config, int slots, uint64_t perRow, uint64_t area) {
  return config.ep_size > 1 && slots >= 1 && slots <= kPacketSlots && perRow >= 1 &&
         static_cast<uint64_t>(config.ep_size) * static_cast<uint64_t>(slots) * perRow * kPacketBytes <= area;
}

int planPackets(PacketParams &packets, uint64_t perRow, int sendRows, int receiveRows, const moe_a2a_mapping &asked,
                int maxBlocks) {
  const int count = static_cast<int>(perRow),
            useful = (count + kThreads * kUsefulPackets - 1) / (kThreads * kUsefulPackets);
  const auto splitsOf = [&](int rows) {
    if (asked.splits) return std::min(asked.splits, count);
    return std::clamp(maxBlocks / std::max(1, rows), 1, useful);
  };
  packets.perRow = count;
  packets.sendSplits = splitsOf(sendRows);
  packets.receiveSplits = splitsOf(receiveRows);
  packets.sent = partsOf(count, packets.sendSplits);
  packets.received = partsOf(count, packets.receiveSplits);
  const int sends = sendRows * packets.sendSplits, receives = receiveRows * packets.receiveSplits;
  // The first block has headers to send and to wait for. Blocks that wait must all fit, whatever is asked for.
  const int blocks = std::min(asked.blocks ? asked.blocks : 1 + std::max(sends, receives), maxBlocks);
  packets.pieces = std::min({1 + sends, blocks, kPieces});
  return blocks;
}

uint64_t pushedFrom(int fewestSms) {
  if (fewestSms <= 0 || fewestSms > kFewSms) return UINT64_MAX;
  return fewestSms <= kVeryFewSms ? kPushedBytesWithVeryFewSms : kPushedBytes;
}

bool pushesRows(const moe_a2a_config &config, const moe_a2a_layout &layout, int slots, uint64_t rowBytes,
                uint64_t least) {
  const auto m = static_cast<uint64_t>(slots), rows = static_cast<uint64_t>(config.ep_size) * m;
  const uint64_t flags = packetArea(config, packetsOf(config.max_combine_bytes_per_token));
  return config.ep_size > 1 && m >= 1 && rowBytes >= 1 && m * rowBytes >= least &&
         rows * rowBytes <= layout.recv_buffer_bytes && rows * kPacketBytes <= flags;
}

int planPush(PushParams &push, int64_t received, int rows, const moe_a2a_mapping &asked, int maxBlocks) {
  const auto useful = static_cast<int>(std::min<int64_t>(maxBlocks, std::max<int64_t>(2, received + rows)));
  const int blocks = std::min(asked.blocks ? asked.blocks : useful, maxBlocks);
  push.senders = std::max(1, blocks <= kFewBlocks ? blocks / 2 : blocks * 2 / 5);
  return blocks;
}

}  // namespace moe_a2a
