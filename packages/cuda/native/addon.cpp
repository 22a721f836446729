// The addon's functions. They are private to @moe-a2a/cuda, whose src/native.ts says what each one takes.
#include <napi.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "arguments.hpp"
#include "moe_a2a.h"
#include "process_memory.hpp"
#include "rank.hpp"
#include "waiter.hpp"

namespace moe_a2a_addon {

namespace {

// Ranks that share a GPU must not share its hardware queues: a kernel that waits for a peer would hold up that peer. Read
// when the driver starts, so before anything else.
void claimHardwareQueues() {
  static std::once_flag once;
  std::call_once(once, [] { setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0); });
}

moe_a2a_config readConfig(const Napi::CallbackInfo &info, size_t index) {
  const int32_t *v = int32Array(info, index, 10).data;
  return {sizeof(moe_a2a_config), v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], v[9]};
}

}  // namespace

class Addon : public Napi::Addon<Addon> {
 public:
  Addon(Napi::Env env, Napi::Object exports) : env_(env), waiter_(env) {
    claimHardwareQueues();
    DefineAddon(exports, {
      InstanceValue("packageVersion", Napi::String::New(env, MOE_A2A_PACKAGE_VERSION)),
      InstanceValue("interfaceVersion", Napi::Number::New(env, MOE_A2A_VERSION)),
      InstanceMethod("listen", &Addon::Listen),
      InstanceMethod("platform", &Addon::Platform),
      InstanceMethod("device", &Addon::Device),
      InstanceMethod("memory", &Addon::Memory),
      InstanceMethod("canAccessPeer", &Addon::CanAccessPeer),
      InstanceMethod("plan", &Addon::Plan),
      InstanceMethod("chooseMapping", &Addon::ChooseMapping),
      InstanceMethod("lastError", &Addon::LastError),
      InstanceMethod("makeRank", &Addon::MakeRank),
      InstanceMethod("openRank", &Addon::OpenRank),
      InstanceMethod("connectRank", &Addon::ConnectRank),
      InstanceMethod("closeRank", &Addon::CloseRank),
      InstanceMethod("addresses", &Addon::Addresses),
      InstanceMethod("bindLane", &Addon::BindLane),
      InstanceMethod("dispatch", &Addon::Dispatch),
      InstanceMethod("combine", &Addon::Combine),
      InstanceMethod("outcome", &Addon::Outcome),
      InstanceMethod("hasFailed", &Addon::HasFailed),
      InstanceMethod("abort", &Addon::Abort),
      InstanceMethod("stop", &Addon::Stop),
      InstanceMethod("markGone", &Addon::MarkGone),
      InstanceMethod("noteReplay", &Addon::NoteReplay),
      InstanceMethod("drain", &Addon::Drain),
      InstanceMethod("clean", &Addon::Clean),
      InstanceMethod("raiseGeneration", &Addon::RaiseGeneration),
      InstanceMethod("tellFailedReset", &Addon::TellFailedReset),
      InstanceMethod("startGeneration", &Addon::StartGeneration),
      InstanceMethod("setDelays", &Addon::SetDelays),
      InstanceMethod("allocate", &Addon::Allocate),
      InstanceMethod("release", &Addon::Release),
      InstanceMethod("heldBytes", &Addon::HeldBytes),
      InstanceMethod("upload", &Addon::Upload),
      InstanceMethod("download", &Addon::Download),
      InstanceMethod("collect", &Addon::Collect),
      InstanceMethod("pointerDevice", &Addon::PointerDevice),
      InstanceMethod("createStream", &Addon::CreateStream),
      InstanceMethod("destroyStream", &Addon::DestroyStream),
      InstanceMethod("isCapturing", &Addon::IsCapturing),
      InstanceMethod("takeEvent", &Addon::TakeEvent),
      InstanceMethod("giveEvent", &Addon::GiveEvent),
      InstanceMethod("recordEvent", &Addon::RecordEvent),
      InstanceMethod("createTimer", &Addon::CreateTimer),
      InstanceMethod("destroyTimer", &Addon::DestroyTimer),
      InstanceMethod("elapsed", &Addon::Elapsed),
      InstanceMethod("streamWait", &Addon::StreamWait),
      InstanceMethod("waitFor", &Addon::WaitFor),
      InstanceMethod("cancel", &Addon::Cancel),
      InstanceMethod("pollEvent", &Addon::PollEvent),
      InstanceMethod("beginCapture", &Addon::BeginCapture),
      InstanceMethod("endCapture", &Addon::EndCapture),
      InstanceMethod("launchGraph", &Addon::LaunchGraph),
      InstanceMethod("launchGraphSlowly", &Addon::LaunchGraphSlowly),
      InstanceMethod("destroyGraph", &Addon::DestroyGraph),
    });
    // Before the threadsafe function's own hook, as hooks run in reverse order.
    napi_add_env_cleanup_hook(env, &Addon::OnEnvironmentEnds, this);
  }

