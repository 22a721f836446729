#include "rank.hpp"

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
  return moe_a2a_stream_create(options.device, &copyStream_);
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
    for (const uint64_t stream : {laneStreams_[1], copyStream_}) {
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
  usedForeignStreams_ |= args.stream != laneStreams_[lane];
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
  usedForeignStreams_ |= args.stream != laneStreams_[lane];
  return moe_a2a_combine(handle_, &args);
}

int32_t Rank::copy(bool toDevice, uint64_t address, void *staged, uint64_t bytes, const uint64_t *events,
                   size_t eventCount, const uint64_t *streams, size_t streamCount, uint64_t *passed) {
  const int32_t device = options.device;
  // What waits for nothing must not stand behind what does.
  uint64_t stream = streamCount > 0 ? copyStream_ : sharedCopyStream_;
  for (size_t i = 0; i < eventCount; i++) {
    const int32_t state = moe_a2a_event_query(device, events[i]);
    if (state < 0) return state;
    if (state != MOE_A2A_PENDING) continue;
    stream = copyStream_;
    TRY(moe_a2a_event_wait(device, events[i], stream));
  }
  uint64_t event;
  TRY(EventPool::instance().take(device, &event));
  const auto enqueue = [&]() -> int32_t {
    for (size_t i = 0; i < streamCount; i++) {
      // A wait is for what the event stands for at that moment, so that one event does for all.
      TRY(moe_a2a_event_record(device, event, streams[i]));
      TRY(moe_a2a_event_wait(device, event, stream));
    }
    const auto host = reinterpret_cast<uint64_t>(staged);
    TRY(moe_a2a_copy(device, toDevice ? address : host, toDevice ? host : address, bytes, stream));
    return moe_a2a_event_record(device, event, stream);
  };
  const int32_t result = enqueue();
  if (result < 0) EventPool::instance().give(device, event);
  else *passed = event;
  return result;
}

int32_t Rank::noteReplay(uint64_t stream) {
  usedForeignStreams_ |= stream != laneStreams_[0] && stream != laneStreams_[1];
  return moe_a2a_note_replay(handle_, stream);
}

int32_t Rank::recordOn(uint64_t stream, std::vector<uint64_t> &events) {
  uint64_t event;
  TRY(EventPool::instance().take(options.device, &event));
  events.push_back(event);
  return moe_a2a_event_record(options.device, event, stream);
}

// Events that pass with all phases and copies, and with whatever the lanes' own streams hold.
int32_t Rank::recordAll(std::vector<uint64_t> &events) {
  for (int lane = 0; lane < config.rounds_in_flight; lane++) {
    TRY(recordOn(laneStreams_[lane], events));
    if (!usedForeignStreams_) continue;
    for (const int phase : {MOE_A2A_DISPATCH, MOE_A2A_COMBINE}) {
      uint64_t passed;
      TRY(moe_a2a_phase_event(handle_, lane, phase, &passed));
      TRY(moe_a2a_event_wait(options.device, passed, copyStream_));
    }
  }
  if (usedForeignStreams_) {
    uint64_t passed;
    TRY(moe_a2a_replay_event(handle_, &passed));
    TRY(moe_a2a_event_wait(options.device, passed, copyStream_));
  }
  TRY(recordOn(copyStream_, events));
  return recordOn(sharedCopyStream_, events);
}

void Rank::release(uint64_t address) {
  std::vector<uint64_t> events;
  // Where the device is broken, nobody gets this memory again.
  if (recordAll(events) >= 0) DevicePool::instance().give(address, std::move(events));
}

}  // namespace moe_a2a_addon
