#include "rank.hpp"

#include <algorithm>

#include "process_memory.hpp"

namespace moe_a2a_addon {

namespace {

// Returns from the calling function where a call of the library failed.
#define TRY(call)                                                    \
  do {                                                               \
    if (const int32_t result_ = (call); result_ < 0) return result_; \
  } while (0)

void readMapping(const int32_t *words, moe_a2a_mapping &mapping) {
  mapping.kind = words[0];
  mapping.tokens_per_tile = words[1];
  mapping.splits = words[2];
  mapping.blocks = words[3];
  mapping.slots_by = words[4];
}

}  // namespace

int32_t Rank::open() {
  TRY(StagingPool::instance().reserve());
  TRY(moe_a2a_rank_create(&config, &options, &handle_));
  WindowStore::instance().join(key);
  joined_ = true;
  TRY(moe_a2a_rank_stream(handle_, &laneStreams_[0]));
  // Lanes are independent, so the second one gets a stream of its own.
  if (config.rounds_in_flight > 1) TRY(moe_a2a_stream_create(options.device, &laneStreams_[1]));
  TRY(CopyStreams::instance().of(options.device, &sharedCopyStream_));
  TRY(CopyStreams::instance().reserve(options.device));
  return moe_a2a_stream_create(options.device, &releaseStream_);
}

int32_t Rank::connect(const uint64_t *windows, const int32_t *devices) {
  return moe_a2a_rank_connect(handle_, windows, devices);
}

int32_t Rank::close(bool announce) {
  int32_t first = MOE_A2A_OK;
  const auto note = [&](int32_t result) {
    if (result < 0 && first == MOE_A2A_OK) first = result;
  };
  const int32_t device = options.device;
  uint64_t window = 0, bytes = 0;
  if (handle_ != nullptr) {
    note(moe_a2a_stop(handle_, 1));
    if (announce) note(moe_a2a_announce_close(handle_));
    if (announce) lines.sayGoodbye();
    note(moe_a2a_drain(handle_));
    if (sharedCopyStream_) note(moe_a2a_stream_synchronize(device, sharedCopyStream_));
    for (const uint64_t stream : copyQueues->streams()) note(moe_a2a_stream_synchronize(device, stream));
    for (const uint64_t stream : {laneStreams_[1], releaseStream_}) {
      if (stream == 0) continue;
      note(moe_a2a_stream_synchronize(device, stream));
      note(moe_a2a_stream_destroy(device, stream));
    }
    if (joined_) {
      note(moe_a2a_rank_window(handle_, &window, &bytes));
      note(moe_a2a_rank_detach_window(handle_));
    }
    moe_a2a_rank_destroy(handle_);
    handle_ = nullptr;
  }
  if (exchange) exchange->close();
  releaseImported();
  lines = PeerLines();
  if (joined_) WindowStore::instance().leave(key, device, window);
  joined_ = false;
  return first;
}

int32_t Rank::dispatch(int lane) {
  uint8_t *block = blocks[lane];
  const auto *words = reinterpret_cast<const int32_t *>(block);
  const auto *longs = reinterpret_cast<const uint64_t *>(block);
  // With its padding, as the library compares it to the last one's.
  auto args = moe_a2a_dispatch_args();
  args.struct_size = sizeof args;
  args.lane = lane;
  args.stream = longs[LaneBlock::kDispatchStream];
  args.capture = longs[LaneBlock::kDispatchCapture];
  args.num_local_tokens = words[LaneBlock::kNumLocalTokens];
  args.num_local_tokens_ptr = longs[LaneBlock::kTokenCount];
  args.max_tokens = words[LaneBlock::kMaxTokens];
  args.expert_ids = longs[LaneBlock::kExpertIds];
  args.payload_count = words[LaneBlock::kPayloadCount];
  for (int p = 0; p < MOE_A2A_MAX_PAYLOADS; p++) {
    args.payloads[p] = longs[LaneBlock::kPayloads + p];
    args.row_bytes[p] = words[LaneBlock::kRowBytes + p];
  }
  args.expert_id_payload = words[LaneBlock::kExpertIdPayload];
  args.invalid_expert_id = words[LaneBlock::kInvalidExpertId];
  args.expert_stats = longs[LaneBlock::kStats];
  args.stats_length = words[LaneBlock::kStatsLength];
  readMapping(words + LaneBlock::kDispatchMapping, args.mapping);
  if (args.stream != laneStreams_[lane]) usedForeignStreams_ = true;
  TRY(moe_a2a_dispatch(handle_, &args));
  auto *offsets = reinterpret_cast<uint64_t *>(block) + LaneBlock::kRecvOffsets;
  for (int p = 0; p < args.payload_count; p++) TRY(moe_a2a_recv_offset(handle_, &args, p, offsets + p));
  return MOE_A2A_OK;
}

int32_t Rank::combine(int lane) {
  const auto *words = reinterpret_cast<const int32_t *>(blocks[lane]);
  const auto *longs = reinterpret_cast<const uint64_t *>(blocks[lane]);
  auto args = moe_a2a_combine_args();
  args.struct_size = sizeof args;
  args.lane = lane;
  args.stream = longs[LaneBlock::kCombineStream];
  args.capture = longs[LaneBlock::kCombineCapture];
  args.expert_output = longs[LaneBlock::kExpertOutput];
  args.hidden_size = words[LaneBlock::kHiddenSize];
  args.dtype = words[LaneBlock::kDType];
  args.out_dtype = words[LaneBlock::kOutDType];
  args.output = longs[LaneBlock::kOutput];
  readMapping(words + LaneBlock::kCombineMapping, args.mapping);
  if (args.stream != laneStreams_[lane]) usedForeignStreams_ = true;
  return moe_a2a_combine(handle_, &args);
}

int32_t Rank::copy(bool toDevice, uint64_t address, void *staged, uint64_t bytes, const After &after, uint64_t *passed,
                   uint64_t *queue) {
  const int32_t device = options.device;
  std::vector<uint64_t> pending;
  for (size_t i = 0; i < after.eventCount; i++) {
    const int32_t state = moe_a2a_event_query(device, after.events[i]);
    if (state < 0) return state;
    if (state == MOE_A2A_PENDING) pending.push_back(after.events[i]);
  }
  const After still{pending.data(), pending.size(), after.streams, after.streamCount};
  std::vector<uint64_t> all = pending;
  all.insert(all.end(), after.streams, after.streams + after.streamCount);
  // What waits for nothing must not stand behind what does.
  *queue = 0;
  if (!all.empty()) TRY(copyQueues->join(device, std::move(all), queue));
  uint64_t event = 0;
  const auto host = reinterpret_cast<uint64_t>(staged);
  int32_t result = EventPool::instance().take(device, &event);
  if (result >= 0) {
    result = enqueueCopy(toDevice ? address : host, toDevice ? host : address, bytes, still, event,
                         *queue ? *queue : sharedCopyStream_);
    if (result < 0) EventPool::instance().give(device, event);
  }
  if (result < 0 && *queue) copyQueues->leave(device, *queue);
  *passed = event;
  return result;
}

int32_t Rank::enqueueCopy(uint64_t target, uint64_t source, uint64_t bytes, const After &after, uint64_t event,
                          uint64_t stream) {
  const int32_t device = options.device;
  for (size_t i = 0; i < after.eventCount; i++) TRY(moe_a2a_event_wait(device, after.events[i], stream));
  for (size_t i = 0; i < after.streamCount; i++) {
    // A wait is for what the event stands for at that moment, so that one event does for all.
    TRY(moe_a2a_event_record(device, event, after.streams[i]));
    TRY(moe_a2a_event_wait(device, event, stream));
  }
  TRY(moe_a2a_copy(device, target, source, bytes, stream));
  return moe_a2a_event_record(device, event, stream);
}

int32_t Rank::replay(uint64_t graph, uint64_t stream, int32_t times, uint64_t event) {
  // Often enough for those who look whether this rank is at work, and have to wait where a launch fails.
  constexpr int32_t kLaunchesPerNote = 64;
  if (stream != laneStreams_[0] && stream != laneStreams_[1]) usedForeignStreams_ = true;
  const int32_t device = options.device;
  for (int32_t done = 0; done < times && !stopsReplays;) {
    const int32_t launches = done == 0 ? 1 : std::min(times - done, kLaunchesPerNote);
    const int32_t result = moe_a2a_graph_launch(device, graph, stream, launches);
    // Nothing is recorded on a stream that somebody captures.
    if (result == MOE_A2A_CAPTURED_OTHERWISE) return result;
    const int32_t noted = moe_a2a_note_replay(handle_, stream);
    if (result < 0 || noted < 0) return result < 0 ? result : noted;
    done += launches;
  }
  return moe_a2a_event_record(device, event, stream);
}

int32_t Rank::recordOn(uint64_t stream, std::vector<uint64_t> &events) {
  uint64_t event;
  TRY(EventPool::instance().take(options.device, &event));
  events.push_back(event);
  return moe_a2a_event_record(options.device, event, stream);
}

// An event that passes with the phases and graphs on streams of the caller's.
int32_t Rank::recordForeign(std::vector<uint64_t> &events) {
  uint64_t passed;
  for (int lane = 0; lane < config.rounds_in_flight; lane++) {
    for (const int phase : {MOE_A2A_DISPATCH, MOE_A2A_COMBINE}) {
      TRY(moe_a2a_phase_event(handle_, lane, phase, &passed));
      TRY(moe_a2a_event_wait(options.device, passed, releaseStream_));
    }
  }
  TRY(moe_a2a_replay_event(handle_, &passed));
  TRY(moe_a2a_event_wait(options.device, passed, releaseStream_));
  return recordOn(releaseStream_, events);
}

// Events that pass with all phases and copies, and with whatever the lanes' own streams hold.
int32_t Rank::recordAll(std::vector<uint64_t> &events) {
  for (int lane = 0; lane < config.rounds_in_flight; lane++) TRY(recordOn(laneStreams_[lane], events));
  if (usedForeignStreams_) TRY(recordForeign(events));
  for (const uint64_t stream : copyQueues->streams()) TRY(recordOn(stream, events));
  return recordOn(sharedCopyStream_, events);
}

void Rank::release(uint64_t address) {
  std::vector<uint64_t> events;
  // Where the device is broken, nobody gets this memory again.
  if (recordAll(events) >= 0) DevicePool::instance().give(address, std::move(events));
}

}  // namespace moe_a2a_addon