  ~Addon() { Leave(); }

 private:
  static void OnEnvironmentEnds(void *self) { static_cast<Addon *>(self)->Leave(); }

  // The thread ends, perhaps in the middle of rounds: its kernels end, and memory that peers may use stays.
  void Leave() {
    if (left_) return;
    left_ = true;
    for (auto &[id, rank] : ranks_) {
      if (!rank->busy && rank->handle() != nullptr) moe_a2a_stop(rank->handle(), 1);
    }
    waiter_.shutDown();
    for (auto &[id, rank] : ranks_) {
      rank->close(false);
      rank->busy = false;
      giveDeferred(*rank);
    }
    ranks_.clear();
    waiter_.endWaits();
    for (const auto &[token, copy] : downloads_) StagingPool::instance().give(copy.bytes, copy.staged);
    downloads_.clear();
    for (const uint64_t address : tensors_) DevicePool::instance().give(address);
    tensors_.clear();
  }

  Rank &rankOf(const Napi::CallbackInfo &info) {
    const auto found = ranks_.find(uint32(info, 0));
    if (found == ranks_.end()) throw Napi::Error::New(info.Env(), "there is no such rank");
    return *found->second;
  }
  Rank &openRankOf(const Napi::CallbackInfo &info) {
    Rank &rank = rankOf(info);
    if (!rank.isOpen()) throw Napi::Error::New(info.Env(), "the rank is not open, or busy");
    return rank;
  }
  int laneOf(const Napi::CallbackInfo &info, size_t index, const Rank &rank) {
    return static_cast<int>(integer(info, index, 0, rank.config.rounds_in_flight - 1));
  }

  // Runs a task that has the rank to itself.
  Napi::Value Occupy(Rank &rank, std::function<int32_t()> task) {
    rank.busy = true;
    return Napi::Number::New(env_, waiter_.run(std::move(task), [&rank] {
      rank.busy = false;
      giveDeferred(rank);
    }));
  }

  static void giveDeferred(Rank &rank) {
    for (const uint64_t address : rank.deferred) {
      if (rank.isOpen()) rank.release(address);
      else DevicePool::instance().give(address);
    }
    rank.deferred.clear();
  }

  Napi::Value Listen(const Napi::CallbackInfo &info) {
    if (!info[0].IsFunction()) typeError(info.Env(), 0, "a function");
    waiter_.listen(info[0].As<Napi::Function>());
    return info.Env().Undefined();
  }

  Napi::Value Platform(const Napi::CallbackInfo &info) {
    moe_a2a_platform_info platform{};
    platform.struct_size = sizeof platform;
    check(info.Env(), moe_a2a_platform(&platform));
    Napi::Object result = Napi::Object::New(info.Env());
    result["driverVersion"] = platform.driver_version;
    result["runtimeVersion"] = platform.runtime_version;
    result["deviceCount"] = platform.device_count;
    result["deviceError"] = platform.device_error;
    return result;
  }

