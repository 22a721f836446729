// Enqueues dispatches: arguments to kernel parameters, one launch.
#include <algorithm>

#include "../kernels.hpp"
#include "../mapping.hpp"
#include "../wire_plan.hpp"
#include "launch.hpp"

namespace moe_a2a {
namespace {

// Bytes of expert ids that one block fills with padding.
constexpr int64_t kFillBytesPerBlock = 65536;

uint64_t payloadOffset(const moe_a2a_rank &rank, const moe_a2a_dispatch_args &d, int index) {
  uint64_t at = rank.layout.lanes[d.lane].recv;
  for (int q = 0; q < index; q++) {
    at = alignUp(at + static_cast<uint64_t>(rank.config.ep_size) * d.max_tokens * d.row_bytes[q]);
  }
  return at;
}

// Rows of whole words go word by word, next to the longest row, as long as the threads that share a token suffice.
void spreadWords(DispatchParams &p) {
  int next = 0;
  for (int q = 0; q < p.payloadCount; q++) {
    if (p.payloads[q].rowBytes > p.payloads[p.longest].rowBytes) p.longest = q;
  }
  for (int q = 0; q < p.payloadCount; q++) {
    PayloadParams &payload = p.payloads[q];
    const int words = payload.rowBytes / 4, lanes = 1 << p.lanesLog2;
    payload.word = -1;
    if (q == p.longest) {
      p.hasMore |= payload.vectorLog2 < 4 || payload.parts.size + (payload.parts.larger > 0) > kHeldVectors * lanes;
    } else if (payload.vectorLog2 < 2 || next + words > lanes) {
      p.hasMore = 1;
    } else {
      payload.word = next;
      next += words;
    }
  }
}

// Where the packets of each payload begin among those of a token; returns how many there are.
uint64_t countPackets(DispatchParams &p) {
  uint64_t count = 0;
  for (int q = 0; q < MOE_A2A_MAX_PAYLOADS; q++) {
    p.payloads[q].firstPacket =
        q < p.payloadCount ? static_cast<int32_t>(std::min<uint64_t>(count, INT32_MAX)) : INT32_MAX;
    count += packetsOf(static_cast<uint64_t>(p.payloads[q].rowBytes));
  }
  return count;
}

const char *problemOf(const moe_a2a_rank &rank, const moe_a2a_dispatch_args &d) {
  if (!rank.connected) return "the rank is not connected";
  if (d.lane < 0 || d.lane >= rank.config.rounds_in_flight) return "lane is out of range";
  if (d.max_tokens < 0 || d.max_tokens > rank.config.max_tokens_per_rank) return "max_tokens is out of range";
  if (d.num_local_tokens < 0 || d.num_local_tokens > d.max_tokens) return "num_local_tokens is out of range";
  if (d.payload_count < 1 || d.payload_count > MOE_A2A_MAX_PAYLOADS) return "payload_count is out of range";
  int64_t bytes = 0;
  for (int q = 0; q < d.payload_count; q++) {
    if (d.row_bytes[q] < 0) return "a row length is negative";
    if (d.num_local_tokens > 0 && d.row_bytes[q] > 0 && !d.payloads[q]) return "a payload is null";
    bytes += d.row_bytes[q];
  }
  if (bytes > rank.config.max_dispatch_bytes_per_token) return "rows are longer than max_dispatch_bytes_per_token";
  if (d.num_local_tokens > 0 && !d.expert_ids) return "expert_ids is null";
  if ((d.expert_ids | d.num_local_tokens_ptr | d.expert_stats) % 4)
    return "expert_ids, the token count or expert_stats are not aligned to 4 bytes";
  if (d.expert_id_payload < -1 || d.expert_id_payload >= d.payload_count) return "expert_id_payload is out of range";
  if (d.expert_id_payload >= 0 && d.row_bytes[d.expert_id_payload] % 4) return "expert ids take whole int32";
  if (d.stats_length < 0 || d.stats_length > rank.config.max_expert_stats) return "stats_length is out of range";
  if (d.stats_length > 0 && !d.expert_stats) return "expert_stats is null";
  if (!fitsTile(d.mapping)) return "the mapping is out of range";
  return nullptr;
}

// Makes the launch that the arguments ask for.
void prepare(const moe_a2a_rank &rank, const moe_a2a_dispatch_args &d,
             Prepared<moe_a2a_dispatch_args, DispatchParams> &prepared) {
  DispatchParams &p = prepared.params;
  p = {};
  p.phase = rank.phases[d.lane][MOE_A2A_DISPATCH];
  p.phase.maxTokens = d.max_tokens;
  p.placement = rank.placement;
  int widest = 1;
  for (int q = 0; q < d.payload_count; q++) {
    PayloadParams &payload = p.payloads[q];
    payload.source = reinterpret_cast<const uint8_t *>(d.payloads[q]);
    payload.target = payloadOffset(rank, d, q);
    payload.rowBytes = d.row_bytes[q];
    payload.vectorLog2 = vectorLog2(d.payloads[q], d.row_bytes[q]);
    widest = std::max(widest, d.row_bytes[q]);
  }
  p.ids = reinterpret_cast<const int32_t *>(d.expert_ids);
  p.tokenCount = reinterpret_cast<const int32_t *>(d.num_local_tokens_ptr);
  p.stats = reinterpret_cast<const int32_t *>(d.expert_stats);
  p.numTokens = d.num_local_tokens;
  p.payloadCount = d.payload_count;
  p.idPayload = d.expert_id_payload;
  p.invalidId = d.invalid_expert_id;
  p.statsLength = d.stats_length;
  p.dropInvalid = rank.config.drop_invalid_experts;
  p.fillPadding = rank.options.fill_padding;

  const uint64_t perRow = countPackets(p);
  const uint64_t room = packetsOf(rank.config.max_dispatch_bytes_per_token) + MOE_A2A_MAX_PAYLOADS;
  if (d.stats_length == 0 && takesPackets(rank, d.max_tokens, perRow, room)) {
    const int slots = rank.config.ep_size * d.max_tokens;
    const int blocks = planPackets(p.packets, perRow, p.numTokens, slots, d.mapping, rank.maxPacketBlocks);
    return prepared.keep(d, dispatchInPacketsFunction(), blocks);
  }

  const moe_a2a_mapping m = chooseMapping(d.mapping, d.num_local_tokens, widest, std::max(1, rank.maxBlocks - 1));
  p.tokensPerTile = m.tokens_per_tile;
  p.splits = m.splits;
  p.lanesLog2 = m.kind == 2 ? kThreadsLog2 : kWarpLog2;
  for (int q = 0; q < d.payload_count; q++) {
    p.payloads[q].parts = partsOf(d.row_bytes[q] >> p.payloads[q].vectorLog2, m.splits);
  }
  spreadWords(p);
  p.idVectors = vectorLog2(d.expert_ids, static_cast<uint64_t>(p.phase.topK) * 4) == 4;
  p.scan = m.slots_by == 2 || p.numTokens > kMaxCounted;
  p.flagsPerRank = static_cast<int32_t>(
      std::min<uint64_t>(kPieces, packetArea(rank.config, room) / kPacketBytes / rank.config.ep_size));
  // Blocks that vouch for rows have a place for their flags.
  p.phase.maxBlocks = std::min(p.phase.maxBlocks, p.flagsPerRank);
  const int64_t idBytes = d.expert_id_payload < 0 ? 0
                                                  : static_cast<int64_t>(rank.config.ep_size) * d.max_tokens *
                                                        d.row_bytes[d.expert_id_payload];
  const auto fillers = static_cast<int>(std::min<int64_t>(p.phase.maxBlocks, idBytes / kFillBytesPerBlock));
  // One block for each piece, as far as there are places, and one that tells and waits.
  const int pieces = piecesOf(p.numTokens, m);
  const int useful = std::min(p.phase.maxBlocks, std::max(1 + std::min(pieces, m.blocks), fillers));
  const int blocks = d.mapping.blocks ? d.mapping.blocks : useful;
  p.receivers = std::max(1, std::min(fillers, blocks));
  const bool direct = !p.scan && !p.hasMore && p.receivers == 1 && blocks == pieces + 1 && blocks <= p.phase.maxBlocks;
  prepared.keep(d, direct ? dispatchDirectlyFunction() : dispatchFunction(), blocks);
}

}  // namespace
}  // namespace moe_a2a

