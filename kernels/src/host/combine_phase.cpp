// Enqueues combines: arguments to kernel parameters, one launch.
#include <algorithm>

#include "../kernels.hpp"
#include "../mapping.hpp"
#include "../wire_plan.hpp"
#include "launch.hpp"

namespace moe_a2a {
namespace {

// Rows that one block copies into the window.
constexpr int kCopyRowsPerBlock = 4;

const char *problemOf(const moe_a2a_rank &rank, const moe_a2a_combine_args &c) {
  if (!rank.connected) return "the rank is not connected";
  if (c.lane < 0 || c.lane >= rank.config.rounds_in_flight) return "lane is out of range";
  if (!rank.lanes[c.lane].dispatched) return "the lane has no dispatch to combine";
  if (c.dtype < 0 || c.dtype > 2 || c.out_dtype < 0 || c.out_dtype > 2) return "a dtype is out of range";
  const int64_t rowBytes = static_cast<int64_t>(c.hidden_size) * (c.dtype == MOE_A2A_FLOAT32 ? 4 : 2);
  if (c.hidden_size < 0 || rowBytes > rank.config.max_combine_bytes_per_token) return "hidden_size is out of range";
  if (rank.lanes[c.lane].maxTokens > 0 && rowBytes > 0 && !c.expert_output) return "expert_output is null";
  if (rank.lanes[c.lane].rows > 0 && rowBytes > 0 && !c.output) return "output is null";
  if (c.output % (c.out_dtype == MOE_A2A_FLOAT32 ? 4 : 2)) return "output is not aligned to its elements";
  if (!fitsTile(c.mapping)) return "the mapping is out of range";
  return nullptr;
}

// Whether the second receive buffer, which rows on a GPU have no use for, takes this combine's results.
bool takesPush(const moe_a2a_rank &rank, int slots, int rowBytes) {
  if (rank.options.wire_form == MOE_A2A_WIRE_ROWS) return false;
  const bool always = rank.options.wire_form == MOE_A2A_WIRE_PUSHED_ROWS;
  const uint64_t least = always ? 1 : pushedFrom(rank.options.fewest_sms);
  return pushesRows(rank.config, rank.layout, slots, static_cast<uint64_t>(rowBytes), least);
}

// Whether results lie in this rank's window, but where nobody else stores: in the receive buffer, say, as experts that
// do nothing leave them.
bool liesInWindow(const moe_a2a_rank &rank, const CombineParams &p, int64_t slots) {
  const uint8_t *end = rank.window + rank.layout.window_bytes;
  return p.expertOutput && p.expertOutput < end && p.expertOutput + slots * p.rowBytes > rank.window;
}

// Whether a combine is the lane's last one again, after a dispatch of as many tokens and slots.
bool isAsBefore(const moe_a2a_rank &rank, const moe_a2a_combine_args &c) {
  const LaneRecord &lane = rank.lanes[c.lane];
  const auto &prepared = rank.combines[c.lane];
  return lane.dispatched && prepared.params.phase.maxTokens == lane.maxTokens && prepared.params.rows == lane.rows &&
         prepared.isFor(c);
}

// Makes the launch that the arguments ask for, after the lane's last dispatch.
void prepare(const moe_a2a_rank &rank, const moe_a2a_combine_args &c,
             Prepared<moe_a2a_combine_args, CombineParams> &prepared) {
  const LaneRecord &lane = rank.lanes[c.lane];
  CombineParams &p = prepared.params;
  p = {};
  p.phase = rank.phases[c.lane][MOE_A2A_COMBINE];
  p.phase.maxTokens = lane.maxTokens;
  const bool inPlace = c.expert_output == reinterpret_cast<uint64_t>(rank.window + p.phase.at.combine);
  p.expertOutput = inPlace ? nullptr : reinterpret_cast<const uint8_t *>(c.expert_output);
  p.output = reinterpret_cast<uint8_t *>(c.output);
  p.hiddenSize = c.hidden_size;
  p.dtype = c.dtype;
  p.outDtype = c.out_dtype;
  p.rowBytes = c.hidden_size * (c.dtype == MOE_A2A_FLOAT32 ? 4 : 2);
  p.copyVectorLog2 = vectorLog2(c.expert_output, p.rowBytes);
  const int outRowBytes = c.hidden_size * (c.out_dtype == MOE_A2A_FLOAT32 ? 4 : 2);
  p.vectorized =
      p.rowBytes % 16 == 0 && (c.output | static_cast<uint64_t>(outRowBytes)) %
                                      (c.dtype == MOE_A2A_FLOAT32 && c.out_dtype != MOE_A2A_FLOAT32 ? 8 : 16) ==
                                  0;
  p.rows = lane.rows;
  const int64_t slots = static_cast<int64_t>(rank.config.ep_size) * lane.maxTokens;
  const uint64_t perRow = packetsOf(static_cast<uint64_t>(p.rowBytes));
  if (takesPackets(rank, lane.maxTokens, perRow, packetsOf(rank.config.max_combine_bytes_per_token))) {
    const int outPacketBytes = (c.dtype == MOE_A2A_FLOAT32 ? 2 : 4) * (c.out_dtype == MOE_A2A_FLOAT32 ? 4 : 2);
    p.storesWhole = (c.output | static_cast<uint64_t>(outRowBytes)) % outPacketBytes == 0;
    const int blocks =
        planPackets(p.packets, perRow, static_cast<int>(slots), lane.rows, c.mapping, rank.maxPacketBlocks);
    p.packets.headerLast = liesInWindow(rank, p, slots);
    return prepared.keep(c, combineInPacketsFunction(c.dtype), blocks);
  }
  if (takesPush(rank, lane.maxTokens, p.rowBytes)) {
    p.push.rows = p.phase.at.recv + rank.layout.recv_buffer_bytes;
    p.push.headerLast = liesInWindow(rank, p, slots);
    // What is pushed lies in rows as aligned as their length allows; what the caller passes need not.
    const int needed = p.vectorized ? 4 : c.dtype == MOE_A2A_FLOAT32 ? 2 : 1;
    p.push.sendsOwn = p.push.headerLast || p.copyVectorLog2 < needed;
    const int blocks = planPush(p.push, slots, lane.rows, c.mapping, rank.maxBlocks);
    return prepared.keep(c, combineByPushFunction(c.dtype), blocks);
  }
  const moe_a2a_mapping m = chooseMapping(c.mapping, lane.rows, std::max(1, p.rowBytes), rank.maxBlocks);
  p.tokensPerTile = m.tokens_per_tile;
  p.splits = m.splits;
  p.lanesLog2 = m.kind == 2 ? kThreadsLog2 : kWarpLog2;
  p.parts = partsOf(p.vectorized ? p.rowBytes / 16 : p.hiddenSize, m.splits);
  const bool copies = !inPlace && slots > 0;
  p.copyTickets =
      copies ? static_cast<int>(std::min<int64_t>(rank.maxBlocks, (slots + kCopyRowsPerBlock - 1) / kCopyRowsPerBlock))
             : 0;
  const int blocks = c.mapping.blocks ? c.mapping.blocks : std::max(lane.rows ? m.blocks : 1, p.copyTickets);
  const bool direct = p.copyTickets == 0 && p.vectorized && c.dtype == c.out_dtype &&
                      blocks == std::max(1, piecesOf(lane.rows, m)) && blocks <= rank.maxBlocks;
  prepared.keep(c, direct ? combineDirectlyFunction(c.dtype) : combineFunction(c.dtype), blocks);
}

}  // namespace
}  // namespace moe_a2a

extern "C" {

int32_t moe_a2a_combine(moe_a2a_rank *rank, const moe_a2a_combine_args *c) {
  using namespace moe_a2a;
  if (!c || c->struct_size != sizeof(*c)) return invalid("struct_size is wrong");
  const bool isLane = c->lane >= 0 && c->lane < MOE_A2A_MAX_LANES;
  if (!isLane || !isAsBefore(*rank, *c)) {
    if (const char *problem = problemOf(*rank, *c)) return invalid(problem);
    prepare(*rank, *c, rank->combines[c->lane]);
  }
  auto &prepared = rank->combines[c->lane];
  const int32_t result = launch(*rank, prepared.kernel, prepared.blocks, &prepared.params, {c->stream, c->capture},
                                c->lane, MOE_A2A_COMBINE);
  if (result == MOE_A2A_OK) rank->lanes[c->lane].dispatched = false;
  return result;
}

}  // extern "C"