  Napi::Value Device(const Napi::CallbackInfo &info) {
    moe_a2a_device_info device{};
    device.struct_size = sizeof device;
    check(info.Env(), moe_a2a_device(int32(info, 0), &device));
    Napi::Object result = Napi::Object::New(info.Env());
    result["name"] = fixedText(device.name);
    result["pciBusId"] = fixedText(device.pci_bus_id);
    result["computeMajor"] = device.compute_major;
    result["computeMinor"] = device.compute_minor;
    result["multiprocessors"] = device.multiprocessors;
    result["totalBytes"] = static_cast<double>(device.total_bytes);
    return result;
  }

  Napi::Value Memory(const Napi::CallbackInfo &info) {
    uint64_t free = 0, total = 0;
    check(info.Env(), moe_a2a_memory(int32(info, 0), &free, &total));
    Napi::Object result = Napi::Object::New(info.Env());
    result["freeBytes"] = static_cast<double>(free);
    result["totalBytes"] = static_cast<double>(total);
    return result;
  }

  Napi::Value CanAccessPeer(const Napi::CallbackInfo &info) {
    int32_t can = 0;
    check(info.Env(), moe_a2a_can_access_peer(int32(info, 0), int32(info, 1), &can));
    return Napi::Boolean::New(info.Env(), can != 0);
  }

  // The layout as numbers, in the header's order, lanes last.
  Napi::Value Plan(const Napi::CallbackInfo &info) {
    const moe_a2a_config config = readConfig(info, 0);
    moe_a2a_layout layout{};
    layout.struct_size = sizeof layout;
    check(info.Env(), moe_a2a_plan(&config, &layout));
    std::vector<double> values;
    for (const uint64_t value : {layout.control, layout.abort_records, layout.state, layout.accumulator,
                                 layout.recv_buffer_bytes, layout.stats_row_bytes,
                                 static_cast<uint64_t>(layout.max_targets), layout.window_bytes, layout.private_bytes}) {
      values.push_back(static_cast<double>(value));
    }
    for (int lane = 0; lane < config.rounds_in_flight; lane++) {
      uint64_t offsets[sizeof(moe_a2a_lane_layout) / sizeof(uint64_t)];
      std::memcpy(offsets, &layout.lanes[lane], sizeof offsets);
      for (const uint64_t offset : offsets) values.push_back(static_cast<double>(offset));
    }
    auto result = Napi::Float64Array::New(info.Env(), values.size());
    std::copy(values.begin(), values.end(), result.Data());
    return result;
  }

  Napi::Value ChooseMapping(const Napi::CallbackInfo &info) {
    moe_a2a_mapping mapping{};
    check(info.Env(), moe_a2a_choose_mapping(int32(info, 0), int32(info, 1), int32(info, 2), int32(info, 3), &mapping));
    auto result = Napi::Int32Array::New(info.Env(), 5);
    std::memcpy(result.Data(), &mapping, sizeof mapping);
    return result;
  }

  Napi::Value LastError(const Napi::CallbackInfo &info) {
    return toException(info.Env(), lastError(MOE_A2A_INVALID)).Value();
  }

  Napi::Value MakeRank(const Napi::CallbackInfo &info) {
    auto rank = std::make_unique<Rank>();
    rank->config = readConfig(info, 0);
    const uint32_t *v = uint32Array(info, 1, 6).data;
    rank->options = {sizeof(moe_a2a_rank_options), static_cast<int32_t>(v[0]), static_cast<int32_t>(v[1]), v[2],
                     static_cast<int32_t>(v[3]), static_cast<int32_t>(v[4]), static_cast<int32_t>(v[5])};
    rank->key = text(info, 2);
    const uint32_t id = nextRank_++;
    ranks_.emplace(id, std::move(rank));
    return Napi::Number::New(info.Env(), id);
  }

  Napi::Value OpenRank(const Napi::CallbackInfo &info) {
    Rank &rank = rankOf(info);
    if (rank.handle() != nullptr || rank.busy) throw Napi::Error::New(info.Env(), "the rank is open already");
    return Occupy(rank, [&rank] { return rank.open(); });
  }

