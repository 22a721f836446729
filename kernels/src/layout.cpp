#include "layout.hpp"

#include <algorithm>

namespace moe_a2a {
namespace {

bool inRange(const moe_a2a_config &c) {
  return c.ep_size >= 1 && c.ep_size <= MOE_A2A_MAX_RANKS && c.num_experts >= c.ep_size && c.top_k >= 1 &&
         c.top_k <= MOE_A2A_MAX_TOP_K && c.top_k <= c.num_experts && c.max_tokens_per_rank >= 1 &&
         c.max_dispatch_bytes_per_token >= 1 && c.max_combine_bytes_per_token >= 1 && c.max_expert_stats >= 0 &&
         c.timeout_ms >= 1 && c.rounds_in_flight >= 1 && c.rounds_in_flight <= MOE_A2A_MAX_LANES;
}

// Hands out offsets one after another, each aligned.
struct Cursor {
  uint64_t end = 0;
  uint64_t take(uint64_t bytes) {
    const uint64_t offset = end;
    end += alignUp(bytes);
    return offset;
  }
};

}  // namespace

uint64_t packetArea(const moe_a2a_config &c, uint64_t packetsPerToken) {
  const uint64_t slots = std::min(c.max_tokens_per_rank, kPacketSlots);
  return std::min(kPacketAreaBytes, c.ep_size * slots * packetsPerToken * kPacketBytes);
}

}  // namespace moe_a2a

extern "C" int32_t moe_a2a_plan(const moe_a2a_config *config, moe_a2a_layout *layout) {
  using namespace moe_a2a;
  if (!config || !layout || config->struct_size != sizeof(*config) || layout->struct_size != sizeof(*layout) ||
      !inRange(*config)) {
    return MOE_A2A_INVALID;
  }
  const uint64_t R = config->ep_size, M = config->max_tokens_per_rank, K = config->top_k;
  const uint64_t maxTargets = std::min(K, R);
  *layout = {};
  layout->struct_size = sizeof(*layout);
  layout->max_targets = static_cast<int32_t>(maxTargets);
  layout->stats_row_bytes = static_cast<uint64_t>(config->max_expert_stats) * 4;
  layout->recv_buffer_bytes =
      alignUp(R * M * config->max_dispatch_bytes_per_token + MOE_A2A_MAX_PAYLOADS * kRegionAlignment);

  Cursor window, own;
  layout->control = window.take(kFlagStride * (1 + R));
  layout->abort_records = window.take(R * kAbortRecordBytes);
  layout->state = own.take(kStateBytes);
  layout->accumulator = own.take(2 * alignUp(static_cast<uint64_t>(config->max_combine_bytes_per_token) * 2));
  for (int l = 0; l < config->rounds_in_flight; l++) {
    moe_a2a_lane_layout &lane = layout->lanes[l];
    lane.dispatch_flags = window.take(R * kFlagStride);
    lane.combine_flags = window.take(R * kFlagStride);
    lane.dispatch_headers = window.take(kRoundBuffers * R * kDispatchHeaderBytes);
    lane.combine_headers = window.take(R * kCombineHeaderBytes);
    lane.expert_stats = window.take(kRoundBuffers * R * layout->stats_row_bytes);
    lane.recv = window.take(kRoundBuffers * layout->recv_buffer_bytes);
    lane.combine = window.take(R * M * config->max_combine_bytes_per_token);
    lane.dispatch_packets =
        window.take(packetArea(*config, packetsOf(config->max_dispatch_bytes_per_token) + MOE_A2A_MAX_PAYLOADS));
    lane.combine_packets = window.take(packetArea(*config, packetsOf(config->max_combine_bytes_per_token)));
    lane.recv_counts = own.take(R * 4);
    lane.gathered_stats = own.take(R * layout->stats_row_bytes);
    lane.entry_ranks = own.take(M * maxTargets);
    lane.entry_slots = own.take(M * maxTargets * 4);
    lane.entry_counts = own.take(M);
    lane.send_counts = own.take(R * 4);
    lane.last_tokens = own.take(R * 4);
    lane.runs = own.take(R * 8);
    lane.tile_counts = own.take(M * R * 8);
    lane.piece_marks = own.take(2 * kPieces * 8);
    lane.output = own.take(M * config->max_combine_bytes_per_token);
  }
  layout->window_bytes = window.end;
  layout->private_bytes = own.end;
  return MOE_A2A_OK;
}