extern "C" {

int32_t moe_a2a_recv_offset(const moe_a2a_rank *rank, const moe_a2a_dispatch_args *d, int32_t index, uint64_t *offset) {
  if (!d || !offset || d->lane < 0 || d->lane >= rank->config.rounds_in_flight || index < 0 ||
      index >= MOE_A2A_MAX_PAYLOADS) {
    return moe_a2a::invalid("lane or index is out of range");
  }
  *offset = moe_a2a::payloadOffset(*rank, *d, index);
  return MOE_A2A_OK;
}

int32_t moe_a2a_dispatch(moe_a2a_rank *rank, const moe_a2a_dispatch_args *d) {
  using namespace moe_a2a;
  if (!d || d->struct_size != sizeof(*d)) return invalid("struct_size is wrong");
  const bool isLane = d->lane >= 0 && d->lane < MOE_A2A_MAX_LANES;
  if (!isLane || !rank->dispatches[d->lane].isFor(*d)) {
    if (const char *problem = problemOf(*rank, *d)) return invalid(problem);
    prepare(*rank, *d, rank->dispatches[d->lane]);
  }
  auto &prepared = rank->dispatches[d->lane];
  const int32_t result = launch(*rank, prepared.kernel, prepared.blocks, &prepared.params, {d->stream, d->capture},
                                d->lane, MOE_A2A_DISPATCH);
  if (result == MOE_A2A_OK) rank->lanes[d->lane] = {d->max_tokens, d->num_local_tokens, true};
  return result;
}

}  // extern "C"