  Napi::Value ConnectRank(const Napi::CallbackInfo &info) {
    Rank &rank = openRankOf(info);
    const size_t ranks = rank.config.ep_size;
    const uint64_t *windows = handleArray(info, 1, ranks).data;
    const int32_t *devices = int32Array(info, 2, ranks).data;
    return Occupy(rank, [&rank, windows = std::vector(windows, windows + ranks),
                         devices = std::vector(devices, devices + ranks)] {
      return rank.connect(windows.data(), devices.data());
    });
  }

  Napi::Value CloseRank(const Napi::CallbackInfo &info) {
    const uint32_t id = uint32(info, 0);
    Rank &rank = rankOf(info);
    if (rank.busy) throw Napi::Error::New(info.Env(), "the rank is busy");
    const bool announce = info[1].ToBoolean().Value();
    rank.busy = true;
    const uint32_t token = waiter_.run([&rank, announce] { return rank.close(announce); }, [this, &rank, id] {
      giveDeferred(rank);
      ranks_.erase(id);
    });
    return Napi::Number::New(info.Env(), token);
  }

  // Window, private memory; then by lane its stream and its dispatch's and combine's events.
  Napi::Value Addresses(const Napi::CallbackInfo &info) {
    const Rank &rank = openRankOf(info);
    std::vector<uint64_t> values(2);
    uint64_t bytes;
    check(info.Env(), moe_a2a_rank_window(rank.handle(), &values[0], &bytes));
    check(info.Env(), moe_a2a_rank_private(rank.handle(), &values[1], &bytes));
    for (int lane = 0; lane < rank.config.rounds_in_flight; lane++) {
      values.push_back(rank.laneStream(lane));
      for (const int phase : {MOE_A2A_DISPATCH, MOE_A2A_COMBINE}) {
        uint64_t event;
        check(info.Env(), moe_a2a_phase_event(rank.handle(), lane, phase, &event));
        values.push_back(event);
      }
    }
    auto result = Napi::BigUint64Array::New(info.Env(), values.size());
    std::copy(values.begin(), values.end(), result.Data());
    return result;
  }

  Napi::Value BindLane(const Napi::CallbackInfo &info) {
    Rank &rank = openRankOf(info);
    const int lane = laneOf(info, 1, rank);
    if (!info[2].IsArrayBuffer()) typeError(info.Env(), 2, "an ArrayBuffer");
    auto block = info[2].As<Napi::ArrayBuffer>();
    if (block.ByteLength() < LaneBlock::kBytes) typeError(info.Env(), 2, "of 512 bytes");
    rank.blocks[lane] = static_cast<uint8_t *>(block.Data());
    rank.blockRefs[lane] = Napi::Persistent(block);
    return info.Env().Undefined();
  }

  Napi::Value Dispatch(const Napi::CallbackInfo &info) {
    Rank &rank = openRankOf(info);
    const int lane = laneOf(info, 1, rank);
    if (rank.blocks[lane] == nullptr) throw Napi::Error::New(info.Env(), "the lane is not bound");
    return Napi::Number::New(info.Env(), rank.dispatch(lane));
  }

  Napi::Value Combine(const Napi::CallbackInfo &info) {
    Rank &rank = openRankOf(info);
    const int lane = laneOf(info, 1, rank);
    if (rank.blocks[lane] == nullptr) throw Napi::Error::New(info.Env(), "the lane is not bound");
    return Napi::Number::New(info.Env(), rank.combine(lane));
  }

