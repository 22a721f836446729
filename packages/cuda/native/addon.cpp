// The addon itself: its functions by name, and what happens when its thread ends.
#include "addon.hpp"

#include <cstdlib>
#include <mutex>

namespace moe_a2a_addon {

namespace {

// Ranks that share a GPU must not share its hardware queues: a kernel that waits for a peer would hold up that peer.
// Read when the driver starts, so before anything else.
void claimHardwareQueues() {
  static std::once_flag once;
  std::call_once(once, [] { setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0); });
}

}  // namespace

moe_a2a_config readConfig(const Napi::CallbackInfo &info, size_t index) {
  const int32_t *v = int32Array(info, index, 10).data;
  return {sizeof(moe_a2a_config), v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], v[9]};
}

Addon::Addon(Napi::Env env, Napi::Object exports) : env_(env), waiter_(env) {
  claimHardwareQueues();
  DefineAddon(exports, {
                           InstanceValue("packageVersion", Napi::String::New(env, MOE_A2A_PACKAGE_VERSION)),
                           InstanceValue("interfaceVersion", Napi::Number::New(env, MOE_A2A_VERSION)),
                           InstanceMethod("listen", &Addon::Listen),
                           InstanceMethod("platform", &Addon::Platform),
                           InstanceMethod("device", &Addon::Device),
                           InstanceMethod("inspect", &Addon::Inspect),
                           InstanceMethod("inspected", &Addon::Inspected),
                           InstanceMethod("memory", &Addon::Memory),
                           InstanceMethod("canAccessPeer", &Addon::CanAccessPeer),
                           InstanceMethod("plan", &Addon::Plan),
                           InstanceMethod("chooseMapping", &Addon::ChooseMapping),
                           InstanceMethod("lastError", &Addon::LastError),
                           InstanceMethod("makeRank", &Addon::MakeRank),
                           InstanceMethod("openRank", &Addon::OpenRank),
                           InstanceMethod("connectRank", &Addon::ConnectRank),
                           InstanceMethod("closeRank", &Addon::CloseRank),
                           InstanceMethod("openShare", &Addon::OpenShare),
                           InstanceMethod("shareWindows", &Addon::ShareWindows),
                           InstanceMethod("lookForPeers", &Addon::LookForPeers),
                           InstanceMethod("stopShare", &Addon::StopShare),
                           InstanceMethod("sharedWindows", &Addon::SharedWindows),
                           InstanceMethod("addresses", &Addon::Addresses),
                           InstanceMethod("bindLane", &Addon::BindLane),
                           InstanceMethod("dispatch", &Addon::Dispatch),
                           InstanceMethod("combine", &Addon::Combine),
                           InstanceMethod("outcome", &Addon::Outcome),
                           InstanceMethod("hasFailed", &Addon::HasFailed),
                           InstanceMethod("abort", &Addon::Abort),
                           InstanceMethod("stop", &Addon::Stop),
                           InstanceMethod("markGone", &Addon::MarkGone),
                           InstanceMethod("replay", &Addon::Replay),
                           InstanceMethod("replaySlowly", &Addon::ReplaySlowly),
                           InstanceMethod("isLaunching", &Addon::IsLaunching),
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
                           InstanceMethod("ipcAllocate", &Addon::IpcAllocate),
                           InstanceMethod("ipcExport", &Addon::IpcExport),
                           InstanceMethod("ipcOpen", &Addon::IpcOpen),
                           InstanceMethod("ipcClose", &Addon::IpcClose),
                           InstanceMethod("ipcMemory", &Addon::IpcMemoryOf),
                           InstanceMethod("createStream", &Addon::CreateStream),
                           InstanceMethod("destroyStream", &Addon::DestroyStream),
                           InstanceMethod("sharedStream", &Addon::SharedStream),
                           InstanceMethod("isCapturing", &Addon::IsCapturing),
                           InstanceMethod("takeEvent", &Addon::TakeEvent),
                           InstanceMethod("giveEvent", &Addon::GiveEvent),
                           InstanceMethod("heldHandles", &Addon::HeldHandles),
                           InstanceMethod("recordEvent", &Addon::RecordEvent),
                           InstanceMethod("createTimer", &Addon::CreateTimer),
                           InstanceMethod("destroyTimer", &Addon::DestroyTimer),
                           InstanceMethod("heldTimers", &Addon::HeldTimers),
                           InstanceMethod("elapsed", &Addon::Elapsed),
                           InstanceMethod("streamWait", &Addon::StreamWait),
                           InstanceMethod("waitFor", &Addon::WaitFor),
                           InstanceMethod("cancel", &Addon::Cancel),
                           InstanceMethod("pollEvent", &Addon::PollEvent),
                           InstanceMethod("beginCapture", &Addon::BeginCapture),
                           InstanceMethod("endCapture", &Addon::EndCapture),
                           InstanceMethod("destroyGraph", &Addon::DestroyGraph),
                       });
  // Before the threadsafe function's own hook, as hooks run in reverse order.
  napi_add_env_cleanup_hook(env, &Addon::OnEnvironmentEnds, this);
}

