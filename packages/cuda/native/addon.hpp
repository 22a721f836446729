// The addon's functions. They are private to @moe-a2a/cuda, whose src/native.ts says what each one takes.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>
#include <unordered_map>
#include <unordered_set>

#include "arguments.hpp"
#include "inspection.hpp"
#include "ipc_memory.hpp"
#include "moe_a2a.h"
#include "process_memory.hpp"
#include "rank.hpp"
#include "waiter.hpp"

namespace moe_a2a_addon {

// A config as ten numbers, in the order of the header.
moe_a2a_config readConfig(const Napi::CallbackInfo &info, size_t index);

class Addon : public Napi::Addon<Addon> {
 public:
  Addon(Napi::Env env, Napi::Object exports);
  ~Addon() { Leave(); }

 private:
  struct Copy {
    int32_t device;
    uint64_t bytes;
    void *staged;
    uint64_t event;
    // Of the rank's copy queues; 0 where it waits for nothing.
    uint64_t queue;
  };

  static void OnEnvironmentEnds(void *self);
  void Leave();
  Rank &rankOf(const Napi::CallbackInfo &info);
  Rank &openRankOf(const Napi::CallbackInfo &info);
  int laneOf(const Napi::CallbackInfo &info, size_t index, const Rank &rank);
  Napi::Value Occupy(Rank &rank, std::function<TaskResult()> task);
  static void giveDeferred(Rank &rank);
  Napi::Value Listen(const Napi::CallbackInfo &info);
  Napi::Value LastError(const Napi::CallbackInfo &info);

  // What there is: platform, devices, plans.
  Napi::Value Platform(const Napi::CallbackInfo &info);
  Napi::Value Device(const Napi::CallbackInfo &info);
  static Napi::Object describe(Napi::Env env, const moe_a2a_device_info &device);
  Napi::Value Inspect(const Napi::CallbackInfo &info);
  Napi::Value Inspected(const Napi::CallbackInfo &info);
  Napi::Value Memory(const Napi::CallbackInfo &info);
  Napi::Value CanAccessPeer(const Napi::CallbackInfo &info);
  Napi::Value Plan(const Napi::CallbackInfo &info);
  Napi::Value ChooseMapping(const Napi::CallbackInfo &info);
  Napi::Value PointerDevice(const Napi::CallbackInfo &info);

  // Ranks: made, opened, connected, closed.
  Napi::Value MakeRank(const Napi::CallbackInfo &info);
  Napi::Value OpenRank(const Napi::CallbackInfo &info);
  Napi::Value ConnectRank(const Napi::CallbackInfo &info);
  Napi::Value CloseRank(const Napi::CallbackInfo &info);
  Napi::Value Addresses(const Napi::CallbackInfo &info);
  Napi::Value BindLane(const Napi::CallbackInfo &info);
  Napi::Value SetDelays(const Napi::CallbackInfo &info);

  // Windows of ranks in other processes.
  Napi::Value OpenShare(const Napi::CallbackInfo &info);
  Napi::Value ShareWindows(const Napi::CallbackInfo &info);
  Napi::Value LookForPeers(const Napi::CallbackInfo &info);
  Napi::Value StopShare(const Napi::CallbackInfo &info);
  Napi::Value SharedWindows(const Napi::CallbackInfo &info);

  // Phases of a rank, what became of them, and how it starts anew.
  Napi::Value Dispatch(const Napi::CallbackInfo &info);
  Napi::Value Combine(const Napi::CallbackInfo &info);
  Napi::Value Outcome(const Napi::CallbackInfo &info);
  static Napi::Object describe(Napi::Env env, const moe_a2a_failure &failure);
  Napi::Value HasFailed(const Napi::CallbackInfo &info);
  Napi::Value Abort(const Napi::CallbackInfo &info);
  Napi::Value Stop(const Napi::CallbackInfo &info);
  Napi::Value MarkGone(const Napi::CallbackInfo &info);
  Napi::Value Replay(const Napi::CallbackInfo &info);
  Napi::Value ReplaySlowly(const Napi::CallbackInfo &info);
  Napi::Value IsLaunching(const Napi::CallbackInfo &info);
  Napi::Value Drain(const Napi::CallbackInfo &info);
  Napi::Value Clean(const Napi::CallbackInfo &info);
  Napi::Value RaiseGeneration(const Napi::CallbackInfo &info);
  Napi::Value TellFailedReset(const Napi::CallbackInfo &info);
  Napi::Value StartGeneration(const Napi::CallbackInfo &info);