  /*
   * Writes [completed, known, numLocalTokens, sent, received, padding, invalid, inactive, waitNs…] into a Float64Array;
   * returns the failure, where there is one.
   */
  Napi::Value Outcome(const Napi::CallbackInfo &info) {
    Rank &rank = openRankOf(info);
    const int lane = laneOf(info, 1, rank);
    const auto phase = static_cast<int32_t>(integer(info, 2, MOE_A2A_DISPATCH, MOE_A2A_COMBINE));
    const uint32_t round = uint32(info, 3);
    const auto values = doubleArray(info, 4, 8 + MOE_A2A_MAX_RANKS);
    // Several KB, which the stack of a deep call may not have.
    if (!outcome_) outcome_ = std::make_unique<moe_a2a_phase_outcome>();
    *outcome_ = {};
    outcome_->struct_size = sizeof(moe_a2a_phase_outcome);
    check(info.Env(), moe_a2a_outcome(rank.handle(), lane, phase, round, outcome_.get()));
    const moe_a2a_report &report = outcome_->report;
    const double head[] = {static_cast<double>(outcome_->completed), static_cast<double>(report.known),
                           static_cast<double>(report.num_local_tokens), static_cast<double>(report.tokens_sent),
                           static_cast<double>(report.tokens_received), static_cast<double>(report.dropped_padding),
                           static_cast<double>(report.dropped_invalid), static_cast<double>(report.dropped_inactive)};
    std::copy(std::begin(head), std::end(head), values.data);
    for (int r = 0; r < MOE_A2A_MAX_RANKS; r++) values.data[8 + r] = static_cast<double>(report.wait_ns[r]);
    if (outcome_->failure.code == MOE_A2A_NO_FAILURE) return info.Env().Undefined();
    return describe(info.Env(), outcome_->failure);
  }

  static Napi::Object describe(Napi::Env env, const moe_a2a_failure &failure) {
    Napi::Object result = Napi::Object::New(env);
    result["code"] = failure.code;
    result["foundBy"] = failure.found_by;
    result["phase"] = failure.phase;
    result["lane"] = failure.lane;
    result["round"] = failure.round;
    result["kind"] = failure.kind;
    result["field"] = failure.field;
    result["missingMask"] = Napi::BigInt::New(env, failure.missing_mask);
    result["rank"] = failure.rank;
    result["token"] = failure.token;
    result["k"] = failure.k;
    result["id"] = failure.id;
    result["value"] = failure.value;
    result["limit"] = failure.limit;
    result["valuesMask"] = Napi::BigInt::New(env, failure.values_mask);
    result["valuesPerRank"] = failure.values_per_rank;
    const int perRank = std::clamp(failure.values_per_rank, 0, MOE_A2A_MAX_PAYLOADS);
    auto values = Napi::Int32Array::New(env, static_cast<size_t>(perRank) * MOE_A2A_MAX_RANKS);
    std::copy_n(failure.values, values.ElementLength(), values.Data());
    result["values"] = values;
    const int bytes = std::clamp(failure.text_bytes, 0, MOE_A2A_TEXT_BYTES);
    result["text"] = Napi::String::New(env, failure.text, static_cast<size_t>(bytes));
    return result;
  }

  Napi::Value HasFailed(const Napi::CallbackInfo &info) {
    return Napi::Boolean::New(info.Env(), moe_a2a_has_failed(openRankOf(info).handle()) != 0);
  }

  Napi::Value Abort(const Napi::CallbackInfo &info) {
    Rank &rank = openRankOf(info);
    const std::string reason = text(info, 1);
    check(info.Env(), moe_a2a_abort(rank.handle(), reason.data(), static_cast<int32_t>(reason.size())));
    return info.Env().Undefined();
  }

  Napi::Value Stop(const Napi::CallbackInfo &info) {
    check(info.Env(), moe_a2a_stop(openRankOf(info).handle(), info[1].ToBoolean().Value()));
    return info.Env().Undefined();
  }

  Napi::Value MarkGone(const Napi::CallbackInfo &info) {
    Rank &rank = openRankOf(info);
    check(info.Env(), moe_a2a_mark_gone(rank.handle(), int32(info, 1), int32(info, 2)));
    return info.Env().Undefined();
  }

  Napi::Value NoteReplay(const Napi::CallbackInfo &info) {
    Rank &rank = openRankOf(info);
    check(info.Env(), moe_a2a_note_replay(rank.handle(), handle(info, 1)));
    return info.Env().Undefined();
  }

  Napi::Value Drain(const Napi::CallbackInfo &info) {
    Rank &rank = openRankOf(info);
    return Occupy(rank, [&rank] { return moe_a2a_drain(rank.handle()); });
  }

  Napi::Value Clean(const Napi::CallbackInfo &info) {
    Rank &rank = openRankOf(info);
    check(info.Env(), moe_a2a_clean(rank.handle(), uint32Array(info, 1, MOE_A2A_MAX_LANES).data));
    return info.Env().Undefined();
  }

