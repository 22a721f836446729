#include "packet_plan.hpp"

#include <algorithm>

namespace moe_a2a {
namespace {

// Packets of a row that a thread should have at least: more blocks cost more than what they save.
constexpr int kUsefulPackets = 2;

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

}  // namespace moe_a2a