  // Tensors, and copies between them and the host.
  Napi::Value Allocate(const Napi::CallbackInfo &info);
  Napi::Value Release(const Napi::CallbackInfo &info);
  Napi::Value HeldBytes(const Napi::CallbackInfo &info);
  uint32_t Enqueue(const Napi::CallbackInfo &info, bool toDevice, Copy &copy);
  Napi::Value Upload(const Napi::CallbackInfo &info);
  Napi::Value Download(const Napi::CallbackInfo &info);
  Napi::Value Collect(const Napi::CallbackInfo &info);

  // Memory that processes share by CUDA IPC.
  Napi::Value RunIpc(std::function<TaskResult(IpcMemory &)> task);
  Napi::Value IpcAllocate(const Napi::CallbackInfo &info);
  Napi::Value IpcExport(const Napi::CallbackInfo &info);
  Napi::Value IpcOpen(const Napi::CallbackInfo &info);
  Napi::Value IpcClose(const Napi::CallbackInfo &info);
  Napi::Value IpcMemoryOf(const Napi::CallbackInfo &info);

  // Streams, events, waiting and graphs.
  Napi::Value CreateStream(const Napi::CallbackInfo &info);
  Napi::Value SharedStream(const Napi::CallbackInfo &info);
  Napi::Value DestroyStream(const Napi::CallbackInfo &info);
  Napi::Value IsCapturing(const Napi::CallbackInfo &info);
  Napi::Value TakeEvent(const Napi::CallbackInfo &info);
  Napi::Value GiveEvent(const Napi::CallbackInfo &info);
  Napi::Value HeldHandles(const Napi::CallbackInfo &info);
  Napi::Value RecordEvent(const Napi::CallbackInfo &info);
  Napi::Value CreateTimer(const Napi::CallbackInfo &info);
  Napi::Value DestroyTimer(const Napi::CallbackInfo &info);
  Napi::Value HeldTimers(const Napi::CallbackInfo &info);
  Napi::Value Elapsed(const Napi::CallbackInfo &info);
  Napi::Value StreamWait(const Napi::CallbackInfo &info);
  Napi::Value WaitFor(const Napi::CallbackInfo &info);
  Napi::Value Cancel(const Napi::CallbackInfo &info);
  Napi::Value PollEvent(const Napi::CallbackInfo &info);
  Napi::Value BeginCapture(const Napi::CallbackInfo &info);
  Napi::Value EndCapture(const Napi::CallbackInfo &info);
  Napi::Value DestroyGraph(const Napi::CallbackInfo &info);

  Napi::Env env_;
  Waiter waiter_;
  bool left_ = false;
  uint32_t nextRank_ = 1;
  std::unordered_map<uint32_t, std::unique_ptr<Rank>> ranks_;
  std::unordered_set<uint64_t> tensors_;
  // By handle, its device: what is not given back yet. Captures by their stream.
  std::unordered_map<uint64_t, int32_t> timers_;
  std::unordered_map<uint64_t, int32_t> events_;
  std::unordered_map<uint64_t, int32_t> captures_;
  std::unordered_map<uint64_t, int32_t> graphs_;
  // Streams on which other threads enqueue replays.
  std::unordered_multiset<uint64_t> launching_;
  std::unordered_map<uint32_t, Copy> downloads_;
  // By token.
  std::unordered_map<uint32_t, std::shared_ptr<IpcMemory>> ipc_;
  std::unique_ptr<moe_a2a_phase_outcome> outcome_;
  // One at a time.
  std::shared_ptr<Inspection> inspection_;
  bool inspecting_ = false;
};

}  // namespace moe_a2a_addon