  Napi::Value RaiseGeneration(const Napi::CallbackInfo &info) {
    Rank &rank = openRankOf(info);
    check(info.Env(), moe_a2a_raise_generation(rank.handle(), int32(info, 1), handle(info, 2)));
    return info.Env().Undefined();
  }

  // (rank, missing kind, missing ranks, generation, ranks to tell, next rounds)
  Napi::Value TellFailedReset(const Napi::CallbackInfo &info) {
    Rank &rank = openRankOf(info);
    auto failure = std::make_unique<moe_a2a_failure>();
    failure->struct_size = sizeof(moe_a2a_failure);
    failure->code = MOE_A2A_FAIL_MISSING;
    failure->phase = MOE_A2A_RESET;
    failure->kind = int32(info, 1);
    failure->missing_mask = handle(info, 2);
    const uint32_t *nextRounds = uint32Array(info, 5, MOE_A2A_MAX_LANES).data;
    check(info.Env(),
          moe_a2a_tell_failed_reset(rank.handle(), failure.get(), int32(info, 3), handle(info, 4), nextRounds));
    return info.Env().Undefined();
  }

  Napi::Value StartGeneration(const Napi::CallbackInfo &info) {
    Rank &rank = openRankOf(info);
    const uint32_t *nextRounds = uint32Array(info, 3, MOE_A2A_MAX_LANES).data;
    check(info.Env(), moe_a2a_start_generation(rank.handle(), int32(info, 1), handle(info, 2), nextRounds));
    return info.Env().Undefined();
  }

  Napi::Value SetDelays(const Napi::CallbackInfo &info) {
    Rank &rank = openRankOf(info);
    const uint32_t *v = uint32Array(info, 1, 8).data;
    const moe_a2a_delays delays{sizeof(moe_a2a_delays), {v[0], v[1]}, {v[2], v[3]}, {v[4], v[5]}, {v[6], v[7]}};
    check(info.Env(), moe_a2a_set_delays(rank.handle(), &delays));
    return info.Env().Undefined();
  }

  Napi::Value Allocate(const Napi::CallbackInfo &info) {
    uint64_t address = 0;
    check(info.Env(), DevicePool::instance().take(int32(info, 0), bytes(info, 1), &address));
    tensors_.insert(address);
    return fromHandle(info.Env(), address);
  }

  // Gives a tensor's memory back, after what the rank has enqueued where it is still there.
  Napi::Value Release(const Napi::CallbackInfo &info) {
    const uint64_t address = handle(info, 1);
    if (tensors_.erase(address) == 0) return info.Env().Undefined();
    const auto found = ranks_.find(uint32(info, 0));
    Rank *rank = found == ranks_.end() ? nullptr : found->second.get();
    if (rank != nullptr && rank->busy) rank->deferred.push_back(address);
    else if (rank != nullptr && rank->isOpen()) rank->release(address);
    else DevicePool::instance().give(address);
    return info.Env().Undefined();
  }

  Napi::Value HeldBytes(const Napi::CallbackInfo &info) {
    return Napi::Number::New(info.Env(), static_cast<double>(DevicePool::instance().heldBytes(int32(info, 0))));
  }

  struct Copy {
    int32_t device;
    uint64_t bytes;
    void *staged;
    uint64_t event;
  };