void Addon::OnEnvironmentEnds(void *self) { static_cast<Addon *>(self)->Leave(); }

// The thread ends, perhaps in the middle of rounds: its kernels end, and memory that peers may use stays.
void Addon::Leave() {
  if (left_) return;
  left_ = true;
  for (auto &[id, rank] : ranks_) {
    rank->stopShare();
    rank->stopsReplays = true;
    if (!rank->busy && rank->handle() != nullptr) moe_a2a_stop(rank->handle(), 1);
  }
  waiter_.shutDown();
  // Streams go with their ranks.
  for (const auto &[stream, device] : captures_) {
    uint64_t graph;
    if (moe_a2a_capture_end(device, stream, &graph) == MOE_A2A_OK) graphs_.emplace(graph, device);
  }
  captures_.clear();
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
  for (const auto &[timer, device] : timers_) EventPool::timers().give(device, timer);
  timers_.clear();
  for (const auto &[event, device] : events_) EventPool::instance().give(device, event);
  events_.clear();
  for (const auto &[graph, device] : graphs_) moe_a2a_graph_destroy(device, graph);
  graphs_.clear();
}

Rank &Addon::rankOf(const Napi::CallbackInfo &info) {
  const auto found = ranks_.find(uint32(info, 0));
  if (found == ranks_.end()) throw Napi::Error::New(info.Env(), "there is no such rank");
  return *found->second;
}

Rank &Addon::openRankOf(const Napi::CallbackInfo &info) {
  Rank &rank = rankOf(info);
  if (!rank.isOpen()) throw Napi::Error::New(info.Env(), "the rank is not open, or busy");
  return rank;
}

int Addon::laneOf(const Napi::CallbackInfo &info, size_t index, const Rank &rank) {
  return static_cast<int>(integer(info, index, 0, rank.config.rounds_in_flight - 1));
}

// Runs a task that has the rank to itself.
Napi::Value Addon::Occupy(Rank &rank, std::function<TaskResult()> task) {
  rank.busy = true;
  return Napi::Number::New(env_, waiter_.run(std::move(task), [&rank] {
    rank.busy = false;
    giveDeferred(rank);
  }));
}

void Addon::giveDeferred(Rank &rank) {
  for (const uint64_t address : rank.deferred) {
    if (rank.isOpen()) rank.release(address);
    else DevicePool::instance().give(address);
  }
  rank.deferred.clear();
}

Napi::Value Addon::Listen(const Napi::CallbackInfo &info) {
  if (!info[0].IsFunction()) typeError(info.Env(), 0, "a function");
  waiter_.listen(info[0].As<Napi::Function>());
  return info.Env().Undefined();
}

Napi::Value Addon::LastError(const Napi::CallbackInfo &info) {
  return toException(info.Env(), lastError(MOE_A2A_INVALID)).Value();
}

NODE_API_NAMED_ADDON(moe_a2a, Addon)

}  // namespace moe_a2a_addon
