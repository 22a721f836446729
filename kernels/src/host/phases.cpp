// Enqueues phases: arguments to kernel parameters, one launch each.
#include <algorithm>

#include "../kernels.hpp"
#include "../mapping.hpp"
#include "../packet_plan.hpp"
#include "rank.hpp"

namespace moe_a2a {
namespace {

// Bytes of expert ids that one block fills with padding.
constexpr int64_t kFillBytesPerBlock = 32768;
// Rows that one block copies into the window.
constexpr int kCopyRowsPerBlock = 4;

uint64_t payloadOffset(const moe_a2a_rank &rank, const moe_a2a_dispatch_args &d, int index) {
  uint64_t at = rank.layout.lanes[d.lane].recv;
  for (int q = 0; q < index; q++) {
    at = alignUp(at + static_cast<uint64_t>(rank.config.ep_size) * d.max_tokens * d.row_bytes[q]);
  }
  return at;
}

// Widest access that an address and a row length allow, as a power of two of at most 16 bytes.
int vectorLog2(uint64_t address, uint64_t rowBytes) {
  const uint64_t bits = address | rowBytes | 16;
  return __builtin_ctzll(bits);
}

Parts partsOf(int count, int parts) { return {count / parts, count % parts}; }

PhaseParams phaseParams(const moe_a2a_rank &rank, int lane, int phase, int maxTokens) {
  PhaseParams p{};
  p.window = rank.window;
  p.own = rank.own;
  p.host = rank.hostOnDevice;
  p.at = rank.layout.lanes[lane];
  p.control = rank.layout.control;
  p.abortRecords = rank.layout.abort_records;
  p.state = rank.layout.state;
  p.timeoutNs = static_cast<uint64_t>(rank.config.timeout_ms) * 1000000ull;
  p.statsRowBytes = rank.layout.stats_row_bytes;
  p.rank = rank.options.rank;
  p.ranks = rank.config.ep_size;
  p.lane = lane;
  p.topK = rank.config.top_k;
  p.maxTargets = rank.layout.max_targets;
  p.maxTokens = maxTokens;
  p.maxBlocks = rank.maxBlocks;
  // With two lanes, or a GPU that is shared out, a kernel that only holds its place could keep out one that a peer
  // waits for.
  p.startNextEarly = rank.programmaticLaunch && rank.config.rounds_in_flight == 1 && rank.options.max_sms <= 0;
  p.delays = rank.delays[phase];
  return p;
}

int32_t launch(moe_a2a_rank &rank, const void *kernel, int blocks, void *params, uint64_t streamHandle, int lane,
               int phase) {
  MOE_A2A_ON_DEVICE(rank.options.device);
  const auto stream = streamHandle ? reinterpret_cast<cudaStream_t>(streamHandle) : rank.stream;
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(kThreads);
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = rank.programmaticLaunch ? 1 : 0;
  void *arguments[] = {params};
  MOE_A2A_TRY(cudaLaunchKernelExC(&config, kernel, arguments));
  cudaStreamCaptureStatus capturing = cudaStreamCaptureStatusNone;
  MOE_A2A_TRY(cudaStreamIsCapturing(stream, &capturing));
  if (capturing == cudaStreamCaptureStatusNone) MOE_A2A_TRY(cudaEventRecord(rank.phaseEvents[lane][phase], stream));
  return MOE_A2A_OK;
}

// Whether each block of a grid has one piece of work, and all of them run at once.
bool isOneEach(int tokens, int tokensPerTile, int splits, int blocks, int maxBlocks) {
  const int pieces = (tokens + tokensPerTile - 1) / tokensPerTile * splits;
  return blocks == std::max(pieces, 1) && blocks <= maxBlocks;
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

// Whether a phase's rows of `perRow` packets go in packets; `room` is what the plan has laid out for, per token.
bool takesPackets(const moe_a2a_rank &rank, int slots, uint64_t perRow, uint64_t room) {
  return rank.options.wire_form == MOE_A2A_WIRE_CHOSEN &&
         goesInPackets(rank.config, slots, perRow, packetArea(rank.config, room));
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

bool fitsTile(const moe_a2a_mapping &m) {
  return m.kind >= 0 && m.kind <= 2 && m.tokens_per_tile >= 0 && m.tokens_per_tile <= kMaxTile && m.splits >= 0 &&
         m.splits <= 64 && m.blocks >= 0 && m.blocks <= 65535 && m.slots_by >= 0 && m.slots_by <= 2;
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
  if (const char *problem = problemOf(*rank, *d)) return invalid(problem);
  DispatchParams p{};
  p.phase = phaseParams(*rank, d->lane, MOE_A2A_DISPATCH, d->max_tokens);
  p.placement = rank->placement;
  int widest = 1;
  for (int q = 0; q < d->payload_count; q++) {
    PayloadParams &payload = p.payloads[q];
    payload.source = reinterpret_cast<const uint8_t *>(d->payloads[q]);
    payload.target = payloadOffset(*rank, *d, q);
    payload.rowBytes = d->row_bytes[q];
    payload.vectorLog2 = vectorLog2(d->payloads[q], d->row_bytes[q]);
    widest = std::max(widest, d->row_bytes[q]);
  }
  p.ids = reinterpret_cast<const int32_t *>(d->expert_ids);
  p.tokenCount = reinterpret_cast<const int32_t *>(d->num_local_tokens_ptr);
  p.stats = reinterpret_cast<const int32_t *>(d->expert_stats);
  p.numTokens = d->num_local_tokens;
  p.payloadCount = d->payload_count;
  p.idPayload = d->expert_id_payload;
  p.invalidId = d->invalid_expert_id;
  p.statsLength = d->stats_length;
  p.dropInvalid = rank->config.drop_invalid_experts;
  p.fillPadding = rank->options.fill_padding;

  const auto done = [&](int32_t result) {
    if (result == MOE_A2A_OK) rank->lanes[d->lane] = {d->max_tokens, d->num_local_tokens, true};
    return result;
  };
  const uint64_t perRow = countPackets(p);
  const uint64_t room = packetsOf(rank->config.max_dispatch_bytes_per_token) + MOE_A2A_MAX_PAYLOADS;
  if (d->stats_length == 0 && takesPackets(*rank, d->max_tokens, perRow, room)) {
    const int slots = rank->config.ep_size * d->max_tokens;
    const int blocks = planPackets(p.packets, perRow, p.numTokens, slots, d->mapping, rank->maxPacketBlocks);
    return done(launch(*rank, dispatchInPacketsFunction(), blocks, &p, d->stream, d->lane, MOE_A2A_DISPATCH));
  }

  const moe_a2a_mapping m = chooseMapping(d->mapping, d->num_local_tokens, widest, rank->maxBlocks);
  p.tokensPerTile = m.tokens_per_tile;
  p.splits = m.splits;
  p.lanesLog2 = m.kind == 2 ? kThreadsLog2 : kWarpLog2;
  for (int q = 0; q < d->payload_count; q++) {
    p.payloads[q].parts = partsOf(d->row_bytes[q] >> p.payloads[q].vectorLog2, m.splits);
  }
  spreadWords(p);
  p.scan = m.slots_by == 2 || p.numTokens > kMaxCounted;
  const int64_t idBytes = d->expert_id_payload < 0 ? 0
                                                   : static_cast<int64_t>(rank->config.ep_size) * d->max_tokens *
                                                         d->row_bytes[d->expert_id_payload];
  const auto fillers = static_cast<int>(std::min<int64_t>(rank->maxBlocks, idBytes / kFillBytesPerBlock));
  p.receivers = std::max(1, fillers);
  const int blocks = d->mapping.blocks ? d->mapping.blocks : std::max(m.blocks, p.receivers);
  const bool direct = !p.scan && !p.hasMore && p.receivers == 1 &&
                      isOneEach(p.numTokens, p.tokensPerTile, p.splits, blocks, rank->maxBlocks);
  return done(launch(*rank, dispatchFunction(direct), blocks, &p, d->stream, d->lane, MOE_A2A_DISPATCH));
}

int32_t moe_a2a_combine(moe_a2a_rank *rank, const moe_a2a_combine_args *c) {
  using namespace moe_a2a;
  if (!c || c->struct_size != sizeof(*c)) return invalid("struct_size is wrong");
  if (const char *problem = problemOf(*rank, *c)) return invalid(problem);
  const LaneRecord &lane = rank->lanes[c->lane];
  CombineParams p{};
  p.phase = phaseParams(*rank, c->lane, MOE_A2A_COMBINE, lane.maxTokens);
  const bool inPlace = c->expert_output == reinterpret_cast<uint64_t>(rank->window + p.phase.at.combine);
  p.expertOutput = inPlace ? nullptr : reinterpret_cast<const uint8_t *>(c->expert_output);
  p.output = reinterpret_cast<uint8_t *>(c->output);
  p.hiddenSize = c->hidden_size;
  p.dtype = c->dtype;
  p.rowBytes = c->hidden_size * (c->dtype == MOE_A2A_FLOAT32 ? 4 : 2);
  p.copyVectorLog2 = vectorLog2(c->expert_output, p.rowBytes);
  const int outRowBytes = c->hidden_size * (c->out_dtype == MOE_A2A_FLOAT32 ? 4 : 2);
  p.vectorized =
      p.rowBytes % 16 == 0 && (c->output | static_cast<uint64_t>(outRowBytes)) %
                                      (c->dtype == MOE_A2A_FLOAT32 && c->out_dtype != MOE_A2A_FLOAT32 ? 8 : 16) ==
                                  0;
  p.rows = lane.rows;
  const auto done = [&](int32_t result) {
    if (result == MOE_A2A_OK) rank->lanes[c->lane].dispatched = false;
    return result;
  };
  const uint64_t perRow = packetsOf(static_cast<uint64_t>(p.rowBytes));
  if (takesPackets(*rank, lane.maxTokens, perRow, packetsOf(rank->config.max_combine_bytes_per_token))) {
    const int outPacketBytes = (c->dtype == MOE_A2A_FLOAT32 ? 2 : 4) * (c->out_dtype == MOE_A2A_FLOAT32 ? 4 : 2);
    p.storesWhole = (c->output | static_cast<uint64_t>(outRowBytes)) % outPacketBytes == 0;
    const int slots = rank->config.ep_size * lane.maxTokens;
    const int blocks = planPackets(p.packets, perRow, slots, lane.rows, c->mapping, rank->maxPacketBlocks);
    // Results in the receive buffer, say, as experts that do nothing leave them.
    const uint64_t end = reinterpret_cast<uint64_t>(rank->window) + rank->layout.window_bytes;
    p.packets.headerLast =
        p.expertOutput && c->expert_output < end &&
        c->expert_output + static_cast<uint64_t>(slots) * p.rowBytes > reinterpret_cast<uint64_t>(rank->window);
    const void *kernel = combineInPacketsFunction(c->dtype, c->out_dtype);
    return done(launch(*rank, kernel, blocks, &p, c->stream, c->lane, MOE_A2A_COMBINE));
  }
  const moe_a2a_mapping m = chooseMapping(c->mapping, lane.rows, std::max(1, p.rowBytes), rank->maxBlocks);
  p.tokensPerTile = m.tokens_per_tile;
  p.splits = m.splits;
  p.lanesLog2 = m.kind == 2 ? kThreadsLog2 : kWarpLog2;
  p.parts = partsOf(p.vectorized ? p.rowBytes / 16 : p.hiddenSize, m.splits);
  const int64_t slots = static_cast<int64_t>(rank->config.ep_size) * lane.maxTokens;
  const bool copies = !inPlace && slots > 0;
  p.copyTickets =
      copies ? static_cast<int>(std::min<int64_t>(rank->maxBlocks, (slots + kCopyRowsPerBlock - 1) / kCopyRowsPerBlock))
             : 0;
  const int blocks = c->mapping.blocks ? c->mapping.blocks : std::max(lane.rows ? m.blocks : 1, p.copyTickets);
  const bool direct = p.copyTickets == 0 && p.vectorized && c->dtype == c->out_dtype &&
                      isOneEach(lane.rows, p.tokensPerTile, p.splits, blocks, rank->maxBlocks);
  const void *kernel = combineFunction(c->dtype, c->out_dtype, direct);
  return done(launch(*rank, kernel, blocks, &p, c->stream, c->lane, MOE_A2A_COMBINE));
}

int32_t moe_a2a_phase_event(const moe_a2a_rank *rank, int32_t lane, int32_t phase, uint64_t *event) {
  if (!event || lane < 0 || lane >= MOE_A2A_MAX_LANES || phase < 0 || phase > 1)
    return moe_a2a::invalid("lane or phase is out of range");
  *event = reinterpret_cast<uint64_t>(rank->phaseEvents[lane][phase]);
  return MOE_A2A_OK;
}

}  // extern "C"