  // (rank, address, bytes or their number, events, eventCount, streams, streamCount)
  uint32_t Enqueue(const Napi::CallbackInfo &info, bool toDevice, Copy &copy) {
    Rank &rank = openRankOf(info);
    const uint64_t address = handle(info, 1);
    const uint8_t *source = nullptr;
    if (toDevice) {
      const auto given = byteArray(info, 2);
      source = given.data;
      copy.bytes = given.length;
    } else copy.bytes = bytes(info, 2);
    if (copy.bytes == 0 || copy.bytes > StagingPool::kLarge) typeError(info.Env(), 2, "of 1 byte to 4 MiB");
    const auto events = static_cast<size_t>(integer(info, 4, 0, 64));
    const uint64_t *eventHandles = handleArray(info, 3, events).data;
    const auto streams = static_cast<size_t>(integer(info, 6, 0, 64));
    const uint64_t *streamHandles = handleArray(info, 5, streams).data;
    copy.device = rank.options.device;
    check(info.Env(), StagingPool::instance().take(copy.bytes, &copy.staged));
    if (source != nullptr) std::memcpy(copy.staged, source, copy.bytes);
    const int32_t result = rank.copy(toDevice, address, copy.staged, copy.bytes, eventHandles, events, streamHandles,
                                     streams, &copy.event);
    if (result < 0) {
      const moe_a2a_error error = lastError(result);
      StagingPool::instance().give(copy.bytes, copy.staged);
      throw toException(info.Env(), error);
    }
    const Copy made = copy;
    return waiter_.waitFor(copy.device, copy.event, [made, toDevice] {
      EventPool::instance().give(made.device, made.event);
      if (toDevice) StagingPool::instance().give(made.bytes, made.staged);
    });
  }

  Napi::Value Upload(const Napi::CallbackInfo &info) {
    Copy copy{};
    return Napi::Number::New(info.Env(), Enqueue(info, true, copy));
  }

  Napi::Value Download(const Napi::CallbackInfo &info) {
    Copy copy{};
    const uint32_t token = Enqueue(info, false, copy);
    downloads_[token] = copy;
    return Napi::Number::New(info.Env(), token);
  }

  // Takes what a download brought, once its token was told; without a target it is dropped.
  Napi::Value Collect(const Napi::CallbackInfo &info) {
    const auto found = downloads_.find(uint32(info, 0));
    if (found == downloads_.end()) throw Napi::Error::New(info.Env(), "there is no such download");
    const Copy copy = found->second;
    if (!info[1].IsUndefined()) {
      const auto target = byteArray(info, 1);
      if (target.length != copy.bytes) typeError(info.Env(), 1, "as long as the download");
      std::memcpy(target.data, copy.staged, copy.bytes);
    }
    downloads_.erase(found);
    StagingPool::instance().give(copy.bytes, copy.staged);
    return info.Env().Undefined();
  }

  Napi::Value PointerDevice(const Napi::CallbackInfo &info) {
    int32_t device = -1;
    check(info.Env(), moe_a2a_pointer_device(handle(info, 0), &device));
    return Napi::Number::New(info.Env(), device);
  }

  Napi::Value CreateStream(const Napi::CallbackInfo &info) {
    uint64_t stream;
    check(info.Env(), moe_a2a_stream_create(int32(info, 0), &stream));
    return fromHandle(info.Env(), stream);
  }
  Napi::Value DestroyStream(const Napi::CallbackInfo &info) {
    check(info.Env(), moe_a2a_stream_destroy(int32(info, 0), handle(info, 1)));
    return info.Env().Undefined();
  }
  Napi::Value IsCapturing(const Napi::CallbackInfo &info) {
    int32_t capturing = 0;
    check(info.Env(), moe_a2a_stream_capturing(int32(info, 0), handle(info, 1), &capturing));
    return Napi::Boolean::New(info.Env(), capturing != 0);
  }

  Napi::Value TakeEvent(const Napi::CallbackInfo &info) {
    uint64_t event;
    check(info.Env(), EventPool::instance().take(int32(info, 0), &event));
    return fromHandle(info.Env(), event);
  }
  Napi::Value GiveEvent(const Napi::CallbackInfo &info) {
    EventPool::instance().give(int32(info, 0), handle(info, 1));
    return info.Env().Undefined();
  }
  Napi::Value RecordEvent(const Napi::CallbackInfo &info) {
    check(info.Env(), moe_a2a_event_record(int32(info, 0), handle(info, 1), handle(info, 2)));
    return info.Env().Undefined();
  }
  // An event that keeps the time, for benchmarks; recordEvent records it.
  Napi::Value CreateTimer(const Napi::CallbackInfo &info) {
    uint64_t event;
    check(info.Env(), moe_a2a_timer_create(int32(info, 0), &event));
    return fromHandle(info.Env(), event);
  }
  Napi::Value DestroyTimer(const Napi::CallbackInfo &info) {
    check(info.Env(), moe_a2a_event_destroy(int32(info, 0), handle(info, 1)));
    return info.Env().Undefined();
  }
  // Milliseconds between two timers that have passed.
  Napi::Value Elapsed(const Napi::CallbackInfo &info) {
    float milliseconds = 0;
    check(info.Env(), moe_a2a_event_elapsed(int32(info, 0), handle(info, 1), handle(info, 2), &milliseconds));
    return Napi::Number::New(info.Env(), milliseconds);
  }

  Napi::Value StreamWait(const Napi::CallbackInfo &info) {
    check(info.Env(), moe_a2a_event_wait(int32(info, 0), handle(info, 1), handle(info, 2)));
    return info.Env().Undefined();
  }
  Napi::Value WaitFor(const Napi::CallbackInfo &info) {
    return Napi::Number::New(info.Env(), waiter_.waitFor(int32(info, 0), handle(info, 1)));
  }
  Napi::Value Cancel(const Napi::CallbackInfo &info) {
    waiter_.cancel(uint32(info, 0));
    return info.Env().Undefined();
  }

  // Blocks the thread until the event has passed, at most so many microseconds; whether it has.
  Napi::Value PollEvent(const Napi::CallbackInfo &info) {
    const int32_t device = int32(info, 0);
    const uint64_t event = handle(info, 1);
    const auto limit = std::chrono::microseconds(integer(info, 2, 0, 1'000'000));
    const auto start = std::chrono::steady_clock::now();
    for (;;) {
      const int32_t result = moe_a2a_event_query(device, event);
      check(info.Env(), result);
      if (result != MOE_A2A_PENDING) return Napi::Boolean::New(info.Env(), true);
      const auto waited = std::chrono::steady_clock::now() - start;
      if (waited >= limit) return Napi::Boolean::New(info.Env(), false);
      if (waited > std::chrono::microseconds(200)) usleep(20);
    }
  }

  Napi::Value BeginCapture(const Napi::CallbackInfo &info) {
    check(info.Env(), moe_a2a_capture_begin(int32(info, 0), handle(info, 1)));
    return info.Env().Undefined();
  }
  Napi::Value EndCapture(const Napi::CallbackInfo &info) {
    uint64_t graph;
    check(info.Env(), moe_a2a_capture_end(int32(info, 0), handle(info, 1), &graph));
    return fromHandle(info.Env(), graph);
  }
  Napi::Value LaunchGraph(const Napi::CallbackInfo &info) {
    const auto times = static_cast<int32_t>(integer(info, 3, 1, INT32_MAX));
    check(info.Env(), moe_a2a_graph_launch(int32(info, 0), handle(info, 1), handle(info, 2), times));
    return info.Env().Undefined();
  }
  // On a thread of its own: a launch waits where the device's queue is full.
  Napi::Value LaunchGraphSlowly(const Napi::CallbackInfo &info) {
    const int32_t device = int32(info, 0);
    const uint64_t graph = handle(info, 1), stream = handle(info, 2);
    const auto times = static_cast<int32_t>(integer(info, 3, 1, INT32_MAX));
    return Napi::Number::New(info.Env(), waiter_.run([=] { return moe_a2a_graph_launch(device, graph, stream, times); }));
  }
  Napi::Value DestroyGraph(const Napi::CallbackInfo &info) {
    check(info.Env(), moe_a2a_graph_destroy(int32(info, 0), handle(info, 1)));
    return info.Env().Undefined();
  }

  Napi::Env env_;
  Waiter waiter_;
  bool left_ = false;
  uint32_t nextRank_ = 1;
  std::unordered_map<uint32_t, std::unique_ptr<Rank>> ranks_;
  std::unordered_set<uint64_t> tensors_;
  std::unordered_map<uint32_t, Copy> downloads_;
  std::unique_ptr<moe_a2a_phase_outcome> outcome_;
};

NODE_API_NAMED_ADDON(moe_a2a, Addon)

}  // namespace moe_a2a_addon
